"""Functions at work: how many runs each has, what its last hour was, what waits for it, and who serves it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.streams import groups_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import overrides_of
from stepstream.checkpoint.controls.ordered import Override, Pause, controls
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute, minutes_of
from stepstream.checkpoint.facts.workers import WorkerView, workers_told
from stepstream.checkpoint.read.lists.pulse import oldest
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.registry import functions, workers_serving

HOUR = 60
"""How many minutes are told of each."""
_MOST_NAMES = 1_000
"""Of a pattern, in how many names' streams it is looked for what waits."""


class Unread(msgspec.Struct, frozen=True):
    """How many events wait in their streams for a function to begin a run; not `exact`: at least so many."""

    events: int = 0
    exact: bool = True


class FunctionFacts(msgspec.Struct, frozen=True):
    """A function at work."""

    function: Registered
    runs: dict[str, int]
    """How many runs there are of each status."""
    minutes: list[Minute]
    """The minutes of the last hour in which anything happened, oldest first."""
    unread: Unread
    oldest: int | None
    """Since when its oldest queued run is, Unix ms, and which one that is."""
    oldest_run: str
    workers: int
    codes: dict[str, int]
    """The versions of its code that are alive, and how many workers have each, as these tell of themselves."""
    paused: Pause | None
    overrides: tuple[Override, ...] = ()
    """Its limits that people have set to another number, those that it shares too."""

    @property
    def backlog(self) -> int:
        """What waits to start: events that nobody has read, and runs in line."""
        return self.unread.events + self.runs["queued"]


async def function_facts(wire: Wire, known: Sequence[Registered] | None = None) -> list[FunctionFacts]:
    """Return functions at work: those that are given, or all, by slug."""
    told = await functions(wire) if known is None else known
    slugs = [one.slug for one in told]
    now = await patiently(wire.moment, 2.0)
    waiting, alive = await asyncio.gather(_unread(wire, told), workers_told(wire))
    runs, minutes, queued, at_work, ordered = await asyncio.gather(
        counts(wire, slugs),
        minutes_of(wire, slugs, now - (HOUR - 1) * MINUTE_MS, now),
        oldest(wire, slugs, "queued"),
        workers_serving(wire, slugs),
        controls(wire),
    )
    hours: dict[str, list[Minute]] = {slug: [] for slug in slugs}
    for minute in minutes:
        hours[minute.function].append(minute)
    return [
        FunctionFacts(
            one, runs[one.slug], hours[one.slug], waiting[one.slug], *queued.get(one.slug, (None, "")),
            at_work[one.slug], _codes(alive, one.slug), ordered.functions.get(one.slug),
            tuple(overrides_of(ordered, one.slug, one.limits, now)),
        )
        for one in told
    ]  # fmt: skip


def _codes(told: Sequence[WorkerView], slug: str) -> dict[str, int]:
    return dict(Counter(one.functions[slug] for one in told if one.alive and slug in one.functions))


async def _unread(wire: Wire, known: Sequence[Registered]) -> dict[str, Unread]:
    """Return what waits in the streams of the events that functions start on: each stream is asked once."""
    names = {name for one in known for name in one.events}
    patterns = [name for name in names if name.endswith("*")]
    if patterns:
        published = await wire.load("ZREVRANGE", keys.event_names(), 0, _MOST_NAMES - 1, patience=2.0)
        names |= {name for name in map(codec.text, published) if any(covers(one, name) for one in patterns)}
    asked = sorted(names - set(patterns))
    groups = dict(zip(asked, await asyncio.gather(*(_groups(wire, name) for name in asked)), strict=True))
    return {
        one.slug: _sum(
            groups[name][one.slug] for name in asked if one.slug in groups[name]
            and any(covers(trigger, name) for trigger in one.events)
        )
        for one in known
    }  # fmt: skip


async def _groups(wire: Wire, name: str) -> dict[str, Unread]:
    """Return how many events of a name each function has yet to read."""
    groups = await groups_of(wire, keys.events(name), patience=2.0)
    return {slug: Unread(1, exact=False) if group.lag is None else Unread(group.lag) for slug, group in groups.items()}


def _sum(several: Iterable[Unread]) -> Unread:
    found = list(several)
    return Unread(sum(one.events for one in found), all(one.exact for one in found))
