"""Unstarted: the runs of a function that no worker has begun, in the order in which they move, to be cancelled.

Entries of the event's streams that nobody has read, those that are in hand, then the queue. Who goes through these
before the runs that have begun misses none that moves meanwhile (docs/decisions/0133).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.process.turns import Turns
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, partitions, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import event_of, fields_of, groups_of, stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import AT_ONCE, cancel_of
from stepstream.checkpoint.read.lists.event_names import MOST_NAMES
from stepstream.checkpoint.read.run.find import yet_to_begin
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.run.record import Record, Run, read


class Sought(NamedTuple):
    """Which runs are cancelled, and what they are told. Times are server ms."""

    function: str
    """Its slug."""
    after: int
    before: int
    why: str
    is_about: Callable[[Run], bool]
    """Whether it is about a run, of which its id, event and source are known."""


class Page(NamedTuple):
    """What one step has come to: where it goes on in the same source (empty: it is at its end), and what it counted."""

    place: str
    looked_at: int
    matched: int
    cancelled: int


async def sources(wire: Wire, slug: str) -> list[str]:
    """Return what is gone through, in the order in which runs move; nothing when there is no such function."""
    known = await functions(wire, [slug])
    if not known:
        return []
    names = {name for name in known[0].events if not name.endswith("*")}
    patterns = [name for name in known[0].events if name.endswith("*")]
    if patterns:
        published = await wire.load("ZREVRANGE", keys.event_names(), 0, MOST_NAMES - 1)
        names |= {one for one in map(codec.text, published) if any(covers(pattern, one) for pattern in patterns)}
    kinds = [f"{kind} {name}" for kind in ("new", "pending") for name in names]
    return sorted([*kinds, *(f"queue {where}" for where in partitions(slug))], key=rank)


def rank(source: str) -> tuple[int, str]:
    """Return the place of a source among the others: what they are ordered by."""
    kind, _, rest = source.partition(" ")
    return list(_GO_THROUGH).index(kind), rest


async def cancel_page(wire: Wire, sought: Sought, source: str, place: str) -> Page:
    """Cancel what is sought of a page of a source, from a place on."""
    kind, _, name = source.partition(" ")
    return await _GO_THROUGH[kind](wire, sought, name, place)


async def _new(wire: Wire, at: Sought, name: str, place: str) -> Page:
    """Go through the entries of an event's stream that have not been delivered."""
    start = f"({place}" if place else (f"({await _delivered(wire, at, name)}")
    if entry_ms(start[1:]) < at.after:
        start = str(at.after)
    rows = await wire.load("XRANGE", keys.events(name), start, at.before, "COUNT", AT_ONCE)
    entries = [row[0].decode() for row in rows]
    return await _entries(wire, at, name, entries, {row[0].decode(): row[1] for row in rows})


async def _delivered(wire: Wire, at: Sought, name: str) -> str:
    group = (await groups_of(wire, keys.events(name))).get(at.function)
    return group.delivered if group is not None else "0-0"


async def _pending(wire: Wire, at: Sought, name: str, place: str) -> Page:
    """Go through the entries that are in some worker's hand."""
    if at.function not in await groups_of(wire, keys.events(name)):
        return Page("", 0, 0, 0)
    start = f"({place}" if place else str(at.after)
    rows = await wire.load("XPENDING", keys.events(name), at.function, start, at.before, AT_ONCE)
    entries = [row[0].decode() for row in rows]
    found = await wire.loads(*(("XRANGE", keys.events(name), entry, entry) for entry in entries))
    kept = {entry: one[0][1] for entry, one in zip(entries, found, strict=True) if one}
    return await _entries(wire, at, name, entries, kept)


async def _entries(wire: Wire, at: Sought, name: str, entries: Sequence[str], kept: dict[str, list[bytes]]) -> Page:
    """Cancel the runs that entries of an event's stream would make, but for those that have begun."""
    found = [
        Run(
            id=run_id(at.function, "event", f"{name}|{entry}", entry_ms(entry)),
            function=at.function,
            status="queued",
            queued=entry_ms(entry),
            event=msgspec.Raw(codec.encode(event_of(name, entry, fields_of(flat)))),
        )
        for entry, flat in kept.items()
    ]
    begun = await read(wire, _Begun, [(at.function, run.id) for run in found])
    waiting = [(entry, run) for entry, run, one in zip(kept, found, begun, strict=True) if one is None]
    about = {run.id for run in await those_about(at.is_about, (run for _, run in waiting))}
    new = [(entry, run) for entry, run in waiting if run.id in about]

    async def cancelled(entry: str, run: Run) -> bool:
        if not await stands(wire, keys.events(name), at.function, entry, without_group=True):
            return False
        return await cancel_of(wire, at.function, run.id, at.why, unstarted=run) in ("cancelled", "asked")

    done = await asyncio.gather(*(cancelled(entry, run) for entry, run in new))
    more = entries[-1] if len(entries) == AT_ONCE else ""
    return Page(more, len(waiting), len(new), sum(done))


class _Begun(Record):
    status: str = ""


async def _queued(wire: Wire, at: Sought, where: str, place: str) -> Page:
    """Go through the queue, for runs that no event starts and that have not begun."""
    start = f"({place}" if place else str(at.after)
    rows = await wire.load("XRANGE", keys.queue(at.function, where), start, at.before, "COUNT", AT_ONCE)
    fields = [fields_of(row[1] or ()) for row in rows]
    runs = {codec.text(one[b"run"]): one for one in fields if one.get(b"event") and one.get(b"run")}
    begun = await read(wire, _Begun, [(at.function, run) for run in runs])
    new = [
        yet_to_begin(at.function, run, ulid_ms(run) or 0, one)
        for (run, one), there in zip(runs.items(), begun, strict=True)
        if there is None
    ]
    meant = await those_about(at.is_about, new)
    done = await asyncio.gather(*(cancel_of(wire, at.function, one.id, at.why, unstarted=one) for one in meant))
    more = rows[-1][0].decode() if len(rows) == AT_ONCE else ""
    return Page(more, len(new), len(meant), sum(one in ("cancelled", "asked") for one in done))


async def those_about(is_about: Callable[[Run], bool], runs: Iterable[Run]) -> list[Run]:
    """Return those of some runs that something is about; others of the process go on in between."""
    turns = Turns()
    found: list[Run] = []
    for run in runs:
        if is_about(run):
            found.append(run)
        await turns.pass_on()
    return found


def event_in(run: Run) -> RawEvent | None:
    """Return a run's event; None where it has none that can be read."""
    try:
        return codec.decode_as(run.event, RawEvent) if run.event is not None else None
    except msgspec.MsgspecError:
        return None


_GO_THROUGH = {"new": _new, "pending": _pending, "queue": _queued}
