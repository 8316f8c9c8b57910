"""What a loop waits for: a Wakeup that others ring, an Alarm that others set. Lower parts call, and the loop waits."""

import asyncio
import math
import time

from stepstream.bus.function import Function


class Wakeup:
    """Lets a loop wait until something may be ready. A ring is remembered until somebody waits for it."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiting loop; at once if it waits, else when it next does."""
        self._rung.set()

    async def wait(self, within_s: float) -> None:
        """Wait until it is rung, at most this many seconds."""
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


class Alarm:
    """Lets a loop wait until the earliest moment that it was set for."""

    def __init__(self) -> None:
        self._at = math.inf
        self._earlier = asyncio.Event()

    def expect(self, in_ms: int) -> None:
        """Something is due in so many milliseconds: do not wait longer."""
        at = time.monotonic() + in_ms / 1_000
        if at < self._at:
            self._at = at
            self._earlier.set()

    async def wait(self, within_s: float) -> None:
        """Wait until the earliest moment it was set for, at most this many seconds."""
        self._at = min(self._at, time.monotonic() + within_s)
        while (left := self._at - time.monotonic()) > 0:
            self._earlier.clear()
            try:
                async with asyncio.timeout(left):
                    await self._earlier.wait()
            except TimeoutError:
                break
        self._at = math.inf


class Alarms:
    """The alarms for the timers of functions, one each: set by their runs, waited for by who fires the timers."""

    def __init__(self) -> None:
        self._alarms: dict[str, Alarm] = {}

    def of(self, slug: str) -> Alarm:
        """Return the alarm of a function."""
        return self._alarms.setdefault(slug, Alarm())

    def expect(self, function: Function, in_ms: int) -> None:
        """A timer of a function is due in so many milliseconds."""
        self.of(function.slug).expect(in_ms)

    def expect_all(self, in_ms: int) -> None:
        """Timers of any function may be due in so many milliseconds."""
        for alarm in self._alarms.values():
            alarm.expect(in_ms)
