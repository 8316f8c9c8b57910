"""Several steps at once of an application that is called over HTTP: how many calls they cost, and who goes on when."""

import asyncio
from typing import Any

import pytest

from stepstream import Bus, Context, EventData, NonRetriable, Retry, Step, StepFailed
from stepstream.checkpoint.read.run.log import log_of
from tests.served_app import served
from tests.support import Lab, eventually


class Paid(EventData, name="order/paid"):
    order: str = "o1"


async def _work(n: int) -> int:
    await asyncio.sleep(0)
    return n


async def _plain(step: Step, n: int) -> int:
    return await step.run(f"work {n}", _work, n)


async def _sequence(step: Step, n: int) -> int:
    got = await step.run(f"work {n}", _work, n)
    return await step.run(f"more {n}", _work, got)


@pytest.mark.parametrize(("one", "calls"), [(_plain, {"next": 2, "one": 6}), (_sequence, {"next": 2, "one": 12})])
async def test_steps_side_by_side_cost_a_call_each_and_two_more(lab: Lab, one: Any, calls: dict[str, int]) -> None:
    app = Bus("shop")

    @app.function("many", on=Paid)
    async def many(ctx: Context[Paid], step: Step) -> list[int]:
        return await asyncio.gather(*(one(step, n) for n in range(6)))

    async with served(lab, app) as it:
        await lab.send("order/paid")
        assert await lab.output() == list(range(6))
        assert it.calls == calls


