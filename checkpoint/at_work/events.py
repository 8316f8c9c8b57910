"""Events as they come: how fast those of a name do, and until when an event's id is remembered."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.values.ids import entry_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.arrivals import Arrival, newest_entries

HOUR_MS = 3_600_000
LOOKED_AT = 20
"""How many of the newest events of a name are looked at for its pace."""


class Pace(msgspec.Struct, frozen=True):
    """How many events of a name came within how long, ms, until now: in the last hour, or the newest twenty of it."""

    events: int
    within: int


async def paces(wire: Wire, names: Sequence[str]) -> dict[str, Pace]:
    """Return the pace of each name."""
    now = await patiently(wire.moment, 2.0)
    found = await asyncio.gather(*(newest_entries(wire, name, now - HOUR_MS, LOOKED_AT) for name in names))
    return {
        name: Pace(len(entries), HOUR_MS if len(entries) < LOOKED_AT else max(1, now - entry_ms(entries[-1])))
        for name, entries in zip(names, found, strict=True)
    }


async def remembered_until(wire: Wire, arrival: Arrival) -> int | None:
    """Return until when an event of the same id counts as a repetition, Unix ms; None: it does no more."""
    left, now = await asyncio.gather(
        wire.load("PTTL", keys.seen(arrival.name, arrival.event.id), patience=2.0), patiently(wire.moment, 2.0)
    )
    return now + int(left) if int(left) > 0 else None
