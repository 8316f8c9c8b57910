"""What a replay costs: memos are handed out one at a time, however many are asked for at once."""

import asyncio
import sys
from types import FrameType

from stepstream import Context, Step
from tests.support import Lab

FEW, MANY = 100, 800


async def test_replaying_parallel_memos_costs_what_their_number_says(lab: Lab) -> None:
    """Each hand-out looked through all that was asked for: 990 side by side took 9 times as long as in a row."""
    calls: dict[int, list[int]] = {FEW: [], MANY: []}

    @lab.app.function("many", on="shop/many")
    async def many(ctx: Context[dict], step: Step) -> None:
        steps, count = ctx.event.data["steps"], 0

        def counted(_frame: FrameType, what: str, _about: object) -> None:
            nonlocal count
            count += what in ("call", "c_call")

        sys.setprofile(counted)
        try:
            await asyncio.gather(*(step.run(f"step {n}", int) for n in range(steps)))
        finally:
            sys.setprofile(None)
        calls[steps].append(count)
        await step.sleep("nap", 0.01)

    await lab.work()
    for done, steps in enumerate((FEW, MANY), 1):
        await lab.send("shop/many", {"steps": steps})
        assert {run.status for run in await lab.ended(done)} == {"completed"}
    replayed = {steps: turns[1] for steps, turns in calls.items()}
    assert replayed[MANY] < 2 * MANY / FEW * replayed[FEW], calls
