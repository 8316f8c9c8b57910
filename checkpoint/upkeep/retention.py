"""Retention: drop old events, and ended runs above the count. Old runs expire: run_end says when (finish.lua)."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.settings import LEAST_KEEP_MS
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST, entry_ms, partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.leases import TOLD_MS
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.serverclock import FAR
from stepstream.bus.wire.wire import Wire

_TRIM_EVENTS = script(__file__, "events_trim")
_FORGET_RUNS = script(__file__, "runs_forget")
_TRY_BACKLOGS = script(__file__, "backlogs_retry")

AT_ONCE = 200
TRIM_AT_ONCE = 10_000
FORGET_MS = 7 * 86_400_000
"""How long old events are kept for a consumer group that no worker serves; then the group is dropped."""

MOST_DEAD = 200
"""Workers that have died and are still told of."""
LINES_AT_ONCE = 1_000
_COUNTED = (("completed", "cancelled", "skipped"), ("failed",))
"""Statuses that BUS_KEEP_RUNS counts together."""

_BETWEEN_S = 0.01


class Trimmed(msgspec.Struct, frozen=True):
    """The result of trimming the old events of a name.

    `dropped` is how many were dropped; -1 when nothing was, because the group `holder` is missing. Otherwise `holder`
    is a group that still needs old events, last served by a worker `unserved_ms` ago. `groups` were dropped.
    """

    dropped: int
    holder: str
    unserved_ms: int
    groups: list[str]


async def trim_events(wire: Wire, name: str, groups: Sequence[str]) -> Trimmed:
    """Drop old events of a name, for a worker that serves `groups` of it. A name that nobody uses is removed."""
    kept = wire.settings.keep_events_ms
    dropped, holder, unserved, gone, is_gone = await wire.script(
        _TRIM_EVENTS, [keys.events(name), keys.events_served(name)], kept, TRIM_AT_ONCE, FORGET_MS, *groups
    )
    trimmed = Trimmed(int(dropped), codec.text(holder), int(unserved), [codec.text(group) for group in gone])
    for group in trimmed.groups:
        await _forget_triggers(wire, group, name)
    if is_gone:
        await wire.call("ZREM", keys.event_names(), name)
        # If it was published meanwhile, its publisher has announced the name, or does so now (publishing.py).
        if await wire.call("EXISTS", keys.events(name)):
            await wire.call("ZADD", keys.event_names(), "NX", await wire.clock(), name)
    return trimmed


async def _forget_triggers(wire: Wire, slug: str, name: str) -> None:
    """Forget when a trigger was registered whose group is dropped: declared again, it begins then."""
    fields: list[bytes] = await wire.call("HKEYS", keys.triggers())
    for owner, _, pattern in (codec.text(field).partition(" ") for field in fields):
        if owner == slug and covers(pattern, name):
            await wire.call("HDEL", keys.triggers(), f"{owner} {pattern}")


async def name_again(wire: Wire, name: str) -> None:
    """Put a name whose stream exists into the list of names: the stream was made by hand, or the list was lost."""
    first = await wire.load("XRANGE", keys.events(name), "-", "+", "COUNT", 1)
    if first:
        await wire.call("ZADD", keys.event_names(), "NX", entry_ms(first[0][0].decode()), name)


async def other_names(wire: Wire, start: int, count: int) -> list[str]:
    """Return a page of all event names, so that those that no worker reads are trimmed too."""
    return [codec.text(name) for name in await wire.call("ZRANGE", keys.event_names(), start, start + count - 1)]


async def tidy_runs(wire: Wire, slug: str) -> int:
    """Forget the oldest ended runs above BUS_KEEP_RUNS; return how many. Each partition keeps its share of them.

    Repeats, in calls that take the server a millisecond or two, until the count holds.
    """
    forgotten, spread = 0, partitions(slug)
    share = -(-wire.settings.keep_runs // len(spread))
    for prefix, together in ((keys.function(slug, where), counted) for where in spread for counted in _COUNTED):
        for status in together:
            passed, over = 0, 1
            while over > 0:
                arguments = (share, LEAST_KEEP_MS, AT_ONCE, status, passed)
                gone, stay, over = map(int, await wire.script(_FORGET_RUNS, [prefix], *arguments, *together))
                forgotten, passed = forgotten + gone, passed + stay
                if gone + stay < AT_ONCE:
                    break
                await asyncio.sleep(_BETWEEN_S)
    return forgotten


async def retry_backlogs(wire: Wire, slug: str) -> None:
    """Let the backlogs that wait for a place be tried again, in case the signal that one came free was lost."""
    await wire.script(_TRY_BACKLOGS, [keys.function(slug, FIRST)], LINES_AT_ONCE)


async def forget_workers(wire: Wire, now: int) -> None:
    """Remove workers whose lease ended a day ago, or lies far ahead (the clock was set back); living ones renew.

    Of more than 200 dead those that have been dead for longest go too, with what they told of themselves.
    """
    dead = [codec.text(name) for name in await wire.call("ZRANGEBYSCORE", keys.workers(), "-inf", f"({now}")]
    for part in parts(dead[:-MOST_DEAD]):
        await wire.call("ZREM", keys.workers(), *part)
    for part in parts([keys.worker(name) for name in dead[:-MOST_DEAD]]):
        await wire.call("UNLINK", *part)
    await wire.call("ZREMRANGEBYSCORE", keys.workers(), "-inf", now - TOLD_MS)
    await wire.call("ZREMRANGEBYSCORE", keys.workers(), now + FAR * wire.settings.lease_ms, "+inf")
