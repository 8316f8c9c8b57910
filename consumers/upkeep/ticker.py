"""Ticker: the schedules of one function. Sleeps until the next tick is due, by the server's clock."""

import asyncio
import contextlib

from stepstream.bus.cron import Cron
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.failing import Failing
from stepstream.producers.cron import tick

_LONGEST_S = 30.0
_AGAIN_S = 1.0


class Ticker:
    """One schedule of one function."""

    def __init__(self, wire: Wire, slug: str, cron: Cron, signals: Signals) -> None:
        self._wire = wire
        self._slug = slug
        self._cron = cron
        self._signals = signals
        self._looked: int | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The server's clock was set: look at it now."""
        self._woken.set()

    async def once(self) -> float:
        """Queue what is due; return seconds until the next tick."""
        looked = await self._wire.moment()
        wait = await tick(self._wire, self._slug, self._cron, self._signals, self._looked)
        self._looked = looked
        return wait / 1_000

    async def run(self) -> None:
        """Tick until cancelled."""
        failing = Failing(self._signals, "a schedule failed", function=self._slug)
        while True:
            wait = _AGAIN_S
            with failing:
                wait = await self.once()
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LONGEST_S, wait)):
                    await self._woken.wait()
