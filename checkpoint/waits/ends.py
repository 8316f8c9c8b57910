"""Ends: how a run ended, for its caller, its function's on_failure, and subscribers."""

import msgspec
from msgspec import Raw

from stepstream.bus.ends import CANCELLED, FAILED, FINISHED
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure

LISTENED = {FAILED: "failed", FINISHED: "completed failed cancelled", CANCELLED: "cancelled"}
"""The event names that functions may subscribe to, and the statuses each is for."""


class _Named(msgspec.Struct):
    """The name of a run's event; nothing else of it is decoded."""

    name: str = ""


class Ended(msgspec.Struct):
    """A run that has ended; `parent` is empty or `<slug>|<run>|<step>`."""

    slug: str
    run: str
    status: str
    event: Raw
    output: Raw | None
    error: Failure | None
    parent: str
    ended: int

    def told(self, name: str) -> RawEvent:
        """Return the event about this end; its id is the run's, so it is stored once."""
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
        return RawEvent(id=self.run, name=name, data=Raw(codec.encode(data)), ts=self.ended)

    def made_by_an_end(self) -> bool:
        """Whether the run was itself started by another run's end. No event is sent about it: that would never stop."""
        try:
            return codec.decode_as(self.event, _Named).name in LISTENED
        except msgspec.MsgspecError:  # added by hand
            return False


async def load_end(wire: Wire, slug: str, run: str) -> Ended | None:
    """Return how a run ended; None when it is no longer stored."""
    names = ("status", "event", "output", "error", "parent", "ended")
    status, event, output, error, parent, ended = await wire.load("HMGET", keys.run(slug, run), *names)
    if status is None:
        return None
    return Ended(
        slug=slug,
        run=run,
        status=status.decode(),
        event=Raw(event or b"null"),
        output=Raw(output) if output is not None else None,
        error=codec.decode_as(error, Failure) if error else None,
        parent=(parent or b"").decode(),
        ended=int(ended or 0),
    )
