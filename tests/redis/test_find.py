"""Runs that nobody has started: they have no hash yet, are found by their entry, and can be cancelled."""

import re

import pytest

from stepstream import Bus, Context, On, Step, StepFailed
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.read.event.outcomes import outcomes
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.registry import register
from stepstream.consumers.worker import Worker
from tests.support import Lab, eventually


@pytest.fixture
async def resting(lab: Lab) -> Lab:
    """A function whose worker has left, so that what comes now stands."""

    @lab.app.function("f", on=On("a", if_="!has(event.data.unwanted)"))
    async def f(ctx: Context[dict], step: Step) -> str:
        return "done"

    await rest(lab, await lab.work())
    return lab


async def rest(lab: Lab, worker: Worker) -> None:
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the worker has left")


async def published(lab: Lab, data: dict | None = None) -> str:
    entry = (await lab.send("a", data)).entry
    return run_id("test-f", "event", f"a|{entry}", entry_ms(entry))


async def test_a_run_of_an_event_is_queued_until_a_worker_comes(resting: Lab) -> None:
    run = await published(resting, {"n": 1})
    found = await find(resting.wire, run)
    assert found is not None
    assert (found.status, found.function, found.has_ended) == ("queued", "test-f", False)
    assert found.event is not None
    assert b'"data":{"n":1}' in bytes(found.event)
    await resting.work()
    await resting.status(run, "completed")


async def test_an_invoked_run_and_a_rerun_are_queued_until_a_worker_comes(resting: Lab) -> None:
    first = await invoke(resting.wire, "test-f", {"n": 1})
    found = await find(resting.wire, first)
    assert found is not None
    assert (found.status, found.function, found.source) == ("queued", "test-f", "invoke")
    again = await rerun(resting.wire, first, beside=True)
    found = await find(resting.wire, again)
    assert found is not None
    assert (found.status, found.source) == ("queued", "rerun")
    await resting.work()
    await resting.status(first, "completed")
    await resting.status(again, "completed")


async def test_an_invoked_run_that_nobody_has_started_is_cancelled(resting: Lab) -> None:
    run = await invoke(resting.wire, "test-f", {"n": 1})
    assert await cancel(resting.wire, run, "early") == "cancelled"
    found = await find(resting.wire, run)
    assert found is not None
    assert (found.status, found.source) == ("cancelled", "invoke")
    await resting.work()
    await resting.idle()
    assert [(one.id, one.status) for one in await resting.runs()] == [(run, "cancelled")]


async def test_who_called_a_run_that_is_cancelled_before_it_starts_is_told(lab: Lab) -> None:
    other = Bus("other")

    @other.function("f")
    async def f(ctx: Context[dict], step: Step) -> str:
        return "done"

    @lab.app.function("caller", on="a")
    async def caller(ctx: Context[dict], step: Step) -> str:
        try:
            return await step.invoke("call", "other-f")
        except StepFailed as error:
            return error.name

    await register(lab.wire, f)
    await lab.work()
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    [(_, fields)] = await lab.wire.call("XRANGE", keys.queue("other-f"), "-", "+")
    called = fields_of(fields)[b"run"].decode()
    assert await cancel(lab.wire, called, "early") == "cancelled"
    await lab.work(app=other)
    assert bytes((await lab.status(run, "completed")).output or b"") == b'"cancelled"'


async def test_an_event_that_no_function_wanted_has_no_run_to_wait_for(resting: Lab) -> None:
    entry = (await resting.send("a", {"unwanted": True})).entry
    [queued] = await outcomes(resting.wire, "a", entry, 0)
    assert (queued.status, queued.has_ended) == ("queued", False)
    await resting.work()
    assert await outcomes(resting.wire, "a", entry, 60) == []
    assert await find(resting.wire, queued.run) is None


async def test_a_run_whose_time_to_be_kept_is_over_is_gone_though_its_event_stands(resting: Lab) -> None:
    run = await published(resting)
    await resting.work()
    await resting.status(run, "completed")
    await resting.idle()
    await resting.wire.call("DEL", keys.run("test-f", run))
    assert await find(resting.wire, run) is None
    assert await cancel(resting.wire, run, "late") == "gone"


@pytest.mark.leaves_behind("no worker has made its groups")
async def test_a_registered_function_that_no_worker_has_read_for_has_queued_runs(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    lab.app.connect(lab.wire)
    await register(lab.wire, f)
    run = await published(lab)
    found = await find(lab.wire, run)
    assert found is not None
    assert found.status == "queued"


async def test_an_id_leads_to_its_function_whatever_others_there_are(wire: Wire) -> None:
    """f436 and f980 have one hash: both are asked. Of the others none is."""
    slugs = ("test-f436", "test-f980", "test-f7")
    for number in (*range(20), 436, 980):
        await register(wire, Bus("test").function(f"f{number}", on="a")(_handler))
    runs = [run_id(slug, "event", "a|1-0", 1) for slug in slugs]
    for slug, run in zip(slugs, runs, strict=True):
        await wire.call("HSET", keys.run(slug, run), "status", "running")

    async def asked(run: str) -> tuple[str, int]:
        before = await _looks(wire)
        found = await find(wire, run)
        return found.function if found else "", await _looks(wire) - before

    assert [await asked(run) for run in runs] == [(slugs[0], 3), (slugs[1], 3), (slugs[2], 2)]
    assert await asked(run_id("nobody", "event", "a|1-0", 1)) == ("", 1)


async def _handler(ctx: Context[dict], step: Step) -> None: ...


async def _looks(wire: Wire) -> int:
    """Return how many hashes were looked at so far."""
    info = (await wire.call("INFO", "commandstats")).decode()
    return sum(map(int, re.findall(r"cmdstat_h\w+:calls=(\d+)", info)))
