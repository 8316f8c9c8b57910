"""Recorder: every fenced write of one turn goes through it, and it alone ends the turn.

A fenced script says whether the turn is still the run's. When it is not, when the run is cancelled, or when Redis
fails, the turn ends here: from then on every `step.…` raises TurnOver, runs nothing and records nothing.
"""

import asyncio
import contextvars
from typing import Any, cast

from stepstream.bus.errors import BusError, NonRetriable, StoreError, StoreUnavailable
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import RunSuspended, StepSaved, WriteRefused
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.run.bringing import NOT_HERE, memos_brought
from stepstream.checkpoint.run.end import Leaves, end, timed_out
from stepstream.checkpoint.run.memo import Failure, Memo, Open
from stepstream.checkpoint.run.owned import Owned, Word
from stepstream.checkpoint.run.save import FULL, Noted, note_open, save, tell_armed, tell_open, tell_progress
from stepstream.checkpoint.run.suspend import SuspendReply, suspend
from stepstream.consumers.delivery.background import outside
from stepstream.consumers.delivery.failing import FAILED
from stepstream.consumers.turn.exit import (
    Abandoned,
    Ended,
    Refused,
    Suspended,
    TryAgain,
    TurnExit,
    TurnOver,
    not_here,
)
from stepstream.consumers.turn.progress import Progress
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks


