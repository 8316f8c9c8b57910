"""A name (a signal's, a wait for an event, a call) belongs to a live wait of a live run, and is given up with it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from stepstream import Context, Retry, Step, StepFailed
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.waits.event_waits import MOST_BY_EXPRESSION, Wait, arm
from stepstream.checkpoint.waits.names import Holder, still_wait
from stepstream.checkpoint.waits.signals import give_signal, send_signal, take_signal
from tests.scripts import all_scripts
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
    held = [raw.decode() for raw in await lab.admin.call("KEYS", "bus:signal:*")]
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
    assert not [notice for notice in lab.notices if "old events" not in notice.event]
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


@pytest.mark.parametrize("hearer_has_ended", [True, False])
async def test_a_step_whose_signal_was_heard_knows_it_when_its_worker_died_before(
    lab: Lab, hearer_has_ended: bool
) -> None:
    """Its next try was told that nobody waits: a sender that goes on until it is heard, went on for ever."""

    @lab.app.function("hearer", on="shop/hearer")
    async def hears(ctx: Context[dict], step: Step) -> str:
        word = await step.wait_for_signal("word", NAME, timeout="1h")
        await step.sleep("rest", 0.01 if hearer_has_ended else "1h")
        return word

    await lab.work()
    await lab.send("shop/hearer")
    run = await lab.first()
    await lab.status(run, "waiting")
    assert await send_signal(lab.wire, NAME, "hello", sender="run|step") == run
    if hearer_has_ended:
        await lab.one()
    assert await send_signal(lab.wire, NAME, "hello", sender="run|step") == run
    assert await send_signal(lab.wire, NAME, "hello", sender="run|another") is None
    waiter = Holder("test-hearer", "another", "word", "fence")
    assert await take_signal(lab.wire, NAME, waiter, 60_000) is None, "what was heard is in nobody's way"
    await give_signal(lab.wire, NAME, waiter)


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


@pytest.mark.leaves_behind("its holders are made up")
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


@pytest.mark.leaves_behind("its holders are made up")
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

    turns = 0

    @lab.app.function("race", on="shop/race")
    async def runs(ctx: Context[dict], step: Step) -> str:
        nonlocal turns
        turns += 1
        await wait_first(step.invoke("call", child), step.run("winner", after, 0.2))
        await step.sleep("nap", 0.8)
        return "parent"

    await lab.work()
    await lab.send("shop/race")
    assert {json.loads(bytes(run.output or b"")) for run in await lab.ended(2)} == {"child", "parent"}
    assert turns <= 3
    await lab.idle()


async def test_a_wait_that_a_failed_attempt_cancelled_goes_on_in_the_next(lab: Lab) -> None:
    """The author's code did not decide that it is over: the attempt it was cancelled in counts for nothing."""

    @lab.app.function("order", on="shop/order", retries=Retry(3, backoff=0.2))
    async def order(ctx: Context[dict], step: Step) -> list[Any]:
        async def flaky() -> str:
            await asyncio.sleep(0.1)
            if ctx.attempt < 2:
                raise ConnectionError("not yet")
            return await step.run("flaky", str, "done")

        async with asyncio.TaskGroup() as group:
            word = group.create_task(step.wait_for_signal("word", NAME, timeout="1h"))
            event = group.create_task(step.wait_for_event("event", "shop/word", match="data.n", timeout="1h"))
            called = group.create_task(step.invoke("call", child))
            slept = group.create_task(step.sleep("nap", 0.2))
            other = group.create_task(flaky())
        answer = event.result()
        return [word.result(), answer and answer.data["n"], called.result(), slept.result(), other.result()]

    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.05)
        return "child"

    await lab.work()
    await lab.send("shop/order", {"n": 1})
    run = next(run for run in await lab.some(1, "test-order"))

    async def only_waits() -> bool:
        steps = await lab.steps(run)
        return {"flaky", "call", "nap"} <= {id for id, one in steps.items() if one.state == "completed"}

    await eventually(only_waits, "all but the waits is done")
    await lab.status(run.id, "waiting")
    assert len(await names(lab)) == 2
    assert await send_signal(lab.wire, NAME, "hello") == run.id
    await lab.send("shop/word", {"n": 1})
    done = await lab.status(run.id, "completed")
    assert json.loads(bytes(done.output or b"")) == ["hello", 1, "child", None, "done"]
    await none_held(lab)


async def test_a_step_that_lost_a_race_is_not_tried_again_in_every_replay(lab: Lab) -> None:
    """Its body had been noted as open, so each replay began it anew before the race was over again."""
    tries = {"failing": 0, "slow": 0}

    @lab.app.function("race", on="shop/race")
    async def runs(ctx: Context[dict], step: Step) -> str:
        async def failing() -> None:
            tries["failing"] += 1
            raise ConnectionError("no")

        async def slow() -> None:
            tries["slow"] += 1
            await asyncio.sleep(3_600)

        losers = [
            asyncio.ensure_future(step.run("failing", failing, retries=Retry(3, backoff=0.4))),
            asyncio.ensure_future(step.run("slow", slow)),
        ]
        await step.run("winner", after, 0.3)
        for loser in losers:
            loser.cancel()
        await step.sleep("nap", 0.2)
        await step.sleep("again", 0.2)
        return "done"

    await lab.work()
    await lab.send("shop/race")
    assert await lab.output() == "done"
    assert tries == {"failing": 1, "slow": 1}


async def test_a_name_that_another_has_by_now_is_not_given_up(lab: Lab) -> None:
    mine, another = Holder("test-f", "1", "a"), Holder("test-f", "2", "a")
    await lab.wire.call("SET", keys.signal(NAME), another.word)
    await give_signal(lab.wire, NAME, mine)
    assert (
        await lab.wire.script(all_scripts()["signal_give"], [keys.signal(NAME)], mine.word) == 0
    )  # it had the name when it looked
    assert await lab.wire.call("GET", keys.signal(NAME)) == another.word.encode()
    await give_signal(lab.wire, NAME, another)
    assert await lab.wire.call("EXISTS", keys.signal(NAME)) == 0


async def test_a_holder_that_waits_again_since_it_was_looked_at_keeps_its_name(lab: Lab) -> None:
    """It is the same step, but another delivery of its run has taken the name."""
    seen, now, next_one = (
        Holder("test-f", "1", "a", "f1"),
        Holder("test-f", "1", "a", "f2"),
        Holder("test-f", "2", "a", "f3"),
    )
    await lab.wire.call("SET", keys.signal(NAME), now.word)
    take = [keys.signal(NAME)], next_one.word, 1_000
    assert await lab.wire.script(all_scripts()["signal_take"], *take, seen.word) == now.word.encode()
    assert await lab.wire.script(all_scripts()["signal_take"], *take, now.word) == b""
