"""HandingOut: a handler is handed what its steps ended with one at a time, and looked at when it is idle.

In a replay steps must finish in the order in which they finished first. So memos are handed out in order of `n`, the
next one only when the run is idle again; and so are those of steps that end now, side by side. What then becomes of a
run that awaits waiting steps alone is for whoever called its handler: a worker's turn suspends (suspension.py), a call
over HTTP is answered (consumers/served).
"""

import asyncio
import contextvars
import heapq
from abc import ABC, abstractmethod

from stepstream.checkpoint.run.memo import Memo
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.activity import Activity, IdleTimer
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks

UNKNOWN_WAIT_S = 0.25
"""How long a run that waits may beside that await something that is not a step."""


class HandingOut(ABC):
    """The requested memos of one turn, or call; what its steps wait for beside them is known to who inherits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state: RunState, tasks: RunTasks, activity: Activity) -> None:
        self._loop = loop
        self._state = state
        self._tasks = tasks
        self._activity = activity
        self._idle = IdleTimer(loop, self._decide)
        self._requests: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap by `n`, then by who asked first: a run may ask for a thousand memos at once."""
        self._requested = 0

    def close(self) -> None:
        """Nothing is handed out any more, and nothing refers back to the run's steps."""
        self._requests.clear()
        self._idle.stop()
        self._activity.idle = None

    async def next_memo(self, step: str) -> Memo:
        """Return a memo that is there; memos are handed out in order of `n`."""
        memo = self._state.memos[step]
        await self._handed(memo.n)
        return memo

    async def in_order(self, n: int) -> None:
        """Let a step that has ended in this turn go on: at once, unless the handler is still at work on another's end.

        Code that races steps would else see two of them end at once, but in a replay only the first.
        """
        if self._state.is_settled:
            self._state.is_settled = False
            self._wait_for_idle()
        else:
            await self._handed(n)

    async def _handed(self, n: int) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._requested += 1
        heapq.heappush(self._requests, (n, self._requested, future))
        self._state.is_settled = False
        self._wait_for_idle()
        await future

    def _wait_for_idle(self) -> None:
        """Decide what is next once the run is idle, however often it is busy before."""
        self._activity.idle = self._idle
        self._idle.restart()

    def _decide(self) -> None:
        """The run is idle: hand out the next memo in order of `n`, or go on with what waits beside that."""
        if self._is_decided():
            return
        while self._requests and self._requests[0][2].done():  # its task was cancelled
            heapq.heappop(self._requests)
        if self._requests:
            n, _, future = self._requests[0]
            if all(came > n for came in self._state.came.values()):
                heapq.heappop(self._requests)
                future.set_result(None)
                self._idle.restart()
            # Else a step that ended before still notes or arms its wait: what it does then is activity.
        else:
            self._state.is_settled = True
            self._nothing_left()

    def _look(self, patience_s: float = UNKNOWN_WAIT_S) -> None:
        """Come to rest when every task of the run awaits a waiting step; after `patience_s` whatever else they await.

        Not when the run does something meanwhile.
        """
        try:
            unknown = idle_detection.unknown_waits(self._tasks.alive, self._is_ours)
        except idle_detection.Busy:
            self._loop.call_later(0.001, self._idle.restart, context=contextvars.Context())
            return
        if unknown:
            self._loop.call_later(
                patience_s, self._look_again, self._activity.count, unknown, context=contextvars.Context()
            )
        else:
            self._rests([])

    def _look_again(self, count: int, unknown: list[str]) -> None:
        if not self._has_moved_since(count):
            self._rests(unknown)

    def _has_moved_since(self, count: int) -> bool:
        return self._is_decided() or self._activity.count != count or self._activity.under_way > 0

    def _is_decided(self) -> bool:
        """Whether the turn has ended, or is being ended."""
        return self._state.over

    @abstractmethod
    def _is_ours(self, future: object) -> bool:
        """Return whether a step waits on this."""

    @abstractmethod
    def _nothing_left(self) -> None:
        """No memo is asked for: look at what waits, or do not."""

    @abstractmethod
    def _rests(self, unknown: list[str]) -> None:
        """Every task of the run awaits a waiting step, but for those that await something else, at these places."""
