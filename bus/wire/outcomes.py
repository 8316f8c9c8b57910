"""Outcomes: how the runs of one event end, for a publisher that waits. Run ids are derived, so nothing is stored."""

import asyncio
import time

import msgspec

from bus.ids import entry_ms, run_id
from bus.trigger import covers
from bus.wire import keys
from bus.wire.registry import functions
from bus.wire.wire import Wire

ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
"""The statuses a run never leaves."""

_LOOK_EVERY_S = 0.1


class Outcome(msgspec.Struct, frozen=True):
    """One run of an event: `status` is `queued` until a worker has started it."""

    run: str
    slug: str
    status: str
    has_ended: bool


async def outcomes(wire: Wire, name: str, entry: str, seconds: float) -> list[Outcome]:
    """Return the runs that registered functions make of an event, when all have ended or after `seconds`."""
    ms = entry_ms(entry)
    slugs = [function.slug for function in await functions(wire) if any(covers(one, name) for one in function.events)]
    runs = [(slug, run_id(slug, "event", f"{name}|{entry}", ms)) for slug in slugs]
    until = time.monotonic() + seconds
    while True:
        found = await wire.loads(*(("HGET", keys.run(slug, run), "status") for slug, run in runs)) if runs else []
        statuses = [(status or b"queued").decode() for status in found]
        if all(status in ENDED for status in statuses) or time.monotonic() >= until:
            return [
                Outcome(run, slug, status, status in ENDED) for (slug, run), status in zip(runs, statuses, strict=True)
            ]
        await asyncio.sleep(_LOOK_EVERY_S)
