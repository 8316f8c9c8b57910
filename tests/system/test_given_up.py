"""A name (a signal's, a wait for an event, a call) belongs to a live wait of a live run, and is given up with it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from bus import Context, Step, StepFailed
from bus.wire import keys
from checkpoint.cancel import cancel
from checkpoint.history import Run
from checkpoint.names import Holder, still_wait
from checkpoint.signals import send_signal, take_signal
from checkpoint.waits import MOST_BY_EXPRESSION, Wait, arm
from tests.support import Lab, eventually

NAME = "word"
Race = Callable[[Awaitable[Any], Awaitable[Any]], Awaitable[None]]


async def wait_first(loser: Awaitable[Any], winner: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(loser), asyncio.ensure_future(winner)]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def task_group(loser: Awaitable[Any], winner: Awaitable[Any]) -> None:
    async def fail() -> None:
        await winner
        raise LookupError("over")

    async def lose() -> None:
        await loser

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(lose())
            group.create_task(fail())


async def gathered(loser: Awaitable[Any], winner: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(loser)
    await winner
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def wait_for(loser: Awaitable[Any], winner: Awaitable[Any]) -> None:
    """A deadline of asyncio's fires while a sibling is at work."""

    async def lose() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loser, 0.1)

    await asyncio.gather(lose(), winner)


RACES = [wait_first, task_group, gathered, wait_for]
KINDS = ["signal", "match", "if", "sleep"]


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def names(lab: Lab) -> list[str]:
    """Return what is held in Redis by waits of any kind."""
    held = [raw.decode() for raw in await lab.wire.call("KEYS", "bus:signal:*")]
    for name in await lab.wire.call("ZRANGE", keys.waited(), 0, -1):
        held += [raw.decode() for raw in await lab.wire.call("ZRANGE", keys.waits(name.decode()), 0, -1)]
        held += [raw.decode() for raw in await lab.wire.call("HKEYS", keys.waits_if(name.decode()))]
    return held


async def none_held(lab: Lab) -> None:
    async def look() -> bool:
        return not await names(lab)

    await eventually(look, "no name is held")


def loser_of(step: Step, kind: str) -> Awaitable[Any]:
    if kind == "signal":
        return step.wait_for_signal("loser", NAME, timeout="1h")
    if kind == "if":
        return step.wait_for_event("loser", "shop/word", if_="async.data.n == event.data.n", timeout="1h")
    if kind == "match":
        return step.wait_for_event("loser", "shop/word", match="data.n", timeout="1h")
    return step.sleep("loser", "1h")


@pytest.mark.parametrize("race", RACES, ids=[race.__name__ for race in RACES])
async def test_the_loser_of_a_race_waits_no_more_and_its_name_is_free(lab: Lab, race: Race) -> None:
    turns: dict[str, int] = dict.fromkeys(KINDS, 0)

    @lab.app.function("race", on="shop/race")
    async def runs(ctx: Context[dict], step: Step) -> str:
        turns[ctx.event.data["kind"]] += 1
        await race(loser_of(step, ctx.event.data["kind"]), step.run("winner", after, 0.25))
        await step.sleep("nap", 0.1)
        await step.run("between", int)
        await step.sleep("again", 0.3)
        return await step.run("last", str)

    async def given_up(run: Run) -> bool:
        steps = await lab.steps(run)
        return "loser" in steps and steps["loser"].state == "cancelled"

    await lab.work()
    for kind in KINDS:
        await lab.send("shop/race", {"n": 1, "kind": kind})
    for run in await lab.some(len(KINDS)):
        await eventually(partial(given_up, run), "the loser is given up")
        assert await still_wait(lab.wire, [Holder("test-race", run.id, "loser")]) == [False]
    await none_held(lab)
    assert await send_signal(lab.wire, NAME, "late") is None
    await lab.send("shop/word", {"n": 1})
    assert {run.status for run in await lab.ended(len(KINDS))} == {"completed"}
    assert max(turns.values()) <= 3, "two sleeps, and nothing that a replay began anew"
    assert not lab.notices
    assert await names(lab) == []
    await lab.idle()


async def test_the_next_waiter_gets_the_name_and_the_signal(lab: Lab) -> None:
    """It was told signal_conflict, of a run that had ended, and the signal was lost."""

    @lab.app.function("race", on="shop/race")
    async def runs(ctx: Context[dict], step: Step) -> None:
        await wait_first(step.wait_for_signal("loser", NAME, timeout="1h"), step.run("winner", after, 0.1))

    @lab.app.function("next", on="shop/next")
    async def after_it(ctx: Context[dict], step: Step) -> str:
        return await step.wait_for_signal("word", NAME, timeout="1h")

    await lab.work()
    await lab.send("shop/race")
    await lab.one()
    await lab.send("shop/next")
    run = (await lab.some(1, "test-next"))[0]
    await lab.status(run.id, "waiting")
    assert await send_signal(lab.wire, NAME, "hello") == run.id
    assert (await lab.status(run.id, "completed")).output == Raw(b'"hello"')


