"""Trial: somebody tries whether alerts arrive where this process sends them."""

from stepstream.bus.errors import BusError, Conflict
from stepstream.bus.settings import Settings
from stepstream.consumers.alerts.message import trial
from stepstream.consumers.alerts.sending import send


class NowhereToSend(Conflict):
    """This process does not know where alerts are sent."""

    code = "no_alert_destination"


class AlertNotSent(BusError):
    """An alert could not be sent; the message says what was answered, without secrets."""

    code = "alert_not_sent"
    status = 502


async def try_out(configured: Settings, by: str) -> str:
    """Send an alert by which nothing is wrong; return what was answered. NowhereToSend, AlertNotSent."""
    if not configured.has_alerts:
        raise NowhereToSend("there is nowhere to send to: set BUS_ALERT_WEBHOOK or BUS_ALERT_COMMAND for this process")
    outcome = await send(configured, trial(by, configured))
    if not outcome.ok:
        raise AlertNotSent(outcome.words)
    return outcome.words
