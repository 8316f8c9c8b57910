"""Settlement: what a turn's exit says is recorded, then its entry leaves.

An answer always comes before an acknowledgement, and never in the same write: an acknowledged entry whose end was
refused would be a lost run.
"""

import asyncio
import contextvars
import time
from functools import partial
from typing import Any

from stepstream.bus.observe.signals import RunEnded, RunSuspended
from stepstream.bus.process.failpoints import reached
from stepstream.bus.wire.streams import is_pending_for
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.resolve import CHANGED_AGAIN_MS
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import FAILED, tell
from stepstream.consumers.delivery.wakeup import Alarms
from stepstream.consumers.turn.exit import (
    Abandoned,
    CodeChanged,
    Ended,
    GivenBack,
    Refused,
    Suspended,
    TryAgain,
    TurnExit,
)
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.turn import Turn


class Settlement:
    """Settles the turns of one executor. `alarms` are set for the timers of its functions."""

    def __init__(self, services: Services, exits: Exits, subscriptions: Subscriptions, alarms: Alarms) -> None:
        self._wire = services.wire
        self._signals = services.signals
        self._exits = exits
        self._subscriptions = subscriptions
        self._alarms = alarms
        self._background = Background(services.signals)
        self._ending: set[asyncio.Future[Any]] = set()
        self._context = contextvars.Context()

    def settle(self, turn: Turn, turn_exit: TurnExit) -> None:
        """Record what is to be recorded, and let the entry go when that is done."""
        match turn_exit:
            case Ended():
                self._end(turn, turn_exit)
            case TryAgain():
                self._background.start(self._try_again(turn, turn_exit))
            case Suspended():
                self._alarms.expect(turn.function, turn_exit.due_in_ms)
                self._exits.leave(turn.delivery, "turn over", "park.acked")
            case CodeChanged():
                self._background.start(self._wait_for_deploy(turn, turn_exit))
            case Refused(word="over"):
                self._exits.leave(turn.delivery, "turn over", "park.acked")
            case Refused():
                self._background.start(self._look_again(turn.delivery))
            case GivenBack():
                self._exits.leave(turn.delivery, "given back")
            case Abandoned():
                self._exits.leave(turn.delivery, "lost")

    # -- ends -------------------------------------------------------------------------------------------------------

    def _end(self, turn: Turn, ended: Ended) -> None:
        recorded = turn.recorder.end_run(ended, self._subscriptions.statuses(turn.function))
        self._ending.add(recorded)
        recorded.add_done_callback(partial(self._ended, turn, ended), context=self._context)

    def _ended(self, turn: Turn, ended: Ended, recorded: asyncio.Future[Any]) -> None:
        self._ending.discard(recorded)
        error = recorded.exception()
        if error is not None:
            self._exits.leave(turn.delivery, "lost")
            tell(self._signals, FAILED, error)
            return
        reached("end.replied")
        word = recorded.result()
        if word == b"mine" and turn.state.trace is not None:
            _trace_end(turn, ended)
        if word == b"mine" and ended.has_raised and ended.error is not None:
            turn.tell_failed("", turn.state.attempt, ended.error, None)
        if word == b"mine":
            self._tell_ended(turn, ended)
        else:
            turn.recorder.tell_refused(word.decode())
        if word in (b"mine", b"over"):
            self._exits.leave(turn.delivery, "turn over", "end.acked")
        else:
            self._background.start(self._look_again(turn.delivery))

    def _tell_ended(self, turn: Turn, ended: Ended) -> None:
        if self._signals.run_ended:
            why = (ended.error.told(), ended.error.name) if ended.error is not None else ("", "")
            took_ms = max(0, turn.state.server_now() - turn.state.began)
            owned, trace = turn.owned, turn.event.trace
            self._signals.run_ended.send(RunEnded(owned.slug, owned.run, ended.status, *why, took_ms, trace))

    # -- another turn -----------------------------------------------------------------------------------------------

    async def _try_again(self, turn: Turn, failed: TryAgain) -> None:
        """Let the run wait until its code is called again."""
        before, took_ms = turn.state.attempt, round((time.monotonic() - turn.begun) * 1_000)
        try:
            suspended = await turn.recorder.suspend_failed(failed, before + failed.is_attempt, took_ms)
        except Exception:
            self._exits.leave(turn.delivery, "lost")
            raise
        if suspended.word == "mine":
            if turn.state.trace is not None:
                if failed.is_attempt:
                    _trace_failed(turn, before, failed.failure)
                turn.state.trace.suspended()
            if failed.is_attempt:
                turn.log.write_failed("", before, failed.failure.told(), failed.delay_ms)
                turn.log.flush()
                turn.tell_failed("", before, failed.failure, failed.delay_ms)
            if self._signals.run_suspended:
                self._signals.run_suspended.send(RunSuspended(turn.owned.slug, turn.owned.run, suspended.due_in_ms))
            self._alarms.expect(turn.function, suspended.due_in_ms)
        elif suspended.word != "cancel":
            turn.recorder.tell_refused(suspended.word)
        if suspended.word == "cancel":
            self._end(turn, Ended("cancelled", error=suspended.cancel or Failure("cancelled", "")))
        elif suspended.word in ("mine", "over"):
            self._exits.leave(turn.delivery, "turn over", "end.acked")
        else:
            await self._look_again(turn.delivery)

    async def _wait_for_deploy(self, turn: Turn, changed: CodeChanged) -> None:
        """The function does not call what the run has begun: nothing new was done, and no attempt is used up."""
        steps = ", ".join(changed.steps)
        turn.recorder.notice("the code has changed under a run; it waits for a deploy", steps=steps)
        failure = Failure(
            "code_changed",
            f"the function as it is now does not call {steps}, which this run has begun; it waits for a version "
            "that does: deploy one, or cancel the run",
        )
        await self._try_again(turn, TryAgain(failure, CHANGED_AGAIN_MS, is_attempt=False))

    async def _look_again(self, delivery: Delivery) -> None:
        """A write was refused: is the entry still pending for us? Then it is handled as if it had just come."""
        feed = delivery.feed
        try:
            still_ours = delivery.consumer == feed.lease.consumer and await is_pending_for(
                self._wire, feed.stream, feed.group, delivery.id, delivery.consumer
            )
        except Exception:
            self._exits.leave(delivery, "lost")
            raise
        if still_ours:
            delivery.owner = ""
            feed.handler.begin([delivery])
        else:
            self._exits.leave(delivery, "lost")

    # -- ending -----------------------------------------------------------------------------------------------------

    def under_way(self) -> set[asyncio.Future[Any]]:
        """Return what is not recorded yet."""
        return self._background.tasks | self._ending

    def close(self) -> None:
        """Record nothing more."""
        self._background.cancel()


def _trace_failed(turn: Turn, attempt: int, failure: Failure) -> None:
    """Tell whoever makes spans of an attempt of the code between steps: it began with the turn."""
    state = turn.state
    assert state.trace is not None
    state.trace.failed(attempt, state.server_ns(turn.begun), state.server_ns(), failure)


def _trace_end(turn: Turn, ended: Ended) -> None:
    """Tell whoever makes spans that the run has ended."""
    state = turn.state
    assert state.trace is not None
    if ended.has_raised and ended.error is not None:
        _trace_failed(turn, state.attempt, ended.error)
    state.trace.ended(ended.status, state.server_ns(), ended.error)
