"""The local driver: call a Python handler in this process, with its context and steps."""

import asyncio
import traceback

from stepstream.bus.context import Context
from stepstream.bus.errors import ConfigError, EventInvalid, NonRetriable, RetryAfter, StepFailed
from stepstream.bus.process import scope
from stepstream.bus.retry import asked_delay_ms
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson
from stepstream.checkpoint.run.memo import Failure, leaves, of_redis
from stepstream.consumers.drivers.contract import Call, Outcome, Raised, Returned, Stopped
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.exit import Abandoned, CodeChanged
from stepstream.consumers.turn.steps.facade import TurnStep
from stepstream.consumers.turn.turn import Turn


class LocalDriver:
    """Calls handlers of one bus; `state` is what its lifespan has yielded, the handlers' `ctx.state`."""

    def __init__(self, state: object) -> None:
        self._state = state

    async def call(self, call: Call, turn: Turn) -> Outcome:
        """Call the handler once, in the current task, whatever it does; never raises."""
        task = turn.tasks.main
        assert task is not None
        token = idle_detection.current.set(turn.tasks)
        in_run = scope.current.set(turn.log)
        try:
            return await self._call(call, turn)
        except asyncio.CancelledError as error:
            _clear_frames(error)
            if turn.over:
                task.uncancel()
                return Stopped()
            if task.cancelling():  # the worker is being torn down from outside
                task.uncancel()
                turn.recorder.end(Abandoned())
                return Stopped()
            return _raised(
                RuntimeError("the function was cancelled from inside: something it awaited was cancelled"),
                turn.state.server_now(),
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - TurnOver, exit(), groups of them: nothing a handler raises may end the worker
            if not turn.over and (of_store := of_redis(error)) is not None:
                turn.recorder.abandon(of_store)
            outcome = Stopped() if turn.over else _raised(error, turn.state.server_now())
            _clear_frames(error)
            return outcome
        finally:
            idle_detection.current.reset(token)
            scope.current.reset(in_run)

    async def _call(self, call: Call, turn: Turn) -> Outcome:
        event = call.event
        try:
            several = [call.function.typed(one) for one in event.several()]
        except EventInvalid as error:
            # Trying again cannot mend the event: no retry.
            return Raised(Failure("event_invalid", str(error)), is_final=True)
        context = Context(
            event=several[0],
            events=several,
            run_id=call.run,
            function=call.function.slug,
            attempt=call.attempt,
            state=self._state,
            replaying=turn.state.replaying,
            tell_progress=turn.recorder.tell_progress,
        )
        if call.open:
            await turn.save_due_sleeps()
        result = await call.function.handler(context, TurnStep(turn))
        if turn.over:  # it swallowed the interrupt: nothing it says counts
            return Stopped()
        if turn.state.uncalled:
            turn.recorder.end(CodeChanged(tuple(sorted(turn.state.uncalled))))
            return Stopped()
        try:
            output = codec.encode(result)
        except NotJson as error:
            return Raised(Failure("NonRetriable", f"the function's result is not JSON: {error}"), is_final=True)
        return Returned(output)


def _clear_frames(error: BaseException) -> None:
    """Empty the frames an error has come through: task groups, and many authors, keep it in one of them.

    It then refers to itself, and to all the handler held, until the garbage collector comes by.
    """
    traceback.clear_frames(error.__traceback__)


def _raised(error: BaseException, now: int) -> Raised:
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
