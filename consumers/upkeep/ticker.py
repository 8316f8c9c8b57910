"""Ticker: the schedules of one function. Sleeps until the next tick is due, by the server's clock."""

from stepstream.bus.cron import Cron
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.producers.cron import tick

_LONGEST_S = 30.0


class Ticker:
    """One schedule of one function."""

    def __init__(self, wire: Wire, slug: str, cron: Cron, signals: Signals) -> None:
        self.slug = slug
        self._wire = wire
        self._cron = cron
        self._signals = signals
        self._looked: int | None = None

    async def once(self) -> float:
        """Queue what is due; return seconds until the next look."""
        looked = await self._wire.moment()
        wait = await tick(self._wire, self.slug, self._cron, self._signals, self._looked)
        self._looked = looked
        return min(_LONGEST_S, wait / 1_000)
