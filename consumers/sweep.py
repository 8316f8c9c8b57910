"""Sweep: once a minute, drop what nobody needs: old events, ended runs above the count, waits that are over."""

import asyncio
import random
from collections.abc import Callable

from bus.observe.signals import Signals
from bus.wire.wire import Wire
from checkpoint.retention import AT_ONCE, TRIM_AT_ONCE, forget_workers, tidy_runs, trim_events
from checkpoint.waits import GROUP, end_waits
from consumers.failing import Failing

EVERY_S = 60.0
_FIRST_S = 5.0
_BETWEEN_S = 0.01


class Sweep:
    """The sweep of one worker. `reads` tells the event names it reads, with its groups; `slugs` are its functions."""

    def __init__(
        self, wire: Wire, signals: Signals, slugs: list[str], reads: Callable[[], dict[str, list[str]]]
    ) -> None:
        self._wire = wire
        self._signals = signals
        self._slugs = slugs
        self._reads = reads
        self._told: set[str] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        await asyncio.sleep(random.uniform(0, _FIRST_S))
        failing = Failing(self._signals, "sweeping failed")
        while True:
            with failing:
                await self.once()
            await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))

    async def once(self) -> None:
        """Sweep everything once."""
        for slug in self._slugs:
            forgotten = AT_ONCE
            while forgotten >= AT_ONCE:
                forgotten = await tidy_runs(self._wire, slug)
                await asyncio.sleep(_BETWEEN_S)
        for name, groups in self._reads().items():
            dropped, holder = TRIM_AT_ONCE, ""
            while dropped >= TRIM_AT_ONCE // 2:
                dropped, holder = await trim_events(self._wire, name, groups)
                await asyncio.sleep(_BETWEEN_S)
            self._tell(name, holder)
            if GROUP in groups:
                await end_waits(self._wire, name)
        await forget_workers(self._wire, await self._wire.clock())

    def _tell(self, name: str, holder: str) -> None:
        """Say once which group keeps old events from being dropped: a function without a worker, mostly."""
        if holder and f"{name} {holder}" not in self._told:
            self._told.add(f"{name} {holder}")
            self._signals.notice(
                "old events are kept: a group has not done with them; if its function is no more: bus functions forget",
                name=name,
                group=holder,
            )
