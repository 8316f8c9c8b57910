"""Timers: queue the turns of one function whose timer is due."""

from stepstream.bus.observe.signals import Signals
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.resolve import fire_timers, hurry_changed

_LOOK_EVERY_S = 1.0
"""How soon timers of other workers' runs are seen; runs of this worker set the function's alarm."""


class Timers:
    """The timers of one function."""

    def __init__(self, wire: Wire, slug: str, signals: Signals) -> None:
        self._wire = wire
        self._signals = signals
        self._slug = slug
        self._is_new = True

    async def once(self) -> float:
        """Fire what is due; return seconds until the next look. At first, also what waits for a deploy: here is one."""
        if self._is_new:
            for where in partitions(self._slug):
                await hurry_changed(self._wire, self._slug, where)
            self._is_new = False
        return min([await self._fire(where) for where in partitions(self._slug)])

    async def _fire(self, where: str) -> float:
        fired = await fire_timers(self._wire, self._slug, where)
        for member in fired.dropped:
            self._signals.notice("a timer makes no sense; it is dropped", function=self._slug, timer=member)
        if fired.more:
            return 0.0
        return _LOOK_EVERY_S if fired.next_ms is None else min(_LOOK_EVERY_S, (fired.next_ms + 1) / 1_000)
