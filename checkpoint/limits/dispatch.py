"""Dispatch: give the best waiting runs their places, and deliver them to the caller in the same script."""

from functools import partial

import msgspec

from stepstream.bus.function import Function
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values.ids import FIRST, token
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import Fields, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.start import StartReply, StartRequest

_DISPATCH = script(__file__, "runs_dispatch")


class Dispatched(msgspec.Struct):
    """How many runs got places, the queue entries read (theirs and others that are due), ms until a throttle opens."""

    taken: int
    entries: list[tuple[str, Fields]]
    next_ms: int | None
    started: dict[str, tuple[StartRequest, StartReply]]
    """By entry: new runs, which were started in the same script."""


async def dispatch(wire: Wire, function: Function, consumer: str, most: int, over: str = "") -> Dispatched:
    """Take up to `most` runs, the best first, that can have their places now; `over` is what overrides.py says."""
    throttle, limits = function.flow.throttle, [one.limit for one in function.flow.concurrency]
    first, second = [*limits, "", ""][:2]
    is_shared = any(one.shared for one in function.flow.concurrency)
    starts = not (is_shared or function.timeouts.start_ms or function.timeouts.finish_ms)
    fences = [token() for _ in range(most)] if starts else []
    taken, rows, soonest, started, now = await wire.script(
        _DISPATCH,
        [keys.function(function.slug, FIRST)],
        function.slug,
        consumer,
        most,
        throttle.gap_ms if throttle else 0,
        throttle.more if throttle else 0,
        first,
        second,
        over,
        *fences,
    )
    if taken:
        reached("pop.replied")
    entries = [(entry.decode(), fields_of(flat or ())) for entry, flat in rows]
    return Dispatched(
        int(taken),
        entries,
        int(soonest) if int(soonest) >= 0 else None,
        dict(map(partial(_started, consumer, int(now)), started)),
    )


def _started(consumer: str, now: int, row: list[bytes]) -> tuple[str, tuple[StartRequest, StartReply]]:
    entry, run, fence, event, queued, source, turn = row
    asked = StartRequest(
        run=run.decode(),
        turn=int(turn),
        entry=f"queue|{entry.decode()}",
        owner="",
        consumer=consumer,
        fence=fence.decode(),
        event=event,
        source=source.decode(),
        queued=int(queued),
    )
    return entry.decode(), (asked, StartReply("go", int(turn), now))
