"""Outcomes: how the runs of one event end, for a publisher that waits. Run ids are derived, so nothing is stored."""

import asyncio
import time

import msgspec

from stepstream.bus.trigger import covers
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.streams import stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import ENDED, Record, read

_LOOK_EVERY_S = 0.1


class Outcome(msgspec.Struct, frozen=True):
    """One run of an event: `status` is `queued` until a worker has started it."""

    run: str
    slug: str
    status: str
    has_ended: bool
    error: str = ""
    """Why it failed, or was cancelled."""


async def outcomes(wire: Wire, name: str, entry: str, seconds: float) -> list[Outcome]:
    """Return the runs that functions make of an event, when all have ended or after `seconds`.

    A function whose `if_` was not true of the event has no run of it.
    """
    slugs = [function.slug for function in await functions(wire) if any(covers(one, name) for one in function.events)]
    until = time.monotonic() + seconds
    while True:
        looks = await asyncio.gather(*(_look(wire, slug, name, entry) for slug in slugs))
        found = [one for one in looks if one is not None]
        if all(one.has_ended for one in found) or time.monotonic() >= until:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)


async def _look(wire: Wire, slug: str, name: str, entry: str) -> Outcome | None:
    run = run_id(slug, "event", f"{name}|{entry}", entry_ms(entry))
    found = await _stored(wire, slug, run)
    if found is None and await stands(wire, keys.events(name), slug, entry, without_group=True):
        return Outcome(run, slug, "queued", has_ended=False)
    found = found or await _stored(wire, slug, run)  # begun and done with since we looked
    if found is None or not found.status:
        return None
    has_ended = found.status in ENDED
    return Outcome(
        run, slug, found.status, has_ended, found.error.told() if has_ended and found.error is not None else ""
    )


class _Status(Record):
    status: str = ""
    error: Failure | None = None


async def _stored(wire: Wire, slug: str, run: str) -> _Status | None:
    """Return a run's status, and why it ended so; None when it is not there."""
    [found] = await patiently(lambda: read(wire, _Status, [(slug, run)]))
    return found
