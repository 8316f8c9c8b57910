"""Ticker: the schedules of one function. Sleeps until the next tick is due, by the server's clock."""

import asyncio

from bus.cron import Cron
from bus.errors import BusError, StoreUnavailable
from bus.observe.signals import Signals
from bus.wire.wire import Wire
from producers.cron import tick

_LONGEST_S = 30.0
_AGAIN_S = 1.0


class Ticker:
    """One schedule of one function."""

    def __init__(self, wire: Wire, slug: str, cron: Cron, signals: Signals) -> None:
        self._wire = wire
        self._slug = slug
        self._cron = cron
        self._signals = signals

    async def once(self) -> float:
        """Queue what is due; return seconds until the next tick."""
        return await tick(self._wire, self._slug, self._cron, self._signals) / 1_000

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            try:
                wait = await self.once()
            except StoreUnavailable:
                wait = _AGAIN_S
            except BusError as error:
                self._signals.notice("a schedule failed", function=self._slug, error=str(error))
                wait = _AGAIN_S
            await asyncio.sleep(min(_LONGEST_S, wait))
