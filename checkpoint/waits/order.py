"""Order: which runs had begun when an event was stored? Only those it may answer or cancel, whenever that is found out.

A run begins where the event that made it was stored, the first of them for a debounce or a batch; one without an event,
where it was asked for. Times are those of stream entries, the server's ms. Within one millisecond entries of one stream
have an order; those of two streams have none, and count as stored behind each other.

Entries never go back: while the server's clock is behind the last one of their stream, because it was set back, new
ones take that one's time. So a time later than the clock tells nothing; whoever asks then, asks in time.
"""

from collections.abc import Iterable

from stepstream.bus.values.ids import entry_ms, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire

_OF_ONE_MS = 1_000


async def added_at(wire: Wire, entry: str, deadlines: Iterable[int]) -> int:
    """Return when an entry that was just read was added, ms, to be held against deadlines; 0 when that is not known."""
    ms = entry_ms(entry)
    if all(ms <= deadline for deadline in deadlines):
        return ms  # in time for all of them, whatever the clock says
    return ms if ms <= await wire.moment() else 0


async def begun_before(wire: Wire, name: str, entry: str, runs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of runs (each slug and run) that had begun when an entry of an event's stream was added to it.

    Those that the event itself made, or is part of, are not among them.
    """
    ms = entry_ms(entry)
    times = {(slug, run): ulid_ms(run) or 0 for slug, run in runs}
    now = await wire.moment() if any(time > ms for time in times.values()) else ms
    begun = {one for one, time in times.items() if time <= ms or time > now}
    if not begun:
        return begun
    slugs, behind = sorted({slug for slug, _ in begun}), [entry]
    if any(ulid_ms(run) == ms for _, run in begun):
        rows = await wire.load("XRANGE", keys.events(name), f"({entry}", ms, "COUNT", _OF_ONE_MS)
        behind += [other.decode() for other, _ in rows]
    made = {(slug, run_id(slug, "event", f"{name}|{other}", ms)) for slug in slugs for other in behind}
    own = [(slug, run_id(slug, "event", f"{name}|{entry}", ms)) for slug in slugs]
    parts_of = await patiently(lambda: wire.loads(*(("HGET", keys.run(slug, run), "by") for slug, run in own)))
    made |= {(slug, by.decode()) for slug, by in zip(slugs, parts_of, strict=True) if by}
    return begun - made
