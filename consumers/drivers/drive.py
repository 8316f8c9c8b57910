"""Drive: run one turn by a driver; what comes of it is one TurnExit."""

import asyncio

from stepstream.checkpoint.blobs.keeping import is_kept_as_it_is, kept
from stepstream.checkpoint.read.run.bringing import NOT_HERE, event_brought, memos_brought
from stepstream.consumers.delivery.background import outside
from stepstream.consumers.drivers.contract import Call, Driver, Outcome, Raised, Returned, Stopped
from stepstream.consumers.turn.exit import Ended, TryAgain, TurnExit
from stepstream.consumers.turn.turn import Turn


def drive(turn: Turn, driver: Driver) -> asyncio.Future[TurnExit]:
    """Run a turn in a task of its own; the future has how it ended.

    When the code returns or raises, that is known at once. When the turn ends under the code (the recorder says so), it
    follows when the code has gone, or after a second: a handler that swallows the interrupt holds nobody up.
    """
    turn.tasks.main = outside(turn.services.loop, _call(turn, driver))
    return turn.recorder.exit


async def _call(turn: Turn, driver: Driver) -> None:
    state, tasks = turn.state, turn.tasks
    assert tasks.main is not None
    if turn.over:  # given up before it began
        return
    tasks.alive.add(tasks.main)
    try:
        outcome = await _called(turn, driver)
    finally:
        tasks.alive.discard(tasks.main)  # the code has ended; its task goes on with the engine's work
        turn.close()
    if turn.over:
        return
    if forgotten := state.ids.never_awaited():
        turn.recorder.notice("steps were called and never awaited: nothing of them was done", steps=forgotten)
    turn.recorder.finish(_exit(turn, outcome))


async def _called(turn: Turn, driver: Driver) -> Outcome:
    """Call the code with all that it needs; no handler has to do with an error of the codec, or of the store."""
    state = turn.state
    try:
        turn.event = await event_brought(turn.wire, turn.event)
        if state.memos:
            state.memos = await memos_brought(turn.wire, state.memos)
        call = Call(turn.function, turn.run, turn.event, state.attempt, state.memos, state.open)
        outcome = await driver.call(call, turn)
        if turn.over or not isinstance(outcome, Returned) or is_kept_as_it_is(turn.wire, outcome.output):
            return outcome
        return Returned(await kept(turn.wire, turn.owned.slug, turn.run, outcome.output))
    except NOT_HERE as error:
        turn.recorder.abandon(error)
        return Stopped()


def _exit(turn: Turn, outcome: Outcome) -> TurnExit:
    if isinstance(outcome, Returned):
        return Ended("completed", output=outcome.output)
    assert isinstance(outcome, Raised), "the turn has ended when its call was stopped"
    # Each step recorded since the call began has set `attempt` back to 0.
    attempt, retry = turn.state.attempt, turn.function.retry
    if not outcome.has_run:
        return TryAgain(outcome.failure, outcome.asked_ms or retry.delay_ms(0), is_attempt=False)
    if outcome.is_final or attempt >= retry.retries:
        return Ended("failed", error=outcome.failure, has_raised=not outcome.is_steps)
    return TryAgain(outcome.failure, retry.delay_ms(attempt) if outcome.asked_ms is None else outcome.asked_ms)
