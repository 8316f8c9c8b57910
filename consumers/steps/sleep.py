"""Sleep: a wait for a moment. The due is noted with the server's clock; a replay never waits longer."""

from consumers.turn import Turn


async def sleep_step(turn: Turn, step: str, due: str) -> None:
    """Wait until `due` ("+<ms from now>" or "<ms since 1970>"); parks the run unless that comes while it lives."""
    turn.awaited(step)
    if await turn.replayed(step) is not None:
        return
    noted = turn.open.get(step)
    if noted is None or noted.due is None:
        with turn.at_work():
            answer = await turn.note(step, "sleep", due=due)
        due_ms, now_ms = answer.due, answer.now
    else:
        due_ms, now_ms = noted.due, turn.server_now()
    memo = await turn.wait_until(step, due_ms, now_ms)
    if memo is None:
        with turn.at_work():
            await turn.save_sleep(step)
