"""IdleTimer: tells when a run has come to rest, so that the next memo is handed out or the run suspends.

After a step has ended, what follows (gather, a task group, the handler) needs some iterations of the loop before it
makes its next step. Ten of them without a step doing anything is idle (measured).
"""

import asyncio
import contextvars
from collections.abc import Callable

_ITERATIONS = 10


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
        """Call nobody any more, and let go of who would be called."""
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
