"""The page of alerts: each rule with its threshold, what fires, how sending went, and a button that tries it."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.alerts.kept import reset_threshold, set_threshold
from stepstream.checkpoint.at_work.redis_cli import of_alerts
from stepstream.consumers.alerts.told import AlertsTold, alerts_told
from stepstream.consumers.alerts.trial import AlertNotSent, NowhereToSend, try_out
from stepstream.web.live.feed import ALL
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page, read_again, show
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.principal import principal_of

SHOWN = 20
"""How many alerts are shown of a rule."""


class Alerts(View, frozen=True):
    """The page `/alerts`; `answered` is what came of trying, and `arrived` whether that was right."""

    told: AlertsTold
    shown: int = SHOWN
    answered: str = ""
    arrived: bool = False


async def _read(request: Request) -> Alerts:
    return await _alerts(wire_of(request))


async def _alerts(wire: Wire, answered: str = "", *, arrived: bool = False) -> Alerts:
    return Alerts(
        told=await alerts_told(wire), answered=answered, arrived=arrived, looks=tuple(of_alerts()),
        topic="" if answered else ALL.text,
    )  # fmt: skip


async def _test(request: Request) -> Response:
    await received(request)
    wire = wire_of(request)
    try:
        answered, arrived = await try_out(wire.settings, principal_of(request).name), True
    except (NowhereToSend, AlertNotSent) as error:
        acts_on(request, str(error))
        answered, arrived = str(error), False
    view = await read_again(request, _alerts(wire, answered, arrived=arrived))
    return show(request, "alerts.html", 200 if arrived else 502, page=view, section="system")


async def _set(request: Request) -> Response:
    fields = await received(request)
    text, name = fields.get("threshold", "").strip(), _name(request, fields)
    acts_on(request, fields.get("function", ""), text)
    await set_threshold(wire_of(request), name, text)
    return RedirectResponse(link(request, "alerts"), 303)


def _name(request: Request, fields: dict[str, str]) -> str:
    """Return what a form is about: a rule, or a rule for a function."""
    rule, function = request.path_params["rule"], fields.get("function", "").strip()
    return f"{rule}:{function}" if function else rule


async def _reset(request: Request) -> Response:
    fields = await received(request)
    acts_on(request, fields.get("function", ""))
    await reset_threshold(wire_of(request), _name(request, fields))
    return RedirectResponse(link(request, "alerts"), 303)


routes = [
    page("/alerts", "alerts", _read, section="system"),
    NeedsRoute("POST", "/alerts/test", _test, needs="operate", name="test_alerts"),
    NeedsRoute("POST", "/alerts/rules/{rule}/set", _set, needs="operate", name="set_alert_rule"),
    NeedsRoute("POST", "/alerts/rules/{rule}/reset", _reset, needs="operate", name="reset_alert_rule"),
]
