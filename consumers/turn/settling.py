"""Settle: let the loop come to rest, then decide: hand out the next memo, or look whether the turn can end.

After a step has ended, what follows (gather, a task group, the handler) needs some turns of the loop before it makes
its next step. Ten turns without a step doing anything is rest (measured).
"""

import asyncio
import contextvars
from collections.abc import Callable

_TURNS = 10


class Settle:
    """Calls `decide` each time a run has come to rest after touch()."""

    __slots__ = ("_calm", "_decide", "_loop", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop, decide: Callable[[], None]) -> None:
        self._loop = loop
        self._decide = decide
        self._calm = 0
        self._scheduled = False

    def touch(self) -> None:
        """Something happened: come to rest again, then decide."""
        self._calm = 0
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn, context=contextvars.Context())

    def end(self) -> None:
        """Decide nothing any more, and let go of who would."""
        self._decide = _nothing

    def _turn(self) -> None:
        self._calm += 1
        if self._calm < _TURNS:
            self._loop.call_soon(self._turn, context=contextvars.Context())
            return
        self._scheduled = False
        self._decide()


def _nothing() -> None:
    pass
