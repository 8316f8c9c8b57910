"""Events that the bus makes itself, as SDKs know them: their names, and what is in them."""

from typing import Final

from stepstream.bus.event import RawEvent
from stepstream.bus.system_events import CANCELLED, FAILED, FINISHED, INVOKED
from stepstream.checkpoint.apps import App
from stepstream.producers.cron import TICK

_STORED: Final = {
    "inngest/function.failed": FAILED,
    "inngest/function.finished": FINISHED,
    "inngest/function.cancelled": CANCELLED,
    "inngest/function.invoked": INVOKED,
    "inngest/scheduled.timer": TICK,
}
_SHOWN: Final = {ours: theirs for theirs, ours in _STORED.items()}


def stored_name(name: str) -> str:
    """Return the name that an event has in the store: theirs, unless the bus itself makes it."""
    return _STORED.get(name, name)


def shown_name(name: str) -> str:
    """Return the name by which an SDK knows an event."""
    return _SHOWN.get(name, name)


def shown(event: RawEvent, app: App) -> RawEvent:  # noqa: ARG001
    """Return an event as an SDK knows it."""
    return RawEvent(shown_of(event.id), shown_name(event.name), event.data, event.ts, event.v, event.batch)


def shown_of(id: str) -> str:
    """Return the id of an event as an SDK knows it."""
    return id
