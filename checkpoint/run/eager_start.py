"""Eager start: start the run of the event that a blocked read will bring, by a script sent right behind that read.

The run of an event then starts in the round trip that brings the event (docs/decisions/0008). What has no answer here
is asked of `start`, as ever.
"""

from stepstream.bus.errors import BusError, ScriptMissing
from stepstream.bus.function import Function
from stepstream.bus.process.failpoints import reached
from stepstream.bus.process.tasks import retrieved
from stepstream.bus.values.ids import FIRST, entry_ms, owner_letters, token
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.start import StartReply, StartRequest

_START_EAGERLY = script(__file__, "run_start_eagerly")


class EagerStart:
    """A start that was sent, for an event of a name, to be run by a consumer."""

    def __init__(self, wire: Wire, pipe: Pipe, function: Function, name: str, consumer: str, newest: str) -> None:
        """Send it; `newest` is the newest entry that was read before."""
        self._wire = wire
        self._name = name
        self._consumer = consumer
        self._fence = token()
        self._sent = pipe.call(
            "EVALSHA", _START_EAGERLY.sha, 3,
            keys.function(function.slug, FIRST), keys.events(name), keys.events_workers(name),
            wire.now, function.slug, consumer, newest, name, self._fence, function.code,
            owner_letters(function.slug),
        )  # fmt: skip
        self._sent.add_done_callback(retrieved)  # a read that brings nothing leaves it unasked for

    async def run_of(self, entry: str) -> tuple[StartRequest, StartReply] | None:
        """Return the run of an entry and what start answers of it; None: start is still to be asked."""
        try:
            answer = await self._sent
        except ScriptMissing:  # the server was told to forget its scripts
            self._wire.load_script(_START_EAGERLY)
            return None
        except BusError:
            return None
        if not answer or answer[0].decode() != entry:
            return None
        reached("start.replied")
        run, event, now = answer[1].decode(), answer[2], int(answer[3])
        named, ms = f"event|{self._name}|{entry}", entry_ms(entry)
        return StartRequest(run, 1, named, "", self._consumer, self._fence, event, "event", ms), StartReply(
            "go", now=now
        )
