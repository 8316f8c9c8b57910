"""Finding: what the handler of a call waits for when it is idle, and what the bus is told of that.

A handler cannot say that it has called all that it will: that is seen when it is idle. What it waits for then is what
is next. A single step may run here and now; of several the bus is told, and calls for each. After a step that was
called for has ended here, the handler goes on as far as it can: so the bus learns in the same answer whether that one
step was what it waited for, and need not ask after each of many.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from stepstream.checkpoint.run.memo import Memo
from stepstream.consumers.remote.protocol import NEXT, hashed
from stepstream.consumers.served import reply
from stepstream.consumers.served.asked import Asked
from stepstream.consumers.served.reply import Reply
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.handing_out import UNKNOWN_WAIT_S, HandingOut
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks


class Found(NamedTuple):
    """A step that has not ended: what the bus is told of it, and whether it may run here instead."""

    step: str
    op: dict[str, Any]
    runs: bool


class Finding(HandingOut):
    """The steps of one call that have not ended. `answer` is resolved with what the call is answered."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, asked: Asked, state: RunState, tasks: RunTasks, activity: Activity
    ) -> None:
        super().__init__(loop, state, tasks, activity)
        self.answer: asyncio.Future[Reply] = loop.create_future()
        self._asked = asked
        self._found: dict[asyncio.Future[Memo | None], Found] = {}
        """By what they wait on, in the order in which they were called."""
        self._known: set[str] = set()
        """The steps that were found before the one that was called for began."""
        self._done: dict[str, Any] | None = None
        """What is told of the step that was called for, once it has ended."""

    # -- what steps wait for ----------------------------------------------------------------------------------------

    async def until(self, step: str, op: dict[str, Any], *, runs: bool = False) -> Memo | None:
        """Wait until the memo of a step comes, and return it; None when its body is to run here."""
        waiting, future = self._state.waiting, self._loop.create_future()
        waiting[step] = future
        self._found[future] = Found(step, op, runs)
        self._wait_for_idle()
        try:
            memo = await future
        finally:
            waiting.pop(step, None)
            self._found.pop(future, None)
        if memo is not None:
            await self.in_order(memo.n)
        return memo

    # -- answering --------------------------------------------------------------------------------------------------

    def ended(self, told: dict[str, Any]) -> None:
        """The step that was called for has ended, and is recorded: that is told once the handler is idle again."""
        self._done = told
        self._state.repeat()

    def reply(self, given: Reply) -> None:
        """Answer the call, unless it has been: when the step that it was for has ended, with that alone.

        What the handler came to behind it is asked for again.
        """
        if not self.answer.done():
            self.answer.set_result(given if self._done is None else reply.found([reply.racing(self._done)]))

    def fail(self, error: Exception) -> None:
        """Give no answer, for Redis has failed; but what is recorded is told."""
        if self._done is not None:
            self.reply(reply.found([]))
        elif not self.answer.done():
            self.answer.set_exception(error)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def _is_decided(self) -> bool:
        return super()._is_decided() or self.answer.done()

    def _is_ours(self, future: object) -> bool:
        return future in self._found

    def _nothing_left(self) -> None:
        if self._activity.under_way == 0 and (self._found or self._done):
            self._look(UNKNOWN_WAIT_S if self._done is None else 0)

    def _rests(self, unknown: list[str]) -> None:
        waiting = [(future, one) for future, one in self._found.items() if not future.done()]
        if self._done is not None:
            if unknown:  # whatever that is, it begins again when the bus asks
                self.reply(reply.found([]))
            else:
                told = [one for _, one in waiting if one.step not in self._known]
                self.answer.set_result(reply.found([self._done, *self._told(told)]))
        elif self._state.uncalled and not unknown:
            self.reply(reply.changed(sorted(self._state.uncalled)))
        elif self._asked.step == NEXT:
            self._go_on(waiting)
        else:
            self._begin(waiting)

    def _go_on(self, waiting: Sequence[tuple[asyncio.Future[Memo | None], Found]]) -> None:
        """Run the one step that the handler waits for, or tell of those that are to be done."""
        if len(waiting) == 1 and waiting[0][1].runs and self._asked.may_run:
            waiting[0][0].set_result(None)
        else:
            self.reply(reply.found(self._told([one for _, one in waiting])))

    def _begin(self, waiting: Sequence[tuple[asyncio.Future[Memo | None], Found]]) -> None:
        """Run the step that the call is for, if the handler still comes to it."""
        mine = next((future for future, one in waiting if one.runs and hashed(one.step) == self._asked.step), None)
        if mine is None:
            self.reply(reply.not_found(self._asked.step))
        else:
            self._known = {one.step for _, one in waiting}
            mine.set_result(None)

    @staticmethod
    def _told(several: Sequence[Found]) -> list[dict[str, Any]]:
        """Return what is told of steps: of one that runs here its own call tells whether the handler goes on."""
        return [one.op if one.runs else reply.racing(one.op) for one in several]
