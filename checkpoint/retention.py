"""Retention: how long events and ended runs are kept, and how many. Nothing that somebody still needs is dropped."""

from collections.abc import Sequence

from bus.settings import LEAST_KEEP_MS
from bus.wire import keys
from bus.wire.wire import Wire

AT_ONCE = 200
TRIM_AT_ONCE = 10_000


async def trim_events(wire: Wire, name: str, groups: Sequence[str]) -> tuple[int, str]:
    """Drop old events of a name; return how many, and which group still needs old ones.

    -1 and a group's name when that one is missing: then nothing is dropped until it is made again.
    """
    kept = wire.settings.keep_events_ms
    dropped, holder = await wire.script("events_trim", [keys.events(name)], kept, TRIM_AT_ONCE, *groups)
    return int(dropped), holder.decode()


async def tidy_runs(wire: Wire, slug: str) -> int:
    """Forget the oldest ended runs above BUS_KEEP_RUNS; return how many, at most about 400 a call."""
    arguments = (wire.settings.keep_runs, LEAST_KEEP_MS, AT_ONCE)
    return int(await wire.script("runs_tidy", [keys.function(slug)], *arguments))


async def forget_workers(wire: Wire, now: int) -> None:
    """Forget workers whose lease ended an hour ago."""
    await wire.call("ZREMRANGEBYSCORE", keys.workers(), "-inf", now - 3_600_000)
