"""Trouble: whether Redis serves this process, told once for each state it is in, and once when it serves again.

All connections of a process meet the same trouble; what waits for Redis says nothing of it by itself.
"""

import time
from typing import Protocol

from bus.errors import RightMissing, StoreUnavailable

CALM_S = 2.0
"""How long nothing may be refused or break before the trouble is over: connections come back one by one."""


class Notice(Protocol):
    """How an operator is told something: what happened, in words, and its fields."""

    def __call__(self, event: str, **fields: object) -> None:
        """Tell it."""


def silent(event: str, **fields: object) -> None:
    """Tell nobody."""


class Trouble:
    """What has gone wrong since Redis last served all that was asked of it."""

    def __init__(self, notice: Notice) -> None:
        self.is_on = False
        self._notice = notice
        self._told: set[str] = set()
        self._began = 0.0
        self._met = 0.0

    def met(self, error: StoreUnavailable) -> None:
        """A command was refused, or its connection broke or did not open."""
        self._met = time.monotonic()
        if not self.is_on:
            self.is_on = True
            self._began = self._met
        told = str(error) if isinstance(error, RightMissing) else error.state
        if told not in self._told:
            self._told.add(told)
            self._notice("Redis does not serve now; what needs it waits", state=error.state, error=str(error))

    def served(self) -> None:
        """A command was served; called while there is trouble."""
        if time.monotonic() - self._met < CALM_S:
            return
        self.is_on = False
        self._told.clear()
        self._notice("Redis serves again", seconds=round(self._met - self._began, 1))
