"""Waiting: a step waits until its value comes, its time is over, or the author's code cancels its task."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from consumers.turn import Turn


@asynccontextmanager
async def waiting(
    turn: Turn, step: str, kind: str, give_name_up: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[None]:
    """Wait inside. When the author's code cancels the task, that is recorded, and the name the step had is given up.

    The loser of a race would else wait on, under a name that nobody else may have.
    """
    try:
        yield
    except asyncio.CancelledError:
        if not turn.over:
            with turn.at_work():
                await turn.save(step, kind, opened=True, unanswered="given_up")
                turn.open.pop(step, None)
                if give_name_up is not None:
                    await give_name_up()
        raise
