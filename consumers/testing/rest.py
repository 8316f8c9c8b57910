"""Rest: whether a whole application is at rest, and when something falls due in it."""

import asyncio
from collections.abc import Sequence

from stepstream.bus.errors import KeyMissing
from stepstream.bus.function import Function
from stepstream.bus.values.ids import entry_place
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of, groups_of
from stepstream.bus.wire.wire import Wire


async def busy(wire: Wire, functions: Sequence[Function]) -> str:
    """Return what is not at rest, in words; empty when every run has ended, or waits."""
    for slug in (function.slug for function in functions):
        if count := await wire.call("ZCARD", keys.runs(slug, "running")):
            return f"{count} runs of {slug} are running"
        for stream in (keys.queue(slug), keys.ends(slug)):
            if await wire.call("XLEN", stream):
                return f"{stream} has entries"
        if await wire.call("ZCARD", keys.ready(slug)):  # who waits for a limit that is full is at rest
            return f"runs of {slug} are about to start"
    if await wire.call("ZCOUNT", keys.delayed_names(), "-inf", wire.now):
        return "events whose time has come are about to be published"
    names: Sequence[bytes] = await wire.call("ZRANGE", keys.event_names(), 0, -1)
    for name in names:
        stream = keys.events(name.decode())
        try:
            last = fields_of(await wire.call("XINFO", "STREAM", stream))[b"last-generated-id"]
        except KeyMissing:  # not there yet
            continue
        for slug, group in (await groups_of(wire, stream)).items():
            if group.pending or entry_place(group.delivered) < entry_place(last.decode()):
                return f"{name.decode()} has events that {slug} has not finished with"
    return ""


async def next_timer(wire: Wire, functions: Sequence[Function]) -> int | None:
    """Return when the first run or event that waits is due, ms; None when none waits."""
    lists = [*(keys.timers(function.slug) for function in functions), keys.delayed_names()]
    firsts = await asyncio.gather(*(wire.call("ZRANGE", one, 0, 0, "WITHSCORES") for one in lists))
    dues = [int(float(first[1])) for first in firsts if first]
    return min(dues, default=None)


async def next_due(wire: Wire, functions: Sequence[Function], now: int) -> int | None:
    """Return when the next timer or tick of a schedule is due, ms; None when there is none."""
    timer = await next_timer(wire, functions)
    ticks = [cron.next_after(now) for function in functions for cron in function.crons]
    return min([*([timer] if timer is not None else []), *ticks], default=None)


async def is_due(wire: Wire, functions: Sequence[Function], now: int) -> bool:
    """Return whether a timer is due."""
    counts = await asyncio.gather(*(wire.call("ZCOUNT", keys.timers(f.slug), "-inf", now) for f in functions))
    return any(counts)
