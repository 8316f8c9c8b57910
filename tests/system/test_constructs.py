"""Every construct a handler can wait in: it parks at once or is told of, replays in the same order, and
leaves no task behind.

Each handler waits for a parked sleep of 0.4 s in its own way, beside steps that finish in a known order. Run twice (first
turn, replay), it must see the same order both times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from stepstream.bus.step import Step
from tests.patience import PATIENT_S
from tests.support import Lab, eventually

NAP = 0.4
Seen = list[str]
Way = Callable[[Step, Seen], Awaitable[None]]


async def after(seconds: float, name: str) -> str:
    await asyncio.sleep(seconds)
    return name


def slow(step: Step) -> Any:
    return step.run("slow", after, 0.12, "slow")


def fast(step: Step) -> Any:
    return step.run("fast", after, 0.01, "fast")


async def gather(step: Step, seen: Seen) -> None:
    seen += [str(one) for one in await asyncio.gather(slow(step), fast(step), step.sleep("nap", NAP))]


async def nested_gather(step: Step, seen: Seen) -> None:
    async def branch() -> str:
        await step.sleep("nap", NAP)
        return await fast(step)

    inner = asyncio.gather(branch(), asyncio.gather(slow(step), step.sleep("other", NAP / 2)))
    seen.append(str(await inner))


async def task_group(step: Step, seen: Seen) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in (slow(step), fast(step), step.sleep("nap", NAP))]
        tasks[0].add_done_callback(lambda task: None if task.cancelled() else seen.append(task.result()))
        tasks[1].add_done_callback(lambda task: None if task.cancelled() else seen.append(task.result()))


async def anyio_group(step: Step, seen: Seen) -> None:
    async def branch(name: str, seconds: float) -> None:
        seen.append(await step.run(name, after, seconds, name))

    async with anyio.create_task_group() as group:
        group.start_soon(branch, "slow", 0.06)
        group.start_soon(branch, "fast", 0.01)
        group.start_soon(step.sleep, "nap", NAP)


async def wait_all(step: Step, seen: Seen) -> None:
    tasks = [asyncio.ensure_future(one) for one in (slow(step), fast(step), step.sleep("nap", NAP))]
    done, pending = await asyncio.wait(tasks)
    seen += [str(len(done)), str(len(pending))]


async def wait_first(step: Step, seen: Seen) -> None:
    tasks = {asyncio.ensure_future(one) for one in (slow(step), fast(step), step.sleep("nap", NAP))}
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        seen.append("+".join(sorted(str(task.result()) for task in done)))


async def wait_exception(step: Step, seen: Seen) -> None:
    async def fails() -> None:
        await step.sleep("nap", NAP)
        raise KeyError("after the nap")

    tasks = {asyncio.ensure_future(one) for one in (fails(), fast(step))}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    seen += [f"{len(done)} {len(pending)}", *sorted(type(task.exception()).__name__ for task in done)]


async def wait_for(step: Step, seen: Seen) -> None:
    seen.append(str(await asyncio.wait_for(fast(step), PATIENT_S)))
    await asyncio.wait_for(step.sleep("nap", NAP), 5)


async def timeout(step: Step, seen: Seen) -> None:
    async with asyncio.timeout(PATIENT_S):
        seen.append(await fast(step))
        await step.sleep("nap", NAP)


async def anyio_timeout(step: Step, seen: Seen) -> None:
    with anyio.fail_after(PATIENT_S):
        seen.append(await fast(step))
        await step.sleep("nap", NAP)


async def shield(step: Step, seen: Seen) -> None:
    seen.append(await asyncio.shield(fast(step)))
    await asyncio.shield(step.sleep("nap", NAP))


async def as_completed(step: Step, seen: Seen) -> None:
    for one in asyncio.as_completed([slow(step), fast(step), step.sleep("nap", NAP)]):
        seen.append(str(await one))


async def lock(step: Step, seen: Seen) -> None:
    turnstile = asyncio.Lock()

    async def one_at_a_time(name: str) -> None:
        async with turnstile:
            seen.append(await step.run(name, after, 0.01, name))
            await step.sleep(f"nap-{name}", NAP)

    await asyncio.gather(one_at_a_time("a"), one_at_a_time("b"))


async def queue(step: Step, seen: Seen) -> None:
    channel: asyncio.Queue[str] = asyncio.Queue()

    async def puts() -> None:
        await channel.put(await fast(step))
        await step.sleep("nap", NAP)
        await channel.put("after the nap")

    async def gets() -> None:
        for _ in range(2):
            seen.append(await channel.get())

    await asyncio.gather(puts(), gets())


async def event(step: Step, seen: Seen) -> None:
    said = asyncio.Event()

    async def says() -> None:
        await step.sleep("nap", NAP)
        said.set()

    async def hears() -> None:
        await said.wait()
        seen.append("heard")

    await asyncio.gather(says(), hears())


async def while_except(step: Step, seen: Seen) -> None:
    for _ in range(3):
        try:
            await step.sleep("nap", NAP / 3)
            seen.append("slept")
        except Exception:
            seen.append("caught")


async def try_finally(step: Step, seen: Seen) -> None:
    try:
        seen.append(await fast(step))
        await step.sleep("nap", NAP)
    finally:
        await step.run("cleanup", after, 0, "cleanup")


async def except_base(step: Step, seen: Seen) -> None:
    try:
        await step.sleep("nap", NAP)
    except BaseException:
        await step.run("refund", after, 0, "refund")
        raise
    seen.append("slept")


class Guard:
    def __init__(self, step: Step) -> None:
        self._step = step

    async def __aenter__(self) -> None:
        await self._step.run("enter", after, 0, "enter")

    async def __aexit__(self, *error: object) -> None:
        await self._step.run("exit", after, 0, "exit")


async def async_with(step: Step, seen: Seen) -> None:
    async with Guard(step):
        seen.append(await fast(step))
        await step.sleep("nap", NAP)


async def bare_task(step: Step, seen: Seen) -> None:
    beside = asyncio.ensure_future(step.sleep("nap", NAP))
    seen.append(await slow(step))
    await beside


KNOWN: list[Way] = [
    gather, nested_gather, task_group, anyio_group, wait_all, wait_first, wait_exception, wait_for, timeout, anyio_timeout,
    while_except, try_finally, except_base, async_with, bare_task,
]  # fmt: skip
TOLD: list[Way] = [shield, as_completed, lock, queue, event]
"""These wait on a future that says nothing of who will set it: parked after 250 ms of quiet, with a warning."""


async def take(lab: Lab, way: Way) -> tuple[list[Seen], set[str]]:
    """Run a handler that waits in this way; return what each of its turns saw, and its steps."""
    turns: list[Seen] = []

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        seen: Seen = []
        turns.append(seen)
        await way(step, seen)

    worker = await lab.work(concurrency=2)
    before = asyncio.all_tasks()
    await lab.send("a")
    run = await lab.one()
    assert run.status == "completed", run.error
    await lab.no_turns(worker)
    await lab.idle()
    await asyncio.sleep(0)

    async def none_left() -> bool:
        return not [task for task in asyncio.all_tasks() - before if "test_constructs" in repr(task.get_coro())]

    await eventually(none_left, "no task of the run is left")
    return turns, set(await lab.steps(run))


@pytest.mark.parametrize("way", KNOWN, ids=[way.__name__ for way in KNOWN])
async def test_a_known_wait_parks_at_once_and_replays_in_order(lab: Lab, way: Way) -> None:
    turns, steps = await take(lab, way)
    assert not lab.notices, lab.notices
    assert len(turns) >= 2
    for seen in turns[:-1]:
        assert turns[-1][: len(seen)] == seen, "the replay saw what was seen first"
    assert not steps & {"refund"}, "nothing acts for a run that only waits"


@pytest.mark.parametrize("way", TOLD, ids=[way.__name__ for way in TOLD])
async def test_an_unknown_wait_parks_after_a_quiet_moment_and_is_told(lab: Lab, way: Way) -> None:
    turns, _ = await take(lab, way)
    assert len(turns) >= 2
    assert any(
        "not a step" in notice.event and "test_constructs.py" in str(notice.fields["at"]) for notice in lab.notices
    )
    for seen in turns[:-1]:
        assert turns[-1][: len(seen)] == seen


async def test_what_was_seen_is_what_the_construct_means(lab: Lab) -> None:
    turns, _ = await take(lab, wait_first)
    assert turns == [["fast", "slow"], ["fast", "slow", "None"]]
