"""What a replay costs: memos are handed out one at a time, however many are asked for at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bus import Context, Step
from tests.support import Lab

STEPS = 900


async def in_a_row(step: Step) -> None:
    for n in range(STEPS):
        await step.run(f"step {n}", int)


async def side_by_side(step: Step) -> None:
    await asyncio.gather(*(step.run(f"step {n}", int) for n in range(STEPS)))


def declare(lab: Lab, name: str, take: Callable[[Step], Awaitable[None]]) -> list[float]:
    """Declare a function whose runs are replayed three times; return how long each turn took, seconds."""
    took: list[float] = []

    @lab.app.function(name, on=f"shop/{name}")
    async def many(ctx: Context[dict], step: Step) -> None:
        started = time.perf_counter()
        await take(step)
        took.append(time.perf_counter() - started)
        for nap in ("one", "two", "three"):
            await step.sleep(nap, 0.01)

    return took


async def test_replaying_parallel_memos_costs_what_sequential_ones_cost(lab: Lab) -> None:
    """Each hand-out looked through all that was asked for: 990 side by side took 9 times as long as in a row."""
    row, side = declare(lab, "row", in_a_row), declare(lab, "side", side_by_side)
    await lab.work()
    await lab.send("shop/row")
    assert (await lab.ended(1))[0].status == "completed"
    await lab.send("shop/side")
    await lab.ended(2)
    assert min(side[1:]) < 4 * min(row[1:]), (side, row)
