"""Arrivals: events as they came, newest first, and one by its id, with the runs that functions made of it.

An event that an SDK sent again is stored once and listed as often as it came. Of an id alone the name is not known:
every name is asked whether it remembers it; later those are looked through that were stored about the time in the id.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.event import RawEvent
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, entry_place, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import Group, event_of, fields_of, groups_of, stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.event_names import MOST_NAMES
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.run.record import Run, read

MOST = 100
"""The largest page: each event may hold three mebibytes."""

_PAGE = script(__file__, "events_page")
_FIND = script(__file__, "event_find")
_BEFORE_MS, _BEHIND_MS = 5_000, 60_000
"""How far from the time in an id its event may have been stored: its sender's clock is not Redis's."""
_LOOKED_AT = 5_000


class Arrival(msgspec.Struct, frozen=True):
    """An event as it came: the stream entry that has it, and the id that its sender's SDK gave it (`internal`)."""

    name: str
    entry: str
    event: RawEvent
    internal: str
    received: int
    """When it came, server ms."""


class Arrivals(msgspec.Struct, frozen=True):
    """A page of events, newest first; `cursor` is where the next begins, None when there is none."""

    events: list[Arrival]
    cursor: str | None = None


class _Place(NamedTuple):
    """Where an event stands among all: its entry, or that of its coming again, and its name."""

    ms: int
    number: int
    is_again: bool
    name: str
    entry: str = ""
    internal: str = ""

    @property
    def cursor(self) -> str:
        return f"{self.ms}-{self.number}|{int(self.is_again)}|{self.name}"


async def arrivals(
    wire: Wire,
    *,
    name: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
    after: int | None = None,
    before: int | None = None,
) -> Arrivals:
    """Return a page of the events of a name, or of all; `after` and `before` bound when they came, Unix ms.

    `cursor` is that of the page before, or the internal id of its last event. BadRequest for one that is neither.
    """
    begin = await _parsed(wire, cursor) if cursor else None
    latest = "+" if before is None else str(max(0, before - 1))
    if begin is not None and (before is None or begin.ms < before):
        latest = f"{begin.ms}-{begin.number}"
    bounds = (latest, "-" if after is None else str(after + 1))
    names = await _names(wire) if name is None else [name]
    if len(names) > 1:  # a page has at most as many names as events: those with the newest
        heads = await _places(wire, names, bounds, 1)
        names = list(dict.fromkeys(place.name for place in sorted(heads, reverse=True)))[: limit + 2]
    found = sorted(await _places(wire, names, bounds, limit + 2), reverse=True)
    left = found if begin is None else [place for place in found if place[:4] < begin[:4]]
    page = left[:limit]
    return Arrivals(await _loaded(wire, page), page[-1].cursor if len(left) > limit else None)


async def newest_entries(wire: Wire, name: str, since: int, most: int) -> list[str]:
    """Return the entries of the newest events of a name since a moment, Unix ms, newest first, without repetitions."""
    stored = [keys.events(name), keys.again(name)]
    entries, _ = await wire.look_script(_PAGE, stored, "+", str(since), most)
    return [codec.text(entry) for entry in entries]


async def find_arrival(wire: Wire, event_id: str) -> Arrival | None:
    """Return an event by the id it has, or by its internal one; None when its stream has none (any more)."""
    place = await event_place(wire, event_id)
    return None if place is None else await arrival_at(wire, *place, event_id)


async def event_place(wire: Wire, event_id: str) -> tuple[str, str] | None:
    """Return the name and the entry of an event: its stream need not have it any more while its id is remembered."""
    names = await _names(wire)
    known = await wire.looks(*(("GET", keys.seen(name, event_id)) for name in names))
    place = next(
        ((name, codec.text(entry)) for name, entry in zip(names, known, strict=True) if entry and entry[:1] != b"@"),
        None,
    )
    ms = ulid_ms(event_id)
    if place is None and ms is not None:
        about = (max(0, ms - _BEFORE_MS), ms + _BEHIND_MS, _LOOKED_AT, event_id)
        looks = await asyncio.gather(
            *(wire.script(_FIND, [keys.events(name)], *about, is_big_read=True) for name in names)
        )
        place = next(((name, codec.text(entry)) for name, entry in zip(names, looks, strict=True) if entry), None)
    return place


