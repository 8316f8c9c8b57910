"""The local driver: call a Python handler with its context and steps, and tell as data what came of it."""

import asyncio
import traceback

import msgspec

from stepstream.bus.context import Context
from stepstream.bus.errors import EventInvalid, NonRetriable, RetryAfter, StepFailed
from stepstream.bus.retry import asked_delay_ms
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson
from stepstream.checkpoint.run.memo import Failure, leaves, of_redis
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.steps.facade import TurnStep
from stepstream.consumers.turn.turn import Turn


class Returned(msgspec.Struct, frozen=True):
    """The handler returned: its output as JSON."""

    output: bytes


class Raised(msgspec.Struct, frozen=True):
    """The handler raised; `delay_ms` until the next attempt, None when there is none."""

    failure: Failure
    delay_ms: int | None


class Left(msgspec.Struct, frozen=True):
    """The turn ended under the handler; whoever ended it has told the executor how."""


Outcome = Returned | Raised | Left


async def call(turn: Turn, state: object) -> Outcome:
    """Call the handler once, in the current task, whatever it does; never raises."""
    task = turn.main
    assert task is not None
    if turn.over:  # given up before it began
        return Left()
    token = idle_detection.current.set(turn)
    turn.tasks.add(task)
    try:
        return await _call(turn, state)
    except asyncio.CancelledError as error:
        _let_go(error)
        if turn.over:
            task.uncancel()
            return Left()
        if task.cancelling():  # the worker is being torn down from outside
            task.uncancel()
            turn.part("abandoned")
            return Left()
        return _raised(turn, RuntimeError("the function was cancelled from inside: something it awaited was cancelled"))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - TurnOver, exit(), groups of them: nothing a handler raises may end the worker
        if not turn.over and (of_store := of_redis(error)) is not None:
            turn.give_up(of_store)
        outcome = Left() if turn.over else _raised(turn, error)
        _let_go(error)
        return outcome
    finally:
        idle_detection.current.reset(token)
        turn.tasks.discard(task)  # the handler has ended; its task goes on with the engine's work


async def _call(turn: Turn, state: object) -> Outcome:
    event = turn.event
    try:
        several = [one.typed(turn.function.kind_of(one.name)) for one in event.several()]
    except EventInvalid as error:
        # Trying again cannot mend the event: no retry.
        return Raised(Failure("event_invalid", str(error)), None)
    context = Context(
        event=several[0],
        events=several,
        run_id=turn.owned.run,
        function=turn.function.slug,
        attempt=turn.attempt,
        state=state,
        replaying=turn.replaying,
        tell_progress=turn.tell_progress,
    )
    if turn.open:
        await _save_due_sleeps(turn)
    result = await turn.function.handler(context, TurnStep(turn))
    if turn.over:  # it swallowed the interrupt: nothing it says counts
        return Left()
    if turn.uncalled:
        turn.changed()
        return Left()
    try:
        output = codec.encode(result)
    except NotJson as error:
        return Raised(Failure("NonRetriable", f"the function's result is not JSON: {error}"), None)
    return Returned(output)


async def _save_due_sleeps(turn: Turn) -> None:
    """The turn itself records the sleeps that are due, in order of due, before the handler sees any memo."""
    now = turn.server_now()
    due = sorted(
        (noted.due, step)
        for step, noted in turn.open.items()
        if noted.kind == "sleep"
        and noted.due is not None
        and noted.due <= now
        and step not in turn.memos
        and not noted.given_up
    )
    for _, step in due:
        with turn.at_work():
            await turn.record_sleep(step)


def _let_go(error: BaseException) -> None:
    """Empty the frames an error has come through: task groups, and many authors, keep it in one of them.

    It then refers to itself, and to all the handler held, until the garbage collector comes by.
    """
    traceback.clear_frames(error.__traceback__)


def _raised(turn: Turn, error: BaseException) -> Raised:
    failure = Failure.of(error)
    retry = turn.function.retry
    is_final = any(isinstance(leaf, NonRetriable | StepFailed) for leaf in leaves(error))
    if is_final or turn.attempt >= retry.retries:
        return Raised(failure, None)
    asked = next((leaf for leaf in leaves(error) if isinstance(leaf, RetryAfter)), None)
    return Raised(failure, asked_delay_ms(asked) if asked is not None else retry.delay_ms(turn.attempt))
