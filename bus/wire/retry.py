"""Living through a server that is away: full jitter, and at most ten connection attempts a second in a process."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
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
    """Spaces the connection attempts of a process: one at a time, and with pauses after one has failed.

    When a server dies all connections of a process break in one moment; each would try at once (reliability T26).
    """

    def __init__(self, least_gap: float = 0.2) -> None:
        self._least_gap = least_gap
        self._attempt = asyncio.Lock()
        self._next = 0.0
        self._tries = 0

    @contextlib.asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """Wait for the turn of an attempt, which is what happens inside; StoreUnavailable there is its failure."""
        async with self._attempt:
            await asyncio.sleep(self._next - time.monotonic())
            try:
                yield
            except StoreUnavailable:
                self._tries += 1
                self._next = time.monotonic() + max(self._least_gap, pause(self._tries))
                raise
            self._tries = 0
            self._next = 0.0