async def test_what_follows_the_first_of_several_begins_at_once(lab: Lab) -> None:
    app = Bus("shop")
    slow_may_end = asyncio.Event()

    async def slow() -> str:
        await slow_may_end.wait()
        return "slow"

    @app.function("first", on=Paid)
    async def first(ctx: Context[Paid], step: Step) -> list[str]:
        tasks = [asyncio.create_task(step.run("slow", slow)), asyncio.create_task(step.run("quick", str, "quick"))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        won = [one.result() for one in done]
        won.append(await step.run("after", str, "after"))
        slow_may_end.set()
        return [*won, await tasks[0]]

    async with served(lab, app):
        await lab.send("order/paid")
        assert await lab.output() == ["quick", "after", "slow"]


async def test_two_that_end_together_let_go_on_who_waits_for_both_beside_a_long_one(lab: Lab) -> None:
    app = Bus("shop")
    both, long_may_end = asyncio.Barrier(2), asyncio.Event()

    async def meet() -> None:
        await both.wait()

    async def long() -> None:
        await long_may_end.wait()

    async def pair(step: Step) -> str:
        await asyncio.gather(step.run("a", meet), step.run("b", meet))
        return await step.run("after both", str, "went on")

    @app.function("nested", on=Paid)
    async def nested(ctx: Context[Paid], step: Step) -> str:
        waits = asyncio.create_task(step.run("long", long))
        told = await pair(step)
        long_may_end.set()
        await waits
        return told

    async with served(lab, app):
        await lab.send("order/paid")
        assert await lab.output() == "went on"


async def test_a_gather_fails_as_soon_as_one_of_its_steps_has(lab: Lab) -> None:
    app = Bus("shop")
    told = asyncio.Event()

    async def waits() -> None:
        await told.wait()

    def fails() -> None:
        raise NonRetriable("no")

    @app.function("early", on=Paid)
    async def early(ctx: Context[Paid], step: Step) -> str:
        try:
            await asyncio.gather(step.run("waits", waits), step.run("fails", fails))
        except StepFailed as error:
            told.set()
            return f"{error.step}: {error.message}"
        return "nothing failed"

    async with served(lab, app):
        await lab.send("order/paid")
        assert await lab.output() == "fails: no"


async def test_a_loser_that_fails_after_the_race_harms_nobody(lab: Lab) -> None:
    app = Bus("shop")
    loser_fails = asyncio.Event()
    tries = 0

    async def loser() -> None:
        nonlocal tries
        tries += 1
        await loser_fails.wait()
        raise ConnectionError("too late anyway")

    @app.function("race", on=Paid, retries=Retry(1, backoff=[0.01]))
    async def race(ctx: Context[Paid], step: Step) -> str:
        tasks = [asyncio.create_task(step.run("loser", loser)), asyncio.create_task(step.run("winner", str, "won"))]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in left:
            one.cancel()
        loser_fails.set()
        await step.sleep("until it has been tried again", "0.2s")
        return str(done.pop().result())

    async with served(lab, app):
        await lab.send("order/paid")
        assert await lab.output() == "won"
    assert tries == 1


async def test_a_step_may_have_more_retries_than_its_function(lab: Lab) -> None:
    app = Bus("shop")
    tries = 0

    def flaky() -> int:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConnectionError("again")
        return tries

    @app.function("stubborn", on=Paid, retries=Retry(1, backoff=[0.01]))
    async def stubborn(ctx: Context[Paid], step: Step) -> int:
        return (await asyncio.gather(step.run("flaky", flaky, retries=5), step.run("other", int)))[0]

    async with served(lab, app):
        await lab.send("order/paid")
        run = await lab.one()
        assert run.status == "completed", run.error
        assert (await lab.steps(run))["flaky"].attempts == 4


async def test_code_that_calls_other_steps_waits_for_a_deploy_and_uses_no_attempt(lab: Lab) -> None:
    app = Bus("shop")
    is_new = False

    @app.function("changes", on=Paid, retries=0)
    async def changes(ctx: Context[Paid], step: Step) -> None:
        await step.run("new name" if is_new else "old name", str)
        await step.wait_for_event("wait", "order/shipped")

    async with served(lab, app):
        await lab.send("order/paid")
        run = await lab.first()
        await lab.status(run, "waiting")
        is_new = True
        await lab.send("order/shipped")

        async def is_told() -> bool:
            found = await lab.status(run, "waiting")
            return found.error is not None and found.error.name == "code_changed" and "old name" in found.error.message

        await eventually(is_told, "the run says that the code has changed")


async def test_what_the_handler_logs_between_steps_is_logged_once(lab: Lab) -> None:
    app = Bus("shop")

    async def branch(ctx: Context[Paid], step: Step, name: str) -> None:
        await step.run(f"{name} 1", str)
        ctx.logger.info("goes on", branch=name)
        await step.run(f"{name} 2", str)

    @app.function("logs", on=Paid)
    async def logs(ctx: Context[Paid], step: Step) -> None:
        ctx.logger.info("begins")
        await asyncio.gather(branch(ctx, step, "a"), branch(ctx, step, "b"))
        ctx.logger.info("ends")

    async with served(lab, app):
        await lab.send("order/paid")
        run = await lab.one()
        assert run.status == "completed", run.error

        async def is_logged() -> bool:
            lines = (await log_of(lab.wire, run.function, run.id)).lines
            return sum("ends" in line.text for line in lines) == 1 and sum("begins" in line.text for line in lines) == 1

        await eventually(is_logged, "both ends are logged, once")


async def test_two_that_end_together_are_raced_alike_in_each_call(lab: Lab) -> None:
    """A call for one step learns of the other, which ended before it: so each call sees them in the order of ends."""
    app = Bus("shop")
    both, took = asyncio.Barrier(2), list[str]()

    async def meet(name: str) -> str:
        await both.wait()
        return name

    @app.function("race", on=Paid)
    async def race(ctx: Context[Paid], step: Step) -> str:
        tasks = [asyncio.create_task(step.run(name, meet, name)) for name in ("a", "b")]
        done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in late:
            one.cancel()
        took.append("-and-".join(sorted(one.result() for one in done)))
        await step.run(f"after {took[-1]}", str)
        await step.sleep("nap", 0.05)
        return took[-1]

    async with served(lab, app):
        await lab.send("order/paid")
        assert await lab.output() in {"a", "b"}
        assert len(set(took)) == 1, took
