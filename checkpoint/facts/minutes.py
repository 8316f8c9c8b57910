"""Minutes: how many runs of a function started and ended in each minute, how long they took, of what they failed."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.buckets import COUNT, Buckets, summed

MINUTE_MS = 60_000
KEPT_MS = 25 * 3_600_000
"""How long a minute is kept."""
OTHER = "other"
"""The errors of a minute beyond the first fifty different ones."""
_AT_ONCE, _IN_A_PART = 250, 1_000
"""Minutes that are read of one function, and of several, while the server does nothing else: some milliseconds."""
_KEPT, _MOST_FUNCTIONS = 75, 400
"""How many minutes are kept in this process once they are over, and of how many functions each."""

_READ = script(__file__, "minutes_read")


class Minute(msgspec.Struct):
    """What is counted of one function in one minute.

    `at` is when it began, server ms. `skipped` runs were not made (rate limit, singleton), `merged` ones became part of
    another (debounce, batch). `waited` has how long runs were queued before they started, but for those of a time to
    come, `took` how long those that completed or failed took since they started (buckets.py); `errors` by their mark.
    """

    function: str
    at: int
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    merged: int = 0
    waited: Buckets = msgspec.field(default_factory=lambda: [0] * COUNT)
    took: Buckets = msgspec.field(default_factory=lambda: [0] * COUNT)
    errors: dict[str, int] = {}


async def minutes_of(wire: Wire, slugs: Sequence[str], since: int, until: int) -> list[Minute]:
    """Return the minutes from `since` to `until` (server ms) in which anything happened, by function, oldest first.

    They are shared with others that ask: they are not to be changed. A minute that is over changes no more, so it is
    read once and kept for a while: most calls read the last minute of each function, all by one command.
    """
    kept = _kept.setdefault(wire, _Kept())
    first, last = max(since, until - KEPT_MS) // MINUTE_MS, until // MINUTE_MS
    found: dict[tuple[str, int], Minute] = {}
    asked: list[_Span] = []
    for slug in slugs:
        for where in partitions(slug):
            begin = first
            while begin < last and (slug, where) in (known := kept.minutes.get(begin, _NOTHING)):
                _join(found, known[slug, where])
                begin += 1
            asked += [_Span(slug, where, at, min(last, at + _AT_ONCE - 1)) for at in range(begin, last + 1, _AT_ONCE)]
    for part in _parts(asked):
        replies = await asyncio.gather(
            *(wire.look_script(_READ, [keys.function(one.slug, one.where)], one.first, one.last) for one in part)
        )
        for span, (now, rows) in zip(part, replies, strict=True):
            read = {int(number): _read(span.slug, int(number), flat) for number, flat in rows}
            for minute in read.values():
                _join(found, minute)
            kept.add(span, read, int(now))
    kept.forget()
    order = {slug: n for n, slug in enumerate(slugs)}
    return sorted(found.values(), key=lambda one: (order[one.function], one.at))


def marks_in(minutes: Iterable[Minute]) -> dict[str, set[str]]:
    """Return the marks of the errors of some minutes, by function."""
    found: dict[str, set[str]] = {}
    for one in minutes:
        if one.errors:
            found.setdefault(one.function, set()).update(one.errors)
    return found


class _Span(NamedTuple):
    """Minutes that are to be read of a function, in one of its partitions."""

    slug: str
    where: str
    first: int
    last: int


def _parts(asked: Sequence[_Span]) -> Iterator[list[_Span]]:
    """Yield what is to be read in parts, one after the other: a part holds the server for some milliseconds."""
    part: list[_Span] = []
    size = 0
    for one in asked:
        size += one.last - one.first + 1
        if part and size > _IN_A_PART:
            yield part
            part, size = [], one.last - one.first + 1
        part.append(one)
    if part:
        yield part


class _Kept:
    """Minutes that are over, as they were read; None where nothing happened. By minute, function and partition."""

    def __init__(self) -> None:
        self.minutes: dict[int, dict[tuple[str, str], Minute | None]] = {}
        self._now = 0

    def add(self, span: _Span, read: Mapping[int, Minute], now: int) -> None:
        """Keep what was read at a minute, `now`: what was over by then is final."""
        if now < self._now:  # the clock was set back, so minutes that were over are not
            self.minutes.clear()
        self._now = now
        for at in range(max(span.first, now - _KEPT), min(span.last, now - 1) + 1):
            of_all = self.minutes.setdefault(at, {})
            if len(of_all) < _MOST_FUNCTIONS:
                of_all[span.slug, span.where] = read.get(at)

    def forget(self) -> None:
        """Forget what is too old to be asked for again and again."""
        for at in [at for at in self.minutes if at < self._now - _KEPT]:
            del self.minutes[at]


_kept: "WeakKeyDictionary[Wire, _Kept]" = WeakKeyDictionary()
_NOTHING: Mapping[tuple[str, str], Minute | None] = {}


def _join(found: dict[tuple[str, int], Minute], minute: Minute | None) -> None:
    """Put a minute to those that were found; of a function that lies in several partitions they are added up."""
    if minute is None:
        return
    place = (minute.function, minute.at)
    other = found.get(place)
    found[place] = minute if other is None else _sum(minute, other)


def _sum(one: Minute, other: Minute) -> Minute:
    errors = Counter(one.errors)
    errors.update(other.errors)
    counted = {word: getattr(one, word) + getattr(other, word) for word in _COUNTED}
    return Minute(
        one.function, one.at, **counted, waited=summed((one.waited, other.waited)),
        took=summed((one.took, other.took)), errors=dict(errors),
    )  # fmt: skip


def _read(slug: str, number: int, flat: Sequence[Any]) -> Minute:
    minute = Minute(slug, number * MINUTE_MS)
    _add(minute, flat)
    return minute


def _add(minute: Minute, flat: Sequence[Any]) -> None:
    """Add what a hash says; what it says by hand, or in a way of later versions, is passed over."""
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        word, _, rest = codec.text(name).partition(":")
        if not value.isdigit():
            continue
        if word == "e":
            minute.errors[rest] = minute.errors.get(rest, 0) + int(value)
        elif word in _COUNTED:
            setattr(minute, word, getattr(minute, word) + int(value))
            if rest.isdigit() and int(rest) < COUNT and (buckets := _buckets(minute, word)) is not None:
                buckets[int(rest)] += int(value)


_COUNTED = {"started", "completed", "failed", "cancelled", "skipped", "merged"}


def _buckets(minute: Minute, word: str) -> Buckets | None:
    return minute.waited if word == "started" else minute.took if word in {"completed", "failed"} else None