class Recorder:
    """The writes of one turn, under its fence. `exit` has how it ended, once its tasks have."""

    __slots__ = ("_expiry", "_loop", "_progress", "_state", "_tasks", "_wire", "exit", "function", "owned", "signals")

    def __init__(self, services: Services, function: Function, owned: Owned, state: RunState, tasks: RunTasks) -> None:
        self.function = function
        self.owned = owned
        self.signals = services.signals
        self.exit: asyncio.Future[TurnExit] = services.loop.create_future()
        self._wire: Wire = services.wire
        self._loop = services.loop
        self._state = state
        self._tasks = tasks
        self._progress: Progress | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def notice(self, message: str, **fields: Any) -> None:
        """Write a log line about this run."""
        self.signals.notice(message, function=self.function.slug, run=self.owned.run, **fields)

    # -- steps ------------------------------------------------------------------------------------------------------

    async def save(
        self,
        step: str,
        kind: str,
        *,
        data: bytes | None = None,
        error: Failure | None = None,
        attempts: int = 1,
        took_ms: int = 0,
        opened: bool = False,
        entry: str = "",
        timed_out: bool = False,
    ) -> Memo | None:
        """Record a memo. Returns None when this call stored it, else the memo that was stored before.

        TurnOver when the turn is over by then.
        """
        state = self._state
        state.has_steps = True
        since = state.open[step].since if attempts > 1 and step in state.open else None
        try:
            saved = await save(
                self._wire, self.owned, step, kind, data=data, error=error, attempts=attempts, took_ms=took_ms,
                since=since, opened=opened, known=state.known, entry=entry, timed_out=timed_out,
            )  # fmt: skip
            resolved = saved.resolved and await memos_brought(self._wire, saved.resolved)
            there = saved.memo and (await memos_brought(self._wire, {step: saved.memo}))[step]
        except NOT_HERE as not_had:
            self.abandon(not_had)
            raise TurnOver from None
        if state.over:
            raise TurnOver
        if saved.word == "mine":
            state.attempt = 0
            state.known = max(state.known, saved.n)
            if state.trace is not None:
                noted = state.open.get(step)
                began = state.server_ns() - took_ms * 1_000_000 if noted is None else noted.since * 1_000_000
                state.trace.saved(
                    step, kind, began=began, now=state.server_ns(), attempts=attempts, error=error, timed_out=timed_out
                )  # fmt: skip
            if saved.cancel is not None:
                self.cancel(saved.cancel)
                raise TurnOver
            if resolved:
                state.resolve(resolved)
            if self.signals.step_saved:
                told = StepSaved(self.function.slug, self.owned.run, step, took_ms, kind, error is not None)
                self.signals.step_saved.send(told)
            return None
        if there is not None:
            return there
        if saved.word == "full":
            raise NonRetriable(FULL[saved.full])
        raise self._refused(saved.word)

    async def take_in(self, memos: dict[str, Memo]) -> None:
        """Take memos that were recorded elsewhere: the steps that wait for them go on."""
        try:
            found = await memos_brought(self._wire, memos)
        except NOT_HERE as error:
            self.abandon(error)
            return
        if not self._state.over:
            self._state.resolve(found)

    async def note(
        self,
        step: str,
        kind: str,
        *,
        due: str,
        attempt: int = 0,
        error: Failure | None = None,
        took_ms: int = 0,
        what: bytes = b"",
    ) -> Noted:
        """Note a wait or a failed attempt (`due` as note_open takes it); TurnOver when the turn is over by then."""
        state = self._state
        state.has_open = True
        since = str(state.open[step].since) if step in state.open else f"-{took_ms}"
        noted = await note_open(
            self._wire, self.owned, step, kind, due=due, attempt=attempt, error=error, since=since, what=what,
            took_ms=took_ms, again=step in state.open,
        )  # fmt: skip
        if state.over:
            raise TurnOver
        if noted.word != "mine":
            raise self._refused(noted.word)
        state.leave_replay()
        state.set_clock(noted.now)
        state.open[step] = Open(since=noted.since, kind=kind, due=noted.due, attempt=attempt, error=error)
        return noted

    async def note_given_up(self, step: str, kind: str, what: bytes = b"") -> None:
        """Note that the author's code has cancelled a step's task: in a replay the step waits until that happens again.

        Without the note the loser of a race would begin anew in every replay, or go on waiting for its event or signal;
        and what a deadline cut off while its result was on the way to Redis would have come in time.
        """
        self._state.has_open = True
        known = self._state.open.get(step) or Open(self._state.server_now(), kind)
        due, since = "" if known.due is None else str(known.due), str(known.since)
        noted = await note_open(
            self._wire, self.owned, step, kind, due=due, attempt=known.attempt, error=known.error, since=since,
            what=what, given_up=True,
        )  # fmt: skip
        if noted.word != "mine":
            raise self._refused(noted.word)

    def tell_armed(self, step: str, kind: str, due: int, what: bytes) -> None:
        """Note, without waiting, that a wait is armed where its event or signal arrives: the next turn need not."""
        since = self._state.open[step].since
        self._state.open[step] = Open(since=since, kind=kind, due=due, armed=True)
        tell_armed(self._wire, self.owned, step, kind, due, since, what)
        self._state.armed(step)

    def tell_slow(self, step: str, attempt: int, took_ms: int) -> None:
        """Note, without waiting, that a step's body takes long; it has run for `took_ms`."""
        self._state.has_open = True
        tell_open(self._wire, self.owned, step, attempt, took_ms)

    def tell_progress(self, progress: bytes) -> None:
        """Show, without waiting, how far the run is (JSON)."""
        if self._progress is None:
            self._progress = Progress(self._loop, self._send_progress)
        self._progress.tell(progress)

    def _send_progress(self, progress: bytes) -> None:
        tell_progress(self._wire, self.owned, progress)

    # -- the run ----------------------------------------------------------------------------------------------------

    async def suspend(self, due_ms: int) -> bool:
        """Let the run wait until `due_ms` (server clock): the turn ends. False: memos have come, and it goes on."""
        try:
            suspended = await suspend(self._wire, self.owned, known=self._state.known, due=str(due_ms))
        except (StoreError, StoreUnavailable) as error:
            self.abandon(error)
            return True
        if self._state.over:
            return True
        if suspended.word == "wake":
            await self.take_in(suspended.resolved)
            return self._state.over
        if suspended.word == "cancel":
            self.cancel(suspended.cancel)
        elif suspended.word == "mine":
            if self._state.trace is not None:
                self._state.trace.suspended()
            if self.signals.run_suspended:
                self.signals.run_suspended.send(RunSuspended(self.function.slug, self.owned.run, suspended.due_in_ms))
            self.end(Suspended(suspended.due_in_ms))
        else:
            self._refused(suspended.word)
        return True

    async def suspend_failed(self, failed: TryAgain, attempt: int, took_ms: int) -> SuspendReply:
        """Record that the turn's code failed and is to be called again; the turn has ended by now, after `took_ms`."""
        return await suspend(
            self._wire, self.owned, known=self._state.known, due=f"+{failed.delay_ms}", attempt=attempt,
            error=failed.failure, failed=(attempt, took_ms) if failed.is_attempt else None,
        )  # fmt: skip

    def end_run(self, ended: Ended, subscribed: str) -> asyncio.Future[Any]:
        """Record how the run ended; its turn has by now. `subscribed`: the statuses that have subscribers."""
        state = self._state
        leaves: Leaves = "steps open" if state.has_open else "steps" if state.has_steps else ""
        return end(
            self._wire, self.owned, ended.status, output=ended.output, error=ended.error, leaves=leaves,
            subscribed=subscribed,
        )  # fmt: skip

    # -- the end of the turn ----------------------------------------------------------------------------------------

    def finish(self, turn_exit: TurnExit) -> None:
        """End the turn, whose code has returned or raised. Tasks it left behind are cancelled, and not waited for."""
        self._close()
        self.exit.set_result(turn_exit)

    def end(self, turn_exit: TurnExit) -> None:
        """End the turn while its code runs, unless it has ended. `exit` is set when its tasks have, or in a second."""
        if not self._state.over:
            self._close()
            outside(self._loop, self._wait_for_tasks(turn_exit))

    async def _wait_for_tasks(self, turn_exit: TurnExit) -> None:
        if lingering := await self._tasks.ended():
            self.notice(
                "a handler goes on after its turn has ended; let it not catch TurnOver or CancelledError", at=lingering
            )
        self.exit.set_result(turn_exit)

    def _close(self) -> None:
        """Refuse every further step and cancel what the run has left running."""
        self._state.over = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._state.forget()
        self._expiry = self._progress = None
        self._tasks.cancel()

    def cancel(self, why: Failure | None) -> None:
        """The run is cancelled: its async bodies stop here, what a thread still does is dropped."""
        self.end(Ended("cancelled", error=why or Failure("cancelled", "asked for while it ran")))

    def expire_in(self, ms: int) -> None:
        """Cancel the run if it has not ended by then."""
        why = timed_out("finish", self.function.timeouts.finish_ms)
        self._expiry = self._loop.call_later(max(0, ms) / 1_000, self.cancel, why, context=contextvars.Context())

    def abandon(self, error: BusError) -> None:
        """Redis failed under the turn: its entry stays pending, and is reclaimed. For what is not here it waits."""
        is_waiting = isinstance(error, NOT_HERE)
        if not self._state.over and not self._wire.is_in_trouble:  # else the wire has logged it, once for all
            self.notice("a run waits for what cannot be read or written" if is_waiting else FAILED, error=str(error))
        self.end(not_here(error) if is_waiting else Abandoned())

    def tell_refused(self, word: str) -> None:
        """Tell who listens that a write of this turn was refused: another turn of the run came, or it has ended."""
        if self.signals.write_refused:
            self.signals.write_refused.send(WriteRefused(self.function.slug, self.owned.run, word))

    def _refused(self, word: Word) -> TurnOver:
        self.tell_refused(word)
        self.end(Refused(cast("Any", word)))
        return TurnOver()
