"""Activity: what a run has under way between two waits, when it has come to rest, and what if Redis fails under it."""

import asyncio
import contextvars
from collections.abc import Callable
from types import TracebackType

from stepstream.bus.errors import StoreError, StoreUnavailable
from stepstream.consumers.turn.exit import TurnOver
from stepstream.consumers.turn.state import RunState

_ITERATIONS = 10
"""After a step has ended, what follows (gather, a task group, the handler) needs some iterations of the loop before it
makes its next step. Ten of them without a step doing anything is idle (measured)."""


class IdleTimer:
    """Calls `when_idle` ten iterations of the loop after the last restart()."""

    __slots__ = ("_calm", "_is_running", "_loop", "_when_idle")

    def __init__(self, loop: asyncio.AbstractEventLoop, when_idle: Callable[[], None]) -> None:
        self._loop = loop
        self._when_idle = when_idle
        self._calm = 0
        self._is_running = False

    def restart(self) -> None:
        """Something happened: begin to count anew."""
        self._calm = 0
        if not self._is_running:
            self._is_running = True
            self._loop.call_soon(self._count, context=contextvars.Context())

    def stop(self) -> None:
        """Call nobody any more, and forget who would be called."""
        self._when_idle = _nothing

    def _count(self) -> None:
        self._calm += 1
        if self._calm < _ITERATIONS:
            self._loop.call_soon(self._count, context=contextvars.Context())
            return
        self._is_running = False
        self._when_idle()


def _nothing() -> None:
    pass


class Activity:
    """`with activity:` stands around each step's body and around all that a run asks of Redis; no run suspends inside.

    An error of Redis that comes out of it is not the author's: `abandon` is told, and no attempt is used up.
    """

    __slots__ = ("_abandon", "_state", "count", "idle", "under_way")

    def __init__(self, state: RunState, abandon: Callable[[StoreError | StoreUnavailable], None]) -> None:
        self._state = state
        self._abandon = abandon
        self.under_way = 0
        """Bodies, saves and notes that have not ended."""
        self.count = 0
        """Grows with whatever a step of the run does: a run whose count stands still is idle."""
        self.idle: IdleTimer | None = None
        """Started again whenever something has ended; None while nothing waits for the run to be idle."""

    def __enter__(self) -> None:
        """Begin; TurnOver when the turn has ended."""
        if self._state.over:
            raise TurnOver
        self.under_way += 1
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End; TurnOver in place of an error of Redis."""
        self.under_way -= 1
        self.count += 1
        if self.idle is not None:
            self.idle.restart()
        if isinstance(error, StoreError | StoreUnavailable):
            self._abandon(error)
            raise TurnOver from None
