"""Events: the names that are published, declared or waited for, with who listens to each. Those nobody hears first."""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.errors import BadRequest, listed
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.waits.event_waits import some_waits

MOST_NAMES = 10_000
"""How many published names are looked at, those that were published first most lately."""

_SEEN = script(__file__, "stream_seen")
_LOOKED_AT = 50
"""How many of the waits for a name are looked at for whose they are."""
_NAMED = 5
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
    waiting: list[str] = []
    """The slugs of the functions whose runs wait for one, of the first fifty waits."""
    waited: bool = False
    """Whether runs wait for one, or did, and their time is not over: functions that wait will do so again."""

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens: a function starts or is cancelled, or runs wait."""
        return bool(self.functions or self.cancels or self.waits or self.waited)

    @property
    def also(self) -> str:
        """Who listens without starting, in words; empty when nobody does."""
        told = [f"it cancels runs of {listed(self.cancels, _NAMED)}"] if self.cancels else []
        told += [f"runs of {listed(self.waiting, _NAMED)} wait for such"] if self.waiting else []
        told += ["runs have waited for such"] if self.waited and not self.waiting else []
        return "; ".join(told)


class EventNames(msgspec.Struct):
    """A page of names: those that nobody listens to, then the others, each by name; and the next one's cursor."""

    names: list[EventName]
    unheard: int
    """How many published names there are that nobody listens to, on all pages."""
    cursor: str | None = None
    cut: int = 0
    """How many published names were not looked at, because there are too many."""


class Names(NamedTuple):
    """All names, and who listens to each."""

    heard: list[str]
    """Those on which a function starts, which cancel its runs, or for which runs wait; by name, as the others are."""
    unheard: list[str]
    first: dict[str, int]
    """When each that has been published was published first, Unix ms."""
    waited: frozenset[str]
    """Those for which runs wait, or did until a moment that is still to come."""
    listeners: "Listeners"
    cut: int
    """How many published names were not looked at, because there are too many."""


class Seen(NamedTuple):
    """What there is in a stream. Times are Unix ms; None: there is no such entry."""

    entries: int
    oldest: int | None
    newest: int | None
    """When the newest was added, also of one that has been removed since."""
    waits: int
    """How many steps wait for one."""
    is_there: bool


async def event_names(wire: Wire, *, limit: int = 100, cursor: str | None = None) -> EventNames:
    """Return a page of the names of events; BadRequest for a cursor that none of its pages gave."""
    known = await all_names(wire, await functions(wire))
    page, after = page_of({_UNHEARD: known.unheard, _HEARD: known.heard}, limit, cursor)
    names = [known.listeners.of(name, known.first.get(name)) for _, name in page]
    for one in names:
        one.waited = one.name in known.waited
    await asyncio.gather(*(_look(wire, one) for one in names))
    return EventNames(names, len(known.unheard), after, known.cut)


async def all_names(wire: Wire, known: Sequence[Registered]) -> Names:
    """Return all names that are published, waited for or declared by functions that are known."""
    published, count, waited = await asyncio.gather(
        wire.load("ZREVRANGE", keys.event_names(), 0, MOST_NAMES - 1, "WITHSCORES", patience=2.0),
        wire.load("ZCARD", keys.event_names(), patience=2.0),
        wire.load("ZREVRANGE", keys.waited(), 0, MOST_NAMES - 1, patience=2.0),
    )
    awaited = frozenset(map(codec.text, waited))
    first = {codec.text(name): codec.whole(ms) for name, ms in zip(published[::2], published[1::2], strict=True)}
    listeners = Listeners(known)
    heard: list[str] = []
    unheard: list[str] = []
    for name in sorted({*first, *awaited, *listeners.names}):
        (heard if name in awaited or listeners.hears(name) else unheard).append(name)
    return Names(heard, unheard, first, awaited, listeners, max(0, int(count) - MOST_NAMES))


def page_of(
    groups: Mapping[str, Sequence[str]], limit: int, cursor: str | None
) -> tuple[list[tuple[str, str]], str | None]:
    """Return a page of names that lie in groups, each by name, as (group, name); and the next page's cursor."""
    words = list(groups)
    word, _, name = (cursor or "").partition(":")
    if cursor and word not in words:
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    found: list[tuple[str, str]] = []
    for group in words[words.index(word) :] if cursor else words:
        begin = bisect_right(groups[group], name) if cursor and group == word else 0
        found += [(group, one) for one in groups[group][begin : begin + limit + 1 - len(found)]]
    page = found[:limit]
    return page, ":".join(page[-1]) if len(found) > limit else None


async def event_name(wire: Wire, name: str) -> EventName:
    """Return one name with who listens to it; it need not have been published."""
    known, at = await asyncio.gather(functions(wire), wire.load("ZSCORE", keys.waited(), name, patience=2.0))
    one = Listeners(known).of(name, None)
    one.waited = at is not None
    await _look(wire, one)
    return one


class Listeners:
    """Who listens to what, by the registry."""

    def __init__(self, known: Sequence[Registered]) -> None:
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


async def _look(wire: Wire, one: EventName) -> None:
    seen = await stream_seen(wire, keys.events(one.name), keys.waits(one.name), keys.waits_if(one.name))
    one.entries, one.last, one.waits = seen.entries, seen.newest, seen.waits
    if one.waits:
        one.waiting = sorted({wait.slug for wait in await some_waits(wire, one.name, _LOOKED_AT)})


async def stream_seen(wire: Wire, stream: str, *waits: str) -> Seen:
    """Return what there is in a stream; of one of events `waits` are the keys of those that wait for them."""
    entries, oldest, newest, waiting = await wire.look_script(_SEEN, [stream, *waits])
    return Seen(int(entries), _at(oldest), _at(newest), int(waiting), bool(newest))


def _at(entry: bytes) -> int | None:
    return entry_ms(entry.decode()) or None if entry else None
