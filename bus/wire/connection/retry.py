"""Retrying while the server is away: waits with full jitter, and spaced connection attempts in a process."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from stepstream.bus.errors import StoreUnavailable

R = TypeVar("R")

_FIRST, _LONGEST = 0.05, 1.0
_ATTEMPTS_GAP, _ATTEMPTS_LONGEST, _ATTEMPTS_AT_ONCE = 0.2, 0.5, 8


def pause(tries: int, longest: float = _LONGEST) -> float:
    """Return how long to wait after `tries` failures, seconds: random, below a ceiling that doubles.

    The ceiling stays low, so that work goes on within a second after the server is back.
    """
    return random.uniform(0.2, 1.0) * min(longest, _FIRST * 2 ** min(tries, 10))


class Tries:
    """Counts the failed tries of one call."""

    def __init__(self) -> None:
        self._failed = 0

    def pause(self, error: StoreUnavailable) -> float:
        """Return how long to wait before the next try, seconds; 0 where it will wait for a connection anyway."""
        if error.is_paced:
            return 0.0
        self._failed += 1
        return pause(self._failed)


async def patiently(call: Callable[[], Awaitable[R]], patience: float | None = None) -> R:
    """Call until Redis answers; only for calls that are safe to repeat.

    After `patience` seconds the last StoreUnavailable is raised; None waits for ever.
    """
    started = time.monotonic()
    tries = Tries()
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            wait = tries.pause(error)
            if patience is not None and time.monotonic() - started + wait > patience:
                raise
            await asyncio.sleep(wait)


class Pace:
    """Spaces the connection attempts of a process: some at a time, and after a failure one by one with pauses.

    When a server dies, all connections of a process break at the same moment; without this all would reconnect at once.
    """

    def __init__(self) -> None:
        self._some = asyncio.Semaphore(_ATTEMPTS_AT_ONCE)
        self._one = asyncio.Lock()
        self._next = 0.0
        self._tries = 0

    @contextlib.asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """Wait until an attempt may be made, and make it inside; StoreUnavailable raised there is a failed attempt."""
        async with self._some, contextlib.AsyncExitStack() as alone:
            if self._tries:
                await alone.enter_async_context(self._one)
                await asyncio.sleep(self._next - time.monotonic())
            try:
                yield
            except StoreUnavailable:
                self.set_back()
                raise
            self._tries = 0
            self._next = 0.0

    def set_back(self) -> None:
        """Count a failed attempt: the next one waits."""
        self._tries += 1
        self._next = time.monotonic() + max(_ATTEMPTS_GAP, pause(self._tries, _ATTEMPTS_LONGEST))
