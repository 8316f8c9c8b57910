"""Pop: the best of the runs that wait for a place get theirs, and are read by the caller in the same act."""

import msgspec

from bus.function import Function
from bus.wire import keys
from bus.wire.streams import Fields, fields_of
from bus.wire.wire import Wire


class Popped(msgspec.Struct):
    """How many got places, the queue entries read (theirs, and what else was due), ms until a throttle goes on."""

    taken: int
    entries: list[tuple[str, Fields]]
    next_ms: int | None


async def pop(wire: Wire, function: Function, consumer: str, most: int) -> Popped:
    """Take the best `most` that may have their places now."""
    throttle, limits = function.flow.throttle, [one.limit for one in function.flow.concurrency]
    first, second = [*limits, "", ""][:2]
    taken, rows, soonest = await wire.script(
        "runs_pop",
        [keys.function(function.slug)],
        function.slug,
        consumer,
        most,
        throttle.gap_ms if throttle else 0,
        throttle.more if throttle else 0,
        first,
        second,
    )
    entries = [(entry.decode(), fields_of(flat or ())) for entry, flat in rows]
    return Popped(int(taken), entries, int(soonest) if int(soonest) >= 0 else None)
