"""Ends: how a run ended, for its caller, its function's on_failure, and subscribers."""

import msgspec
from msgspec import Raw

from stepstream.bus.event import RawEvent
from stepstream.bus.system_events import CANCELLED, FAILED, FINISHED
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Record, read

LISTENED = {FAILED: "failed", FINISHED: "completed failed cancelled", CANCELLED: "cancelled"}
"""The event names that functions may subscribe to, and the statuses each is for."""


class _Named(msgspec.Struct):
    """The name of a run's event; nothing else of it is decoded."""

    name: str = ""


class EndOfRun(msgspec.Struct):
    """A run that has ended; `parent` is empty or `<slug>|<run>|<step>`."""

    slug: str
    run: str
    status: str
    event: Raw
    output: Raw | None
    error: Failure | None
    parent: str
    ended: int

    def told(self, name: str, trace: str | None = None) -> RawEvent:
        """Return the event about this end, in a trace; its id is the run's, so it is stored once."""
        data: dict[str, object] = {
            "function_id": self.slug,
            "run_id": self.run,
            "status": self.status,
            "event": self.event,
        }
        if self.error is not None:
            data["error"] = self.error
        elif self.output is not None:
            data["result"] = self.output
        return RawEvent(id=self.run, name=name, data=Raw(codec.encode(data)), ts=self.ended, trace=trace)

    def began(self) -> RawEvent:
        """Return the event that began the run; one that was added by hand may have nothing."""
        try:
            return codec.decode_as(self.event, RawEvent)
        except msgspec.MsgspecError:
            return RawEvent("", "", Raw(b"{}"), 0)

    def made_by_an_end(self) -> bool:
        """Whether the run was itself started by another run's end. No event is sent about it: that would never stop."""
        try:
            return codec.decode_as(self.event, _Named).name in LISTENED
        except msgspec.MsgspecError:  # added by hand
            return False


class _Stored(Record):
    """What is read of its hash; payloads as they are, for they are handed on."""

    status: str = ""
    event: bytes = b"null"
    output: bytes | None = None
    error: Failure | None = None
    parent: str = ""
    ended: int = 0


async def load_end(wire: Wire, slug: str, run: str) -> EndOfRun | None:
    """Return how a run ended; None when it is no longer stored."""
    [found] = await patiently(lambda: read(wire, _Stored, [(slug, run)]))
    if found is None or not found.status:
        return None
    output = Raw(found.output) if found.output is not None else None
    return EndOfRun(slug, run, found.status, Raw(found.event), output, found.error, found.parent, found.ended)
