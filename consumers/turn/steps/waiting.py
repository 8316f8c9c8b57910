"""Waiting: a step waits until its value comes, its time is over, or the author's code cancels its task."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from stepstream.checkpoint.run.memo import Open
from stepstream.checkpoint.run.save import note_open
from stepstream.consumers.turn.interrupts import TurnOver
from stepstream.consumers.turn.turn import Turn


@asynccontextmanager
async def waiting(
    turn: Turn, step: str, kind: str, what: bytes = b"", give_name_up: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[None]:
    """Wait inside, as is noted. When the author's code cancels the task, the step is given up, and so is its name."""
    try:
        yield
    except asyncio.CancelledError:
        if not turn.over:
            with turn.at_work():
                await give_up(turn, step, kind, what)
                if give_name_up is not None:
                    await give_name_up()
        raise


async def give_up(turn: Turn, step: str, kind: str, what: bytes = b"") -> None:
    """Note that the author's code has cancelled a step's task: a replay lets it wait until that happens again.

    The loser of a race would else wait on, under a name that nobody else may have, or begin anew in every replay.
    """
    known = turn.open.get(step) or Open(turn.server_now(), kind)
    due, since = "" if known.due is None else str(known.due), str(known.since)
    noted = await note_open(
        turn.wire, turn.owned, step, kind, due=due, attempt=known.attempt, error=known.error, since=since, what=what,
        given_up=True,
    )  # fmt: skip
    if noted.word != "mine":
        turn.refused(noted.word)
        raise TurnOver
