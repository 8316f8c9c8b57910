"""Timers: queue the turns of one function whose timer is due.

Sleeps until the earliest due it knows of: its own parks tell it, others' are seen within a second.
"""

import asyncio
import time

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.resolve import fire_timers
from stepstream.consumers.delivery.failing import Failing

_LOOK_EVERY_S = 1.0


class Timers:
    """The timers of one function."""

    def __init__(self, wire: Wire, slug: str, signals: Signals) -> None:
        self._wire = wire
        self._signals = signals
        self._failing = Failing(signals, "firing timers failed", function=slug)
        self._slug = slug
        self._stopping = False
        self._next = 0.0
        self._woken = asyncio.Event()

    def expect(self, due_in_ms: int) -> None:
        """A run of ours was parked until then."""
        due = time.monotonic() + due_in_ms / 1_000
        if due < self._next:
            self._next = due
            self._woken.set()

    def stop(self) -> None:
        """Fire no more."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Fire until stop()."""
        while not self._stopping:
            wait = await self._fire()
            self._next = time.monotonic() + wait
            while not self._stopping and (left := self._next - time.monotonic()) > 0:
                self._woken.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._woken.wait()
                except TimeoutError:
                    break

    async def _fire(self) -> float:
        with self._failing:
            fired = await fire_timers(self._wire, self._slug)
            for member in fired.dropped:
                self._signals.notice("a timer makes no sense; it is dropped", function=self._slug, timer=member)
            if fired.more:
                return 0.0
            if fired.next_ms is not None:
                return min(_LOOK_EVERY_S, (fired.next_ms + 1) / 1_000)
        return _LOOK_EVERY_S
