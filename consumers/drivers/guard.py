"""Guard: whatever code raises while its turn lives becomes an outcome, for any driver."""

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any

from stepstream.bus.errors import ConfigError, NonRetriable, RetryAfter, StepFailed
from stepstream.bus.process import scope
from stepstream.bus.retry import asked_delay_ms
from stepstream.checkpoint.run.memo import Failure, leaves, of_redis
from stepstream.consumers.drivers.contract import Outcome, Raised, Stopped
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.exit import Abandoned
from stepstream.consumers.turn.turn import Turn


async def guarded(turn: Turn, code: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Await code of a run in the current task, whose tasks are the run's from here on; never raises."""
    task = turn.tasks.main
    assert task is not None
    token = idle_detection.current.set(turn.tasks)
    in_run = scope.current.set(turn.log)
    trace = turn.state.trace
    in_trace = trace.enter() if trace is not None else None
    try:
        return await code
    except asyncio.CancelledError as error:
        _clear_frames(error)
        if turn.over:
            task.uncancel()
            return Stopped()
        if task.cancelling():  # the worker is being torn down from outside
            task.uncancel()
            turn.recorder.end(Abandoned())
            return Stopped()
        return raised(
            RuntimeError("the function was cancelled from inside: something it awaited was cancelled"),
            turn.state.server_now(),
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - TurnOver, exit(), groups of them: nothing a handler raises may end the worker
        if not turn.over and (of_store := of_redis(error)) is not None:
            turn.recorder.abandon(of_store)
        outcome = Stopped() if turn.over else raised(error, turn.state.server_now())
        _clear_frames(error)
        return outcome
    finally:
        if trace is not None:
            trace.leave(in_trace)
        idle_detection.current.reset(token)
        scope.current.reset(in_run)


def _clear_frames(error: BaseException) -> None:
    """Empty the frames an error has come through: task groups, and many authors, keep it in one of them.

    It then refers to itself, and to all the handler held, until the garbage collector comes by.
    """
    traceback.clear_frames(error.__traceback__)


def raised(error: BaseException, now: int) -> Raised:
    """Return what came of a call that raised; a group is final, or asks for a wait, when one inside it does."""
    inner = leaves(error)
    if any(isinstance(leaf, NonRetriable | StepFailed) for leaf in inner):
        is_steps = all(isinstance(leaf, StepFailed) for leaf in inner)
        return Raised(Failure.of(error), is_final=True, is_steps=is_steps)
    asked = next((leaf for leaf in inner if isinstance(leaf, RetryAfter)), None)
    try:
        return Raised(Failure.of(error), asked_ms=asked_delay_ms(asked, now) if asked is not None else None)
    except ConfigError as wrong:  # the wait it asks for makes no sense, and will not at the next attempt
        return Raised(Failure.of(wrong), is_final=True)