async def test_a_run_that_waits_for_one_name_in_a_loop_never_conflicts_with_itself(lab: Lab) -> None:
    @lab.app.function("loop", on="shop/loop")
    async def runs(ctx: Context[dict], step: Step) -> list[int]:
        return [await step.wait_for_signal("word", NAME, timeout="1h") for _ in range(30)]

    await lab.work()
    await lab.send("shop/loop")
    run = await lab.first()
    for n in range(30):

        async def heard(n: int = n) -> bool:
            return await send_signal(lab.wire, NAME, n) == run

        await eventually(heard, f"signal {n} is heard")
    assert await lab.output() == list(range(30))
    await none_held(lab)


async def test_two_waits_of_one_run_for_one_name_at_a_time_are_told(lab: Lab) -> None:
    @lab.app.function("twice", on="shop/twice")
    async def runs(ctx: Context[dict], step: Step) -> list[str]:
        async def wait(id: str) -> str:
            try:
                return str(await step.wait_for_signal(id, NAME, timeout=0.5))
            except StepFailed as error:
                return error.name

        return await asyncio.gather(wait("a"), wait("b"))

    await lab.work()
    await lab.send("shop/twice")
    assert sorted(await lab.output()) == ["None", "signal_conflict"]
    await none_held(lab)


async def _waits(lab: Lab) -> Run:
    @lab.app.function("waits", on="shop/waits")
    async def runs(ctx: Context[dict], step: Step) -> None:
        await asyncio.gather(
            step.wait_for_signal("signal", NAME, timeout="1h"),
            step.wait_for_event("match", "shop/word", match="data.n", timeout="1h"),
            step.wait_for_event("any", "shop/other", timeout="1h"),
            step.wait_for_event("if", "shop/word", if_="async.data.n > 1", timeout="1h"),
        )

    await lab.work()
    await lab.send("shop/waits", {"n": "7"})
    run = await lab.status(await lab.first(), "waiting")
    assert len(await names(lab)) == 4
    return run


async def test_a_run_that_is_cancelled_gives_its_names_up_at_once(lab: Lab) -> None:
    run = await _waits(lab)
    assert await cancel(lab.wire, run.id, "no more") == "cancelled"
    await none_held(lab)
    await lab.idle()


async def test_a_run_that_ends_beside_its_waits_gives_their_names_up(lab: Lab) -> None:
    @lab.app.function("ends", on="shop/ends")
    async def runs(ctx: Context[dict], step: Step) -> str:
        task = asyncio.ensure_future(step.wait_for_signal("signal", NAME, timeout="1h"))
        await step.run("short", after, 0.3)
        assert not task.done()
        return "left"

    await lab.work()
    await lab.send("shop/ends")
    assert await lab.output() == "left"
    await none_held(lab)


async def test_a_holder_that_waits_no_more_loses_its_name_to_the_next(lab: Lab) -> None:
    """Whatever ended it: nobody was there to give the name up."""

    @lab.app.function("next", on="shop/next")
    async def after_it(ctx: Context[dict], step: Step) -> str:
        try:
            return await step.wait_for_signal("word", NAME, timeout="1h")
        except StepFailed as error:
            return error.name

    run = await _waits(lab)
    gone = Holder("test-waits", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "signal")
    await lab.wire.call("SET", keys.signal(NAME), gone.word)
    await lab.send("shop/next")
    second = (await lab.some(1, "test-next"))[0]
    await lab.status(second.id, "waiting")
    alive = Holder("test-waits", run.id, "signal")
    await lab.wire.call("SET", keys.signal(NAME), alive.word)
    await lab.send("shop/next")
    third = next(one for one in await lab.some(2, "test-next") if one.id != second.id)
    assert (await lab.status(third.id, "completed")).output == Raw(b'"signal_conflict"')


async def test_a_name_is_recognised_as_ones_own_when_the_answer_was_lost(lab: Lab) -> None:
    run = await _waits(lab)
    mine = Holder("test-waits", run.id, "signal")
    assert await take_signal(lab.wire, NAME, mine, 1_000) is None
    assert await take_signal(lab.wire, NAME, Holder("test-waits", run.id, "another"), 1_000) == mine


async def test_waits_by_expression_of_runs_that_are_gone_take_no_place(lab: Lab) -> None:
    gone = {
        Wait("shop/word", "test-f", f"01ARZ3NDEKTSV4RRFFQ69G{n:04}", "wait", 2**43, if_="true").word: '{"if":"true"}'
        for n in range(MOST_BY_EXPRESSION)
    }
    flat = [part for pair in gone.items() for part in pair]
    await lab.wire.call("HSET", keys.waits_if("shop/word"), *flat)
    run = await _waits(lab)
    assert await arm(lab.wire, Wait("shop/word", "test-waits", run.id, "if", 2**43, if_="true")) is not None
    assert await lab.wire.call("HLEN", keys.waits_if("shop/word")) < 10


async def test_a_call_that_was_given_up_goes_on_and_is_forgotten(lab: Lab) -> None:
    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.5)
        return "child"

    @lab.app.function("race", on="shop/race")
    async def runs(ctx: Context[dict], step: Step) -> str:
        await wait_first(step.invoke("call", child), step.run("winner", after, 0.2))
        await step.sleep("nap", 0.8)
        return "parent"

    await lab.work()
    await lab.send("shop/race")
    ended = await lab.ended(2)
    assert {json.loads(bytes(run.output or b"")) for run in ended} == {"child", "parent"}
    parent = next(run for run in ended if run.function == "test-race")
    assert (await lab.steps(parent))["call"].state == "cancelled"
    await lab.idle()
