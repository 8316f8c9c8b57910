"""Waiting: a step waits until its value comes, its time is over, or the author's code cancels its task."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from stepstream.consumers.turn.turn import Turn


@asynccontextmanager
async def waiting(
    turn: Turn, step: str, kind: str, what: bytes = b"", give_name_up: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[None]:
    """Put the wait in this block; it notes a cancelled task as given up, and gives up the name it waits under."""
    turn.state.waits.add(step)
    try:
        yield
    except asyncio.CancelledError:
        if not turn.over:
            with turn.activity:
                await turn.recorder.note_given_up(step, kind, what)
                if give_name_up is not None:
                    await give_name_up()
        raise
    finally:
        turn.waits_no_more(step)
