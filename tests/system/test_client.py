"""The Python client of runs: looked at, waited for, cancelled and run again, with and without an event loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from stepstream import (
    Bus,
    ConfigError,
    EventData,
    Harness,
    HasEnded,
    NonRetriable,
    RunFailed,
    RunNotFound,
    RunUnfinished,
)
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.delayed import DelayedNotFound


class Label(EventData):
    text: str


app = Bus("shop")


@app.function("print", on="order")
async def print_label(ctx, step):
    return await step.run("label", lambda: {"text": f"for {ctx.event.data['who']}"})


@app.function("wait", on="wait")
async def wait(ctx, step):
    await step.wait_for_event("it", "never", timeout="1h")


@app.function("fail", on="fail", retries=0)
async def fail(ctx, step):
    raise NonRetriable("no paper")


@pytest.fixture
async def bus() -> AsyncGenerator[Harness]:
    async with Harness(app) as harness:
        yield harness


@pytest.fixture(params=["async", "sync"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of `app.runs`, or of `app.runs_sync` in a thread."""

    async def called(method: str, *given: Any, **named: Any) -> Any:
        if request.param == "async":
            return await getattr(app.runs, method)(*given, **named)
        return await anyio.to_thread.run_sync(partial(getattr(app.runs_sync, method), *given, **named))

    return called


async def test_a_run_is_listed_looked_at_and_its_result_waited_for(bus: Harness, call: Callable[..., Any]) -> None:
    await bus.send("order", {"who": "ada"})
    await bus.send("fail", {})
    page = await call("list", function=print_label)
    [run] = page.runs
    assert (run.status, run.function, page.cursor) == ("completed", "shop-print", None)
    assert [one.function for one in (await call("list", status="failed")).runs] == ["shop-fail"]
    assert (await call("list", function="shop-print", since=datetime.now(UTC) + timedelta(hours=1))).runs == []
    assert (await call("get", run.id)).status == "completed"
    assert [step.id for step in await call("steps", run.id)] == ["label"]
    assert await call("result", run.id) == {"text": "for ada"}
    assert await call("result", run.id, type=Label) == Label("for ada")


async def test_a_result_is_waited_for_until_the_run_ends(bus: Harness, call: Callable[..., Any]) -> None:
    run = await invoke(bus._wire, "shop-print", {"who": "ada"})
    assert await call("result", run, timeout="20s") == {"text": "for ada"}


async def test_a_run_that_ended_otherwise_raises_its_error(bus: Harness, call: Callable[..., Any]) -> None:
    await bus.send("fail", {})
    [run] = (await call("list")).runs
    with pytest.raises(RunFailed, match="failed: NonRetriable: no paper") as failed:
        await call("result", run.id)
    error = failed.value
    assert (error.run, error.function, error.status) == (run.id, "shop-fail", "failed")
    assert (error.name, error.message) == ("NonRetriable", "no paper")
    assert "no paper" in error.stack


async def test_a_run_is_cancelled_and_run_again(bus: Harness, call: Callable[..., Any]) -> None:
    await bus.send("wait", {})
    [run] = (await call("list")).runs
    with pytest.raises(RunUnfinished, match="waiting"):
        await call("result", run.id, timeout=0.05)
    assert await call("cancel", run.id, "no longer wanted") == "cancelled"
    with pytest.raises(RunFailed, match="no longer wanted") as failed:
        await call("result", run.id)
    assert failed.value.status == "cancelled"
    with pytest.raises(HasEnded):
        await call("cancel", run.id)
    new = await call("rerun", run.id, request="once")
    assert await call("rerun", run.id, request="once") == new
    await bus.idle()
    assert (await call("get", new)).rerun_of == run.id


async def test_what_is_not_there_is_told(bus: Harness, call: Callable[..., Any]) -> None:
    for method in ("get", "result", "steps", "cancel", "rerun"):
        with pytest.raises(RunNotFound):
            await call(method, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(ConfigError, match="1 to 1000"):
        await call("list", limit=0)


async def test_in_an_event_loop_the_sync_client_says_what_to_write(bus: Harness) -> None:
    with pytest.raises(ConfigError, match=r"await app\.runs\.get\(…\)"):
        app.runs_sync.get("x")


async def test_delayed_events_are_listed_and_taken_back(bus: Harness) -> None:
    await bus._sender.send("order", {"who": "ada"}, id="later", delay="1h")
    [event] = await app.delayed.list()
    assert (event.name, event.id) == ("order", "later")
    assert await asyncio.to_thread(app.delayed_sync.list, "order") == [event]
    await asyncio.to_thread(app.delayed_sync.cancel, "order", "later")
    with pytest.raises(DelayedNotFound):
        await app.delayed.cancel("order", "later")
    assert await app.delayed.list() == []


async def test_a_harness_moves_the_clock_to_a_delayed_event(bus: Harness) -> None:
    await bus._sender.send("order", {"who": "ada"}, delay="3d")
    await bus.advance("2d")
    assert (await app.runs.list()).runs == []
    await bus.advance("2d")
    assert [run.status for run in (await app.runs.list()).runs] == ["completed"]
