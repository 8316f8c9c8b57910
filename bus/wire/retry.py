"""Living through a server that is away: full jitter, and at most ten connection attempts a second in a process."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bus.errors import StoreUnavailable

R = TypeVar("R")

_FIRST, _LONGEST = 0.05, 2.0


def pause(tries: int) -> float:
    """Return how long to wait after `tries` failures, seconds: full jitter under a doubling ceiling of 2 s."""
    return random.uniform(0.2, 1.0) * min(_LONGEST, _FIRST * 2 ** min(tries, 10))


async def patiently(call: Callable[[], Awaitable[R]], patience: float | None = None) -> R:
    """Call until Redis answers; only for calls whose repetition is harmless.

    `patience` in seconds bounds it: then the last StoreUnavailable is raised. None: for ever.
    """
    started = time.monotonic()
    tries = 0
    while True:
        try:
            return await call()
        except StoreUnavailable:
            tries += 1
            wait = pause(tries)
            if patience is not None and time.monotonic() - started + wait > patience:
                raise
            await asyncio.sleep(wait)


class Pace:
    """Spaces the connection attempts of a process after one has failed."""

    def __init__(self, least_gap: float = 0.2) -> None:
        self._least_gap = least_gap
        self._next = 0.0
        self._tries = 0

    async def turn(self) -> None:
        """Wait for the next attempt's turn; at once while all goes well."""
        now = time.monotonic()
        if self._tries == 0 and now >= self._next:
            return
        at = max(now, self._next)
        self._next = at + self._least_gap
        await asyncio.sleep(at - now)

    def failed(self) -> None:
        """An attempt failed: the following ones wait."""
        self._tries += 1
        self._next = max(self._next, time.monotonic() + pause(self._tries))

    def succeeded(self) -> None:
        """An attempt succeeded."""
        self._tries = 0
        self._next = 0.0