async def arrival_at(wire: Wire, name: str, entry: str, event_id: str = "") -> Arrival | None:
    """Return the event of an entry, asked for by an id of it, if any; None when its stream has let go of it."""
    found = await _loaded(wire, [_Place(*entry_place(entry), False, name, entry)])
    if not found:
        return None
    is_internal = event_id not in ("", found[0].event.id, found[0].internal)  # of a time it came again
    return msgspec.structs.replace(found[0], internal=event_id) if is_internal else found[0]


async def runs_of(wire: Wire, arrival: Arrival) -> list[Run]:
    """Return the runs that functions made of an event, or will make; of a batch, or a debounced one, that run.

    One whom a rate limit dropped does not count.
    """
    slugs = [one.slug for one in await functions(wire) if any(covers(name, arrival.name) for name in one.events)]
    groups = await groups_of(wire, keys.events(arrival.name)) if slugs else {}
    found = await asyncio.gather(*(_run(wire, slug, arrival, groups) for slug in slugs))
    return list({run.id: run for run in found if run is not None}.values())


async def _run(wire: Wire, slug: str, arrival: Arrival, groups: Mapping[str, Group]) -> Run | None:
    name, entry = arrival.name, arrival.entry
    run = run_id(slug, "event", f"{name}|{entry}", entry_ms(entry))
    [found] = await read(wire, Run, [(slug, run)])
    if found is None and await stands(wire, keys.events(name), slug, entry, without_group=True, groups=groups):
        event = msgspec.Raw(codec.encode(arrival.event))
        return Run(id=run, function=slug, status="queued", queued=entry_ms(entry), event=event)
    if found is None:  # begun, and perhaps done with, since we looked
        [found] = await read(wire, Run, [(slug, run)])
    if found is None or not found.status:
        return None
    if found.status != "skipped" or found.why == "singleton":
        return found
    if not found.by or found.why == "rate_limit":
        return None
    [part_of] = await read(wire, Run, [(slug, found.by)])
    return part_of if part_of is not None and part_of.status else found


async def _names(wire: Wire) -> list[str]:
    return [codec.text(name) for name in await wire.load("ZREVRANGE", keys.event_names(), 0, MOST_NAMES - 1)]


async def _places(wire: Wire, names: Sequence[str], bounds: tuple[str, str], most: int) -> list[_Place]:
    replies = await asyncio.gather(
        *(wire.script(_PAGE, [keys.events(name), keys.again(name)], *bounds, most, is_big_read=True) for name in names)
    )
    found: list[_Place] = []
    for name, (entries, again) in zip(names, replies, strict=True):
        texts = [entry.decode() for entry in entries]
        found += [_Place(*entry_place(entry), False, name, entry) for entry in texts]
        for i in range(0, len(again), 3):
            at, internal, entry = map(codec.text, again[i : i + 3])
            found.append(_Place(*entry_place(at), True, name, entry, internal))
    return found


async def _loaded(wire: Wire, places: Sequence[_Place]) -> list[Arrival]:
    """Return the events of places; those that were dropped since are left out."""
    replies = await wire.loads(*(("XRANGE", keys.events(place.name), place.entry, place.entry) for place in places))
    found: list[Arrival] = []
    for place, rows in zip(places, replies, strict=True):
        if rows:
            fields = fields_of(rows[0][1])
            event = event_of(place.name, place.entry, fields)
            internal = place.internal or codec.text(fields.get(b"internal", b"")) or event.id
            found.append(Arrival(place.name, place.entry, event, internal, place.ms))
    return found


async def _parsed(wire: Wire, cursor: str) -> _Place:
    moment, _, rest = cursor.partition("|")
    word, _, name = rest.partition("|")
    ms, _, number = moment.partition("-")
    if word in {"0", "1"} and all(one.isascii() and one.isdecimal() and len(one) <= 20 for one in (ms, number)):
        return _Place(int(ms), int(number), word == "1", name)
    place = await event_place(wire, cursor)
    if place is None:
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours, nor the id of an event; leave it out")
    return _Place(*entry_place(place[1]), False, place[0])
