"""When a run waits for its steps and nothing else: looked at on tasks that stand still, without a worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from stepstream.consumers.delivery.background import outside
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.idle_detection import Busy, unknown_waits


class Turn:
    """Steps that are parked are futures; tasks of the run are adopted."""

    def __init__(self) -> None:
        self.steps: set[asyncio.Future[Any]] = set()
        self.tasks: list[asyncio.Task[Any]] = []

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self.tasks.append(task)

    def step(self) -> asyncio.Future[Any]:
        made = asyncio.get_running_loop().create_future()
        self.steps.add(made)
        return made

    async def looked_at(self, handler: Callable[["Turn"], Awaitable[Any]]) -> list[str]:
        """Run a handler until each of its tasks stands still; return what they wait for that is no step."""
        loop = asyncio.get_running_loop()
        idle_detection.install(loop)
        token = idle_detection.current.set(self)
        running = asyncio.ensure_future(handler(self))
        idle_detection.current.reset(token)
        try:
            for _ in range(20):
                await asyncio.sleep(0)
            assert running in self.tasks
            return unknown_waits(self.tasks, lambda waiter: waiter in self.steps)
        finally:
            loop.set_task_factory(None)
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def one_step(turn: Turn) -> None:
    await turn.step()


async def gathered(turn: Turn) -> None:
    await asyncio.gather(turn.step(), one_step(turn))


async def in_a_task_group(turn: Turn) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(one_step(turn))
        group.create_task(one_step(turn))


async def in_anyios_task_group(turn: Turn) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(one_step, turn)
        group.start_soon(one_step, turn)


async def waited_for(turn: Turn) -> None:
    await asyncio.wait([asyncio.create_task(one_step(turn)), asyncio.create_task(one_step(turn))])


async def another_task_of_the_run(turn: Turn) -> None:
    await asyncio.create_task(one_step(turn))


@pytest.mark.parametrize(
    "handler", [one_step, gathered, in_a_task_group, in_anyios_task_group, waited_for, another_task_of_the_run]
)
async def test_what_waits_for_steps_alone_is_known(handler: Callable[[Turn], Awaitable[Any]]) -> None:
    assert await Turn().looked_at(handler) == []


async def test_what_waits_for_something_else_is_named_with_its_line() -> None:
    async def handler(turn: Turn) -> None:
        await asyncio.get_running_loop().create_future()

    (place,) = await Turn().looked_at(handler)
    assert "handler" in place
    assert __file__ in place


async def test_one_unknown_wait_beside_a_step_is_the_one_that_is_named() -> None:
    async def other() -> None:
        await asyncio.sleep(60)

    async def handler(turn: Turn) -> None:
        await asyncio.gather(one_step(turn), other())

    (place,) = await Turn().looked_at(handler)
    assert "other" in place


async def test_a_task_that_can_go_on_is_busy() -> None:
    async def handler(turn: Turn) -> None:
        step = turn.step()
        asyncio.get_running_loop().call_soon(step.set_result, None)
        await step
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Busy):
        await Turn().looked_at(handler)


async def test_the_engines_own_work_is_no_task_of_the_run() -> None:
    made: list[asyncio.Task[Any]] = []

    async def handler(turn: Turn) -> None:
        made.append(outside(asyncio.get_running_loop(), asyncio.sleep(0)))
        await turn.step()

    turn = Turn()
    assert await turn.looked_at(handler) == []
    assert made[0] not in turn.tasks
    await made[0]
