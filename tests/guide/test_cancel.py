"""Cancel and rerun: the shortest example of each."""

import asyncio
import json

import pytest

from stepstream import Context, NonRetriable, Step
from stepstream.bus.errors import StepNotFound
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.rerun import rerun
from tests.patience import FOR_EVER_S, PATIENT_S
from tests.support import Lab, eventually


async def test_a_run_that_waits_is_cancelled_at_once(lab: Lab) -> None:
    @lab.app.function("nap", on="a")
    async def nap(ctx: Context[dict], step: Step) -> None:
        await step.sleep("long", "1h")

    await lab.work()
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    assert await cancel(lab.wire, run, "no longer wanted") == "cancelled"
    found = await lab.one()
    assert found.status == "cancelled"
    assert found.error is not None
    assert found.error.message == "no longer wanted"
    assert await lab.wire.call("ZCARD", keys.timers("test-nap")) == 0
    assert await cancel(lab.wire, run, "again") == "ended"
    assert await cancel(lab.wire, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "nobody") == "gone"
    await lab.idle()


@pytest.mark.each_server
async def test_a_run_in_a_long_step_is_cancelled_and_its_async_body_stops(lab: Lab) -> None:
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            stopped.set()
            raise

    @lab.app.function("busy", on="a")
    async def busy(ctx: Context[dict], step: Step) -> None:
        await step.run("work", work)

    worker = await lab.work()
    await lab.send("a")
    run = await lab.first()
    assert await cancel(lab.wire, run, "stop") == "asked"
    assert (await lab.one()).status == "cancelled"
    await asyncio.wait_for(stopped.wait(), PATIENT_S)
    await lab.no_turns(worker)
    await lab.idle()


async def test_a_run_nobody_has_started_never_starts_when_it_was_cancelled(lab: Lab) -> None:
    ran: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        ran.append(ctx.run_id)

    worker = await lab.work()
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the worker has left")
    stored = await lab.send("a")
    from stepstream.bus.values.ids import entry_ms, run_id

    run = run_id("test-f", "event", f"a|{stored.entry}", entry_ms(stored.entry))
    assert await cancel(lab.wire, run, "early") == "cancelled"
    await lab.work()
    await lab.idle()
    assert (await lab.one()).status == "cancelled"
    assert ran == []


async def test_cancelling_a_run_tells_its_caller(lab: Lab) -> None:
    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> None:
        await step.sleep("long", "1h")

    @lab.app.function("parent", on="a")
    async def parent(ctx: Context[dict], step: Step) -> str:
        try:
            await step.invoke("call", child)
        except Exception as error:
            return type(error).__name__
        return "?"

    await lab.work()
    await lab.send("a")
    run = await lab.first("test-child")
    await lab.status(run, "waiting")
    await cancel(lab.wire, run, "x")
    outputs = {one.function: one.status for one in await lab.ended(2)}
    assert outputs == {"test-child": "cancelled", "test-parent": "completed"}


@pytest.mark.each_server
async def test_rerun_whole_and_from_a_step(lab: Lab) -> None:
    ran: list[str] = []

    @lab.app.function("three", on="a")
    async def three(ctx: Context[dict], step: Step) -> list:
        async def body(name: str) -> str:
            ran.append(name)
            return f"{name}{len(ran)}"

        done = [await step.run(name, body, name) for name in ("a", "b", "c")]
        if len(ran) < 4:
            raise NonRetriable("the first time")
        return done

    await lab.work()
    await lab.send("a")
    first = (await lab.one()).id
    whole = await rerun(lab.wire, first)
    run = await lab.status(whole, "completed")
    assert json.loads(bytes(run.output or b"")) == ["a4", "b5", "c6"]
    assert (run.source, run.rerun_of) == ("rerun", first)
    part = await rerun(lab.wire, first, "b")
    run = await lab.status(part, "completed")
    assert json.loads(bytes(run.output or b"")) == ["a1", "b7", "c8"]
    with pytest.raises(StepNotFound, match="no finished step 'nope'; it has a, b, c"):
        await rerun(lab.wire, first, "nope")
    assert await rerun(lab.wire, first, request="mine")
    await lab.ended(4)
    await lab.idle()


async def test_cancel_rerun_and_end_fired_together_give_one_end_each(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> int:
        await step.run("one", lambda: 1)
        await step.sleep("nap", 0.02)
        return 1

    await lab.work(concurrency=50)
    for _ in range(60):
        await lab.send("a")
    runs = [run.id for run in await lab.some(60)]
    words = await asyncio.gather(*(cancel(lab.wire, run, "race") for run in runs for _ in range(2)))
    await asyncio.gather(*(rerun(lab.wire, run, beside=True) for run in runs[:20]))
    ended = await lab.ended(80)
    assert {run.status for run in ended} <= {"completed", "cancelled"}
    assert set(words) <= {"cancelled", "asked", "ended"}
    for status in ("completed", "cancelled"):
        listed = await lab.wire.call("ZCARD", keys.runs("test-f", status))
        assert listed == sum(run.status == status for run in ended)
    for status in ("running", "queued", "waiting"):
        assert await lab.wire.call("ZCARD", keys.runs("test-f", status)) == 0
    await lab.idle()
