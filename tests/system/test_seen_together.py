"""Steps that end in one moment: the code sees them one at a time, in the order in which they were recorded, the first
time as in every replay. Else code that races them would take one branch, and another when it goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from stepstream.bus.context import Context
from stepstream.bus.errors import StepFailed
from stepstream.bus.retry import Retry
from stepstream.bus.step import Step
from stepstream.bus.wire import keys
from tests.support import Lab, eventually

Way = Callable[[Step, list[Any]], Awaitable[str]]
"""Races steps, as the author would; returns the id of the step that is next."""


async def first_of(step: Step, racing: list[Any]) -> str:
    done, _ = await asyncio.wait([asyncio.ensure_future(one) for one in racing], return_when=asyncio.FIRST_COMPLETED)
    return f"{len(done)}-ended-first"


async def loser_is_cancelled(step: Step, racing: list[Any]) -> str:
    tasks = [asyncio.ensure_future(one) for one in racing]
    _, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    await asyncio.wait(tasks)
    return f"{sum(task.cancelled() for task in tasks)}-cancelled"


async def told_by_callbacks(step: Step, racing: list[Any]) -> str:
    """Another task is woken by the first that ends, and looks how many have."""
    tasks, first = [asyncio.ensure_future(one) for one in racing], asyncio.get_running_loop().create_future()

    async def looks() -> int:
        await first
        return sum(task.done() for task in tasks)

    watch = asyncio.ensure_future(looks())

    def wakes(_: asyncio.Future[Any]) -> None:
        if not first.done():
            first.set_result(None)

    for task in tasks:
        task.add_done_callback(wakes)
    await asyncio.gather(*tasks)
    return f"{await watch}-seen"


async def anyio_scope(step: Step, racing: list[Any]) -> str:
    ended: list[str] = []

    async def branch(one: Any, scope: anyio.CancelScope) -> None:
        ended.append(await one)
        scope.cancel()

    async with anyio.create_task_group() as group:
        for one in racing:
            group.start_soon(branch, one, group.cancel_scope)
    return "-and-".join(ended)


async def in_order_of_ends(step: Step, racing: list[Any]) -> str:
    ended: list[str] = []
    tasks = [asyncio.ensure_future(one) for one in racing]

    def notes(number: int, _: asyncio.Future[Any]) -> None:
        ended.append(str(number))

    for number, task in enumerate(tasks):
        task.add_done_callback(partial(notes, number))
    await asyncio.gather(*tasks)
    return "-then-".join(ended)


WAYS: list[Way] = [first_of, loser_is_cancelled, told_by_callbacks, anyio_scope, in_order_of_ends]


async def recorded(lab: Lab, step: str, where: Callable[[str, str], str]) -> bool:
    run = (await lab.some())[0]
    return bool(await lab.wire.call("HEXISTS", where(run.function, run.id), step))


async def branches(lab: Lab, way: Way, racing: Callable[[Step], list[Any]], meanwhile: Any = None) -> None:
    """Race steps in each turn of a run; each must go on with the same step as the first."""
    took: list[str] = []

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[Any], step: Step) -> str:
        then = await way(step, racing(step))
        took.append(then)
        await step.run(f"then-{then}", str)
        await step.sleep("nap", 0.2)
        return then

    worker = await lab.work(concurrency=2)
    await lab.send("a")
    if meanwhile is not None:
        await meanwhile()

    async def ended() -> bool:
        runs = await lab.runs()
        return bool(runs) and (runs[0].status == "completed" or runs[0].error is not None)

    await eventually(ended, "the run has ended, or waits for a deploy")
    run = (await lab.runs())[0]
    assert run.status == "completed", (run.error, took)
    assert len(took) >= 2
    assert len(set(took)) == 1, took
    await lab.no_turns(worker)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_steps_that_end_in_one_pass_are_raced_alike_in_the_replay(lab: Lab, way: Way) -> None:
    gate, begun = asyncio.Event(), list[str]()

    async def body(name: str) -> str:
        begun.append(name)
        if len(begun) == 3:
            gate.set()
        await gate.wait()
        return name

    await branches(lab, way, lambda step: [step.run(name, body, name) for name in ("x", "y", "z")])


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_what_came_while_a_step_ran_is_raced_alike_in_the_replay(lab: Lab, way: Way) -> None:
    """The save of the step brings what the courier has recorded before: that ended first."""
    begun, came = asyncio.Event(), asyncio.Event()

    async def body() -> str:
        begun.set()
        await came.wait()
        return "y"

    async def waits(step: Step) -> str:
        got = await step.wait_for_event("x", "b", timeout=60)
        return "nothing" if got is None else got.name

    async def meanwhile() -> None:
        await begun.wait()
        await eventually(lambda: recorded(lab, "x", keys.open_steps), "the run waits")
        await lab.send("b")
        await eventually(lambda: recorded(lab, "x", keys.steps), "what came is recorded")
        came.set()

    await branches(lab, way, lambda step: [step.run("y", body), waits(step)], meanwhile)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_sleeps_that_end_together_are_raced_alike_in_the_replay(lab: Lab, way: Way) -> None:
    async def body() -> str:
        """Keep the run from suspending before they are over."""
        for name in ("a", "b"):
            await eventually(lambda name=name: recorded(lab, name, keys.steps), "a sleep is over")
        return "y"

    async def naps(step: Step, name: str) -> str:
        await step.sleep(name, 0.1)
        return name

    await branches(lab, way, lambda step: [naps(step, "a"), naps(step, "b"), step.run("y", body)])


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("retries", [0, 1])
async def test_what_a_deadline_cut_off_while_it_was_stored_is_cut_off_in_replays(
    lab: Lab, *, fails: bool, retries: int
) -> None:
    """The replay had the result where the first time had a timeout, and waited for a deploy of what had not changed."""
    calls: list[str] = []

    @lab.app.function("f", on="a", retries=Retry(retries, backoff=[0.01]))
    async def f(ctx: Context, step: Step) -> str:
        calls.append("handler")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None if len(calls) == 1 else 0.05) as deadline:

                async def body() -> str:
                    if len(calls) == 1:
                        deadline.reschedule(loop.time())  # it is over in the next pass: while the result is stored
                    if fails:
                        raise ValueError("jam")
                    return "in time"

                path = await step.run("work", body)
        except (TimeoutError, StepFailed) as error:
            path = await step.run("late", str, type(error).__name__)
        await step.sleep("nap", 0.01)
        return path

    await lab.work()
    await lab.send("a")
    assert await lab.output() == "TimeoutError"
    assert len(calls) == 2
