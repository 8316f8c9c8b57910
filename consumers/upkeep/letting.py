"""Letting: lets one run of a paused function go on of which people want that, by a worker that can read it.

A loop of its own, beside the one that follows what is ordered: it waits for leases, and a worker that is refused them
goes on to pause and to resume meanwhile.
"""

import asyncio
from collections.abc import Awaitable

from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.wire.leases import Lease
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.run_one import claim_one, leave_one
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.feeds import Feeds
from stepstream.consumers.delivery.wakeup import Wakeup

_AGAIN_S = 5.0
_NEVER_S = 86_400.0


class Letting:
    """Lets runs of one worker's paused functions through; `ordered` is rung when somebody may want that."""

    def __init__(self, wire: Wire, signals: Signals, feeds: Feeds, ordered: Wakeup) -> None:
        self._wire = wire
        self._signals = signals
        self._feeds = feeds
        self._ordered = ordered

    async def run(self) -> None:
        """Look whenever it is rung, and when a lease comes that was missing, until cancelled."""
        failing = Failing(self._signals, "letting one run through failed")
        while True:
            missing: list[Lease] = []
            next_s = _AGAIN_S
            with failing:
                missing = await self._look()
                next_s = _NEVER_S
            await _first(self._ordered.wait(next_s), *(lease.renewed() for lease in missing))

    async def _look(self) -> list[Lease]:
        """Let one run of each paused function through that is wanted; return the leases that are waited for.

        Without them nothing is claimed: another worker may have them, and what is claimed it lets alone.
        """
        missing: list[Lease] = []
        for slug in self._feeds.paused_functions():
            if leases := self._feeds.leases_missing(slug):
                missing += leases
                continue
            taken = await claim_one(self._wire, slug, self._wire.name)
            if taken is None:
                continue
            if self._feeds.leases_missing(slug):  # lost meanwhile
                await leave_one(self._wire, taken)
                missing += self._feeds.leases_missing(slug)
                continue
            found = await self._feeds.let_one_through(slug)
            told = "one run is let through" if found else "none is in line to be let through"
            self._signals.notice(told, function=slug)
        return missing


async def _first(*several: Awaitable[None]) -> None:
    """Wait until one of several has come; the others are given up."""
    waiting = [asyncio.ensure_future(one) for one in several]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(*waiting)
