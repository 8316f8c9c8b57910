"""Order: had a run begun when an event was stored? Only then may the event resume or cancel it, whenever it is found.

A run begins where its event was stored (the first event, for a debounce or a batch); a run without an event begins
where it was requested. Times are those of stream entries, in the server's ms. Within one millisecond the entries of one
stream have an order; entries of two streams have none, and each counts as stored after the other.

Entry ids never go back: after the server's clock was set back, new entries take the time of their stream's last one
until the clock has caught up. So an entry time later than the clock proves nothing, and the event counts as in time.
"""

from collections.abc import Iterable

from stepstream.bus.values.ids import entry_ms, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Record, read

_OF_ONE_MS = 1_000


async def added_at(wire: Wire, entry: str, deadlines: Iterable[int]) -> int:
    """Return when an entry that was just read was added, ms, for comparison with deadlines; 0 when that is unknown."""
    ms = entry_ms(entry)
    if all(ms <= deadline for deadline in deadlines):
        return ms  # in time for all deadlines, whatever the clock says
    return ms if ms <= await wire.moment() else 0


class _Part(Record):
    """The run that a run is part of, when its event was debounced or batched."""

    by: str = ""


async def begun_before(wire: Wire, name: str, entry: str, runs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of `runs` (slug, run) that had begun when an entry was added to an event's stream.

    Runs that the event itself started, or is part of (a debounce, a batch), are not among them.
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
    parts = await patiently(lambda: read(wire, _Part, own))
    made |= {(part.function, part.by) for part in parts if part and part.by}
    return begun - made
