"""Sleep: a wait for a moment. The due is noted with the server's clock; a replay never waits longer."""

from stepstream.consumers.turn.steps.waiting import waiting
from stepstream.consumers.turn.turn import Turn


async def sleep_step(turn: Turn, step: str, due: str) -> None:
    """Wait until `due` ("+<ms from now>" or "<ms since 1970>"); the run suspends unless that comes before."""
    turn.awaited(step)
    if await turn.replayed(step, "sleep") is not None:
        return
    async with waiting(turn, step, "sleep"):
        noted = await turn.noted(step, "sleep", due)
        memo = await turn.wait_until(step, noted.due, noted.now)
        if memo is None:
            with turn.activity:
                memo = await turn.save_sleep(step)
    if turn.is_branched:
        await turn.in_order(memo.n if memo is not None else turn.state.known)
