"""Trouble: whether Redis serves this process, told once for each state it is in, and once when it serves again.

All connections of a process meet the same trouble; what waits for Redis says nothing of it by itself.
"""

import asyncio
import math
import time
from typing import NoReturn, Protocol

from stepstream.bus.errors import RightMissing, StoreUnavailable

CALM_S = 2.0
"""How long nothing may be refused or break before the trouble is over: connections come back one by one."""
AGAIN_S = 60.0
"""How soon a state that comes and goes is told again."""
_REOPENS_S = 1.0


class Notice(Protocol):
    """How an operator is told something: what happened, in words, and its fields."""

    def __call__(self, event: str, **fields: object) -> None:
        """Tell it."""


def silent(event: str, **fields: object) -> None:
    """Tell nobody."""


class Trouble:
    """What has gone wrong since Redis last served all that was asked of it; `where` is its address, without secrets."""

    def __init__(self, where: str, notice: Notice) -> None:
        self.is_on = False
        self.times = 0
        """How often there was trouble. A server that was restarted, or is another now, was away for a moment."""
        self._where = where
        self._notice = notice
        self._told: dict[str, float] = {}
        self._is_told = False
        self._began = 0.0
        self._met = 0.0
        self._error = StoreUnavailable("Redis serves")
        self._begins = asyncio.Event()

    def met(self, error: StoreUnavailable) -> None:
        """A command was refused, or its connection broke or did not open."""
        self._met, self._error = time.monotonic(), error
        if not self.is_on:
            self.is_on = True
            self.times += 1
            self._began = self._met
            self._begins.set()
        if error.state == "lost" and self._met - self._began < _REOPENS_S:
            return  # it opens again; or that it does not is told
        word = str(error) if isinstance(error, RightMissing) else error.state
        if self._met >= self._told.get(word, 0.0):
            self._is_told = True
            self._told[word] = math.inf
            self._notice(
                "Redis does not serve now; what needs it waits", redis=self._where, state=error.state, error=str(error)
            )

    def served(self) -> None:
        """A command was served; called while there is trouble."""
        now = time.monotonic()
        if now - self._met < CALM_S:
            return
        self.is_on = False
        self._begins.clear()
        self._told = {word: min(until, now + AGAIN_S) for word, until in self._told.items() if until > now}
        if self._is_told:
            self._is_told = False
            self._notice("Redis serves again", redis=self._where, seconds=round(self._met - self._began, 1))

    async def lasts(self, seconds: float) -> NoReturn:
        """Wait until one trouble has lasted so long; raises what was met last."""
        while True:
            await self._begins.wait()
            times = self.times
            await asyncio.sleep(self._began + seconds - time.monotonic())
            if self.is_on and self.times == times:
                raise self._error
