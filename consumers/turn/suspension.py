"""Suspension: what becomes of a run that is idle: it is handed its next memo, or it suspends.

When every task of the run awaits a waiting step, the turn ends.
"""

import asyncio
import contextvars
from typing import Any

from stepstream.checkpoint.run.memo import Memo
from stepstream.consumers.delivery.background import outside
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.exit import CodeChanged
from stepstream.consumers.turn.handing_out import HandingOut
from stepstream.consumers.turn.recorder import Recorder
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks

GIVEN_UP_WAIT_S = 60.0
"""How long a turn may wait for nothing but a step it had given up: for the deadline that cancelled it, perhaps."""


class Suspension(HandingOut):
    """The waiting steps and the requested memos of one turn; made when its run first waits or replays."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: RunState,
        tasks: RunTasks,
        activity: Activity,
        recorder: Recorder,
    ) -> None:
        super().__init__(loop, state, tasks, activity)
        self._recorder = recorder
        self._due: dict[asyncio.Future[Any], int] = {}
        """When each waiting step is due, by what it waits on."""
        self._held: dict[asyncio.Future[None], None] = {}
        self._given_up: dict[asyncio.Future[None], None] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._holds = True
        self._suspending: asyncio.Task[None] | None = None

    def close(self) -> None:
        """The turn is over: nothing is handed out any more, and nothing refers back to its steps."""
        super().close()
        if self._patience is not None:
            self._patience.cancel()

    # -- what steps wait for ----------------------------------------------------------------------------------------

    async def let_begin(self, step: str) -> None:
        """Hold back a step that has no memo until it may begin, or go on; by then it may have one.

        A new one waits until the handler has called everything that earlier turns have begun. One that was given up
        waits until its task is cancelled again, or the handler has called all earlier steps and nothing cancelled it:
        then it waits as if new.
        """
        noted = self._state.open.get(step)
        if noted is not None and noted.given_up:
            await self._hold(self._given_up)
        elif noted is None and self._state.uncalled and self._holds:
            await self._hold(self._held)

    async def _hold(self, held: dict[asyncio.Future[None], None]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        held[future] = None
        self._wait_for_idle()
        try:
            await future
        finally:
            held.pop(future, None)

    async def until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:
        """Wait until a step is due, and return None, or until its memo comes, and return that."""
        waiting = self._state.waiting
        future: asyncio.Future[Memo | None] = self._loop.create_future()
        waiting[step] = future
        self._due[future] = due_ms
        alarm = self._loop.call_later(
            max(0.0, (due_ms - now_ms) / 1_000), self._fall_due, future, context=contextvars.Context()
        )
        self._wait_for_idle()
        try:
            return await future
        finally:
            alarm.cancel()
            waiting.pop(step, None)
            self._due.pop(future, None)

    def _fall_due(self, future: "asyncio.Future[Memo | None]") -> None:
        # While the run suspends the timer is the server's to fire: two turns of one run must not begin.
        if self._suspending is None and not future.done():
            future.set_result(None)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def _is_decided(self) -> bool:
        return super()._is_decided() or self._suspending is not None

    def _nothing_left(self) -> None:
        """Let go of what was held back, or look whether the turn can end."""
        is_busy = self._activity.under_way > 0
        if (self._held or self._given_up) and not self._state.uncalled:
            self._let_go(self._held, self._given_up)
        elif (self._due or self._held) and not is_busy:
            self._look()
        elif self._given_up and not is_busy:
            self._await_cancel()
        elif not (self._due or self._held or self._given_up):
            self._activity.idle = None  # nothing waits

    def _let_go(self, *held: dict[asyncio.Future[None], None]) -> None:
        for future in [one for some in held for one in some]:
            if not future.done():
                future.set_result(None)

    def _is_ours(self, future: object) -> bool:
        return future in self._due or future in self._held or future in self._given_up

    def _rests(self, unknown: list[str]) -> None:
        """Suspend, unless the code does not call what earlier turns have begun."""
        if not unknown:
            if self._state.uncalled and self._given_up:
                self._await_cancel()
            elif self._state.uncalled:
                self._end_as_changed()
            else:
                self._begin_suspending()
        elif self._held:  # what earlier turns have begun may be called after something that is not a step
            self._holds = False
            self._let_go(self._held)
        elif self._due:
            self._recorder.notice(
                "beside a waiting step a run awaits something that is not a step: that is cut off, and begins again "
                "later",
                at=unknown,
            )
            self._begin_suspending()

    def _await_cancel(self) -> None:
        """Wait for what cancelled the steps that were given up: a deadline of the author's, say, comes again."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(
            GIVEN_UP_WAIT_S, self._not_cancelled, self._activity.count, context=contextvars.Context()
        )

    def _not_cancelled(self, count: int) -> None:
        if self._has_moved_since(count) or not self._given_up:
            return
        try:
            is_idle = not idle_detection.unknown_waits(self._tasks.alive, self._is_ours)
        except idle_detection.Busy:
            is_idle = False
        if is_idle:
            self._end_as_changed()
        else:
            self._await_cancel()

    # -- ending the turn --------------------------------------------------------------------------------------------

    def _end_as_changed(self) -> None:
        self._recorder.end(CodeChanged(tuple(sorted(self._state.uncalled))))

    def _begin_suspending(self) -> None:
        due = min(self._due.values())
        self._suspending = outside(self._loop, self._suspend(due))

    async def _suspend(self, due_ms: int) -> None:
        if not await self._recorder.suspend(due_ms):
            self._suspending = None
            self._idle.restart()
