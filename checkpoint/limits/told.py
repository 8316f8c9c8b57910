"""Limits: who holds the places of each, who waits for one and for how long, and what is held back to become a run."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.limits.keys import shown_key
from stepstream.bus.limits.told import limit_of_key
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import declared_limits, limit_of, override_of, overrides_of
from stepstream.checkpoint.controls.ordered import LimitName, Override, controls
from stepstream.checkpoint.facts.minutes import MINUTE_MS, minutes_of
from stepstream.checkpoint.limits.backlogs import MOST, Backlogs, backlogs_of

HOLDERS = 3
"""How many runs that hold a place are named."""
_LOOKED_AT, _OF_ALL = 200, 1_000
"""How many running runs of a function, and of all, are asked for their limits: a key of which nobody waits is found by
who holds a place."""
_FEW = 10
"""Of each function at least so many."""
ADMITTED_IN = 60
"""Minutes of which is told how many runs began."""


class LimitLine(msgspec.Struct, frozen=True):
    """One limit for one value of its key: `running` of at most `most` (None: not told), `waiting` for a place.

    `oldest` waits first in line, since `oldest_since`; `next` is when a throttle lets the next one start, server ms.
    `limit` is what it is called by who sets it otherwise (empty: it is declared no more), `override` to what it is set.
    `stored` is how it stands in Redis keys: `c0:=7`.
    """

    rule: str
    key: str
    most: int | None
    running: int
    holders: tuple[str, ...]
    waiting: int
    oldest: str = ""
    oldest_since: int | None = None
    next: int | None = None
    limit: LimitName | None = None
    override: Override | None = None
    stored: str = ""


class HeldBack(msgspec.Struct, frozen=True):
    """Events that become one run (`run`) when it is due, server ms: a debounce's, or a batch's."""

    kind: str
    key: str
    events: int
    due: int
    run: str = ""


class FunctionLimits(msgspec.Struct, frozen=True):
    """The limits of a function, and what became of its events in the last hour: `started`, `skipped` or `merged`.

    `more` keys are not among the `lines`, which are those of which most wait. `settable` are its limits that can be set
    to another number until a time, with the number that is declared; `overrides` those that are.
    """

    function: str
    rules: tuple[str, ...]
    lines: tuple[LimitLine, ...]
    more: int
    held: tuple[HeldBack, ...]
    started: int
    skipped: int
    merged: int
    settable: dict[LimitName, int] = {}
    overrides: tuple[Override, ...] = ()


async def limits_of(wire: Wire, known: Sequence[Registered]) -> list[FunctionLimits]:
    """Return the limits of those functions that have any, by function; the longest lines first."""
    regulated = [one for one in known if one.flow]
    now, ordered = await asyncio.gather(wire.moment(), controls(wire))
    most = max(_FEW, min(_LOOKED_AT, _OF_ALL // max(1, len(regulated))))
    set_to = [overrides_of(ordered, one.slug, one.limits, now) for one in regulated]
    lines, minutes = await asyncio.gather(
        asyncio.gather(*(_function(wire, one, others, most) for one, others in zip(regulated, set_to, strict=True))),
        minutes_of(wire, [one.slug for one in regulated], now - ADMITTED_IN * MINUTE_MS, now),
    )
    found: list[FunctionLimits] = []
    for one, (told, backlogs), others in zip(regulated, lines, set_to, strict=True):
        mine = [minute for minute in minutes if minute.function == one.slug]
        found.append(
            FunctionLimits(
                one.slug, one.flow, tuple(told), max(0, backlogs.keys - len(backlogs.backlogs)),
                tuple(_held(held.key, held.events, held.due, held.run) for held in backlogs.buffers),
                sum(minute.started for minute in mine), sum(minute.skipped for minute in mine),
                sum(minute.merged for minute in mine),
                {declared.limit: declared.number for declared in declared_limits(one.limits)}, tuple(others),
            )
        )  # fmt: skip
    return found


def _held(stored: str, events: int, due: int, run: str) -> HeldBack:
    kind, _, key = stored.partition(":")
    return HeldBack("batch" if kind == "b" else "debounce", _shown(key), events, due, run)


def _shown(key: str) -> str:
    return "" if key == "=null" else shown_key(key)


async def _function(
    wire: Wire, one: Registered, others: Sequence[Override], most: int
) -> tuple[list[LimitLine], Backlogs]:
    backlogs, held = await asyncio.gather(backlogs_of(wire, one.slug), _held_keys(wire, one, most))
    names = list(dict.fromkeys([line.key for line in backlogs.backlogs if line.key != "-"] + held))[:MOST]
    lines = await asyncio.gather(*(_line(wire, one, name, override_of(one.limits, name, others)) for name in names))
    return sorted((line for line in lines if line.running or line.waiting), key=lambda line: -line.waiting), backlogs


async def _held_keys(wire: Wire, one: Registered, most: int) -> list[str]:
    """Return the keys under which running runs count, of the newest of them."""
    if not any(limit.kind == "concurrency" for limit in one.limits):
        return []
    runs = await wire.look("ZREVRANGE", keys.runs(one.slug, "running", FIRST), 0, most - 1)
    holds = await wire.looks(*(("HGET", keys.run(one.slug, codec.text(run)), "holds") for run in runs))
    found = {key for raw in holds if raw for key in codec.text(raw).split("\n") if key[:1] == "c"}
    return sorted(found)


async def _line(wire: Wire, one: Registered, name: str, override: Override | None) -> LimitLine:
    slug, rule = one.slug, limit_of_key(one.limits, name)
    kind, _, key = name.partition(":")
    waiting, first, held, holders, due = await wire.looks(
        ("ZCARD", keys.backlog(slug, name)),
        ("ZRANGE", keys.backlog(slug, name), 0, 0),
        ("ZCARD", keys.places(slug, name)),
        ("ZRANGE", keys.places(slug, name), 0, HOLDERS - 1),
        ("ZSCORE", keys.timers(slug, FIRST), f"limit|{name}"),
    )
    running, runs = int(held), [codec.text(run) for run in holders]
    if rule is not None and rule.shared:
        lease = keys.limit(f"{rule.shared}={key}")
        rows = await wire.look("ZRANGEBYSCORE", lease, await wire.clock(), "+inf")
        runs = [codec.text(row).split("|")[1] for row in rows]
        running = len(runs)
    most = rule.number if rule is not None and kind != "t" else None
    most = override.to if override is not None and kind != "t" else most
    oldest = codec.text(first[0]) if first else ""
    return LimitLine(
        rule.words if rule is not None else "", _shown(key), most, running,
        tuple(runs[:HOLDERS]), int(waiting), oldest, ulid_ms(oldest) if oldest else None,
        codec.whole(due) if kind == "t" and due is not None else None,
        limit_of(one.limits, name), override, name,
    )  # fmt: skip
