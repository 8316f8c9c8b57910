"""Events: the names that are published, declared or waited for, with who listens to each. Those nobody hears first.

And the streams of events, and how far each function has read them.
"""

import asyncio
from bisect import bisect_right

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import groups_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions

MOST_NAMES = 10_000
"""How many published names are looked at, those that were published first most lately."""

_SEEN = script(__file__, "event_seen")
_UNHEARD, _HEARD = "unheard", "heard"


class EventName(msgspec.Struct):
    """A name of events, and who listens to it."""

    name: str
    functions: list[str]
    """The slugs of the functions that start on it."""
    cancels: list[str]
    """The slugs of the functions of which it cancels runs (`cancel_on`)."""
    first: int | None = None
    """When it was published first, Unix ms; None: not yet, or so long ago that nobody keeps the name."""
    last: int | None = None
    """When its newest event was stored, Unix ms, also of one that has been removed since."""
    entries: int = 0
    """How many events are kept."""
    waits: int = 0
    """How many steps wait for one."""


class EventNames(msgspec.Struct):
    """A page of names: those that no function listens to, then the others, each by name; and the next one's cursor."""

    names: list[EventName]
    unheard: int
    """How many published names there are that no function listens to, on all pages."""
    cursor: str | None = None
    cut: int = 0
    """How many published names were not looked at, because there are too many."""


async def event_names(wire: Wire, *, limit: int = 100, cursor: str | None = None) -> EventNames:
    """Return a page of the names of events; BadRequest for a cursor that is none."""
    after = _parsed(cursor)
    published, count, waited, known = await asyncio.gather(
        wire.load("ZREVRANGE", keys.event_names(), 0, MOST_NAMES - 1, "WITHSCORES", patience=2.0),
        wire.load("ZCARD", keys.event_names(), patience=2.0),
        wire.load("ZREVRANGE", keys.waited(), 0, MOST_NAMES - 1, patience=2.0),
        functions(wire),
    )
    first = {codec.text(name): int(float(ms)) for name, ms in zip(published[::2], published[1::2], strict=True)}
    listeners = _Listeners(known)
    everything = {*first, *map(codec.text, waited), *listeners.names}
    order = sorted(((_HEARD if listeners.hears(name) else _UNHEARD, name) for name in everything), key=_rank)
    begin = bisect_right(order, _rank(after), key=_rank) if after is not None else 0
    names = [listeners.of(name, first.get(name)) for _, name in order[begin : begin + limit]]
    await asyncio.gather(*(_look(wire, one) for one in names))
    is_last = begin + limit >= len(order)
    return EventNames(
        names,
        unheard=sum(word == _UNHEARD for word, _ in order),
        cursor=None if is_last or not names else ":".join(order[begin + limit - 1]),
        cut=max(0, int(count) - MOST_NAMES),
    )


async def event_name(wire: Wire, name: str) -> EventName:
    """Return one name with who listens to it; it need not have been published."""
    one = _Listeners(await functions(wire)).of(name, None)
    await _look(wire, one)
    return one


class _Listeners:
    """Who listens to what, by the registry."""

    def __init__(self, known: list[Registered]) -> None:
        self._starts = _by_name([(name, one.slug) for one in known for name in one.events])
        self._cancels = _by_name([(name, one.slug) for one in known for name in one.cancels])
        self._patterns = [(name, slugs) for name, slugs in self._starts.items() if name.endswith("*")]
        self.names = {name for name in {*self._starts, *self._cancels} if not name.endswith("*")}

    def hears(self, name: str) -> bool:
        """Whether a function starts on a name, or is cancelled by it."""
        return name in self.names or any(covers(pattern, name) for pattern, _ in self._patterns)

    def of(self, name: str, first: int | None) -> EventName:
        """Return a name with its functions."""
        starts = {slug for pattern, slugs in self._patterns if covers(pattern, name) for slug in slugs}
        starts.update(self._starts.get(name, ()))
        return EventName(name, sorted(starts), sorted(self._cancels.get(name, ())), first)


def _by_name(pairs: list[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, slug in pairs:
        found.setdefault(name, set()).add(slug)
    return found


def _rank(place: tuple[str, str]) -> tuple[bool, str]:
    return place[0] == _HEARD, place[1]


def _parsed(cursor: str | None) -> tuple[str, str] | None:
    if not cursor:
        return None
    word, _, name = cursor.partition(":")
    if word not in {_HEARD, _UNHEARD}:
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    return word, name


async def _look(wire: Wire, one: EventName) -> None:
    own = [keys.events(one.name), keys.waits(one.name), keys.waits_if(one.name)]
    entries, newest, waits = await wire.script(_SEEN, own, is_big_read=True)
    one.entries, one.waits = int(entries), int(waits)
    one.last = entry_ms(newest.decode()) or None if newest else None


class Reading(msgspec.Struct, frozen=True):
    """How far a function has read a stream.

    `in_hand` events are read and not finished with; `unread` ones come after those, None where the server cannot tell.
    """

    function: str
    in_hand: int
    unread: int | None


class Stream(msgspec.Struct, frozen=True):
    """The events of a name that are kept: how many `entries`, when the newest came (Unix ms), and who reads them."""

    name: str
    entries: int
    last: int | None
    waits: int
    """How many steps wait for one."""
    readings: list[Reading]
    """One for each consumer group: none has been made for a function that no worker has served yet."""


class Streams(msgspec.Struct):
    """A page of streams, by name, those first that no function listens to; `cursor` is where the next begins."""

    streams: list[Stream]
    cursor: str | None = None


async def streams(wire: Wire, *, limit: int = 100, cursor: str | None = None) -> Streams:
    """Return a page of the streams of events; BadRequest for a cursor that is none."""
    page = await event_names(wire, limit=limit, cursor=cursor)
    found = await asyncio.gather(*(_stream(wire, one) for one in page.names))
    return Streams(list(found), page.cursor)


async def _stream(wire: Wire, one: EventName) -> Stream:
    groups = await groups_of(wire, keys.events(one.name)) if one.last else {}
    readings = [Reading(slug, group.pending, group.lag) for slug, group in sorted(groups.items())]
    return Stream(one.name, one.entries, one.last, one.waits, readings)
