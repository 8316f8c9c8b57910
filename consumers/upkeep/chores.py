"""Chores: what a worker does again and again beside running functions. One way to repeat them all."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from stepstream.bus.observe.signals import ChoreDone, Signals
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.wakeup import Alarm


def timed(
    signals: Signals, chore: str, once: Callable[[], Awaitable[float | None]]
) -> Callable[[], Awaitable[float | None]]:
    """Return a chore's round that tells who listens how long it took."""

    async def round_timed() -> float | None:
        if not signals.chore_done:
            return await once()
        begun = time.monotonic()
        try:
            return await once()
        finally:
            signals.chore_done.send(ChoreDone(chore, (time.monotonic() - begun) * 1_000))

    return round_timed


class Chore:
    """Calls `once` until stop(). A round returns in how many seconds the next is due, or None for `every_s`.

    A round that fails is told of once by `failing` (None: `once` raises nothing), and the next comes after `every_s`
    all the same. Whoever sets the alarm has the next round earlier.
    """

    def __init__(
        self,
        once: Callable[[], Awaitable[float | None]],
        failing: Failing | None,
        *,
        every_s: float = 1.0,
        first_s: float = 0.0,
        alarm: Alarm | None = None,
    ) -> None:
        self.alarm = alarm or Alarm()
        self._once = once
        self._failing = failing or contextlib.nullcontext()
        self._every_s = every_s
        self._first_s = first_s
        self._stopping = False

    def stop(self) -> None:
        """Begin no other round."""
        self._stopping = True
        self.alarm.expect(0)

    async def run(self) -> None:
        """Repeat until stop()."""
        await asyncio.sleep(self._first_s)
        while not self._stopping:
            next_s = None
            with self._failing:
                next_s = await self._once()
            if not self._stopping:
                await self.alarm.wait(self._every_s if next_s is None else next_s)
