"""What is told of waits and calls once they are over, and of a run that is still held in a buffer."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from stepstream import Context, Retry, Step, create_app
from stepstream.bus.errors import HasEnded, StepFailed
from stepstream.bus.limits.rules import Batch, Debounce
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.read.run.steps import StepView
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.web.pages import run_view
from tests.support import Lab, eventually
from tests.system.test_commands import bus


async def step_is(lab: Lab, run: str, step: str, state: str) -> StepView:
    async def look() -> StepView | None:
        found = await find(lab.wire, run)
        seen = (await lab.steps(found)).get(step) if found is not None else None
        return seen if seen is not None and seen.state == state else None

    return await eventually(look, f"{step} is {state}") or StepView("", "", "", 0)


def bars(run: Run, steps: dict[str, StepView]) -> dict[str, run_view.Bar]:
    page = run_view.run_page(run, list(steps.values()), run.ended or 0)
    return {bar.id: bar for bar in page.steps}


async def test_a_wait_that_was_answered_took_as_long_as_it_waited(lab: Lab) -> None:
    @lab.app.function("child")
    async def child(ctx, step):
        await step.sleep("nap", 0.3)
        return 1

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        await step.sleep("rest", 0.25)
        await asyncio.gather(
            step.wait_for_event("event", "b", match="data.n", timeout="1h"),
            step.wait_for_signal("signal", "word", timeout="1h"),
            step.invoke("call", child),
        )

    await lab.work()
    await lab.send("a", {"n": 1})
    run = await lab.first("test-f")
    begun = {name: await step_is(lab, run, name, "waiting") for name in ("event", "signal")}
    called = json.loads(bytes((await step_is(lab, run, "call", "waiting")).what or b"{}"))
    await asyncio.sleep(0.3)
    await lab.send("b", {"n": 1})
    assert await send_signal(lab.wire, "word", {}) == run
    ended = await lab.status(run, "completed")
    steps = await lab.steps(ended)
    for name, waited in begun.items():
        assert steps[name].started == steps[name].since == waited.since
    took = {name: (view.ended or 0) - view.started for name, view in steps.items()}
    assert min(took.values()) >= 250, took
    assert all(view.state == "completed" for view in steps.values())
    shown = bars(ended, steps)
    assert shown["event"].note == "waited for b with the same data.n"
    assert shown["signal"].note == "waited for signal word"
    assert (shown["call"].note, shown["call"].child) == ("called test-child", called["run"])
    assert "0 ms" not in {bar.took for bar in shown.values()}
    assert shown["event"].width > 300
    again = await find(lab.wire, called["run"])
    assert (again.status, again.function) == ("completed", "test-child") if again else pytest.fail("no child")


async def test_what_nobody_answered_is_timed_out_and_not_completed(lab: Lab) -> None:
    @lab.app.function("child")
    async def child(ctx, step):
        await step.sleep("nap", "1h")

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        async def call() -> None:
            with pytest.raises(StepFailed, match="timeout"):
                await step.invoke("call", child, timeout=0.3)

        return await asyncio.gather(
            step.wait_for_event("event", "b", timeout=0.3), step.wait_for_signal("signal", "word", timeout=0.3), call()
        )

    await lab.work()
    await lab.send("a")
    run = await lab.status(await lab.first("test-f"), "completed")
    steps = await lab.steps(run)
    assert {view.state for view in steps.values()} == {"timed_out"}
    assert min((view.ended or 0) - view.started for view in steps.values()) >= 300
    shown = bars(run, steps)
    assert shown["call"].note.endswith("has not ended in time; it goes on · called test-child")
    assert shown["call"].child
    assert (await find(lab.wire, shown["call"].child)) is not None


async def test_a_signal_whose_data_is_null_is_no_timeout(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return await step.wait_for_signal("signal", "word", timeout="1h")

    await lab.work()
    await lab.send("a")
    run = await lab.first()
    await step_is(lab, run, "signal", "waiting")
    await lab.status(run, "waiting")
    assert await send_signal(lab.wire, "word", None) == run
    assert (await lab.steps(await lab.status(run, "completed")))["signal"].state == "completed"


@pytest.mark.parametrize("limit", [{"debounce": Debounce("1h")}, {"batch": Batch(50, "1m")}])
async def test_a_run_that_is_held_in_a_buffer_has_its_page_and_can_be_cancelled(
    lab: Lab, limit: dict[str, Any]
) -> None:
    @lab.app.function("f", on="a", **limit)
    async def f(ctx, step):
        return 1

    await lab.work()
    for n in range(3):
        await lab.send("a", {"n": n})
    held = {run.by for run in await lab.some(3)}
    assert len(held) == 1
    run = held.pop()
    found = await find(lab.wire, run)
    assert found is not None
    source = next(iter(limit))
    assert (found.status, found.function, found.source, found.started) == ("queued", "test-f", source, None)
    event = json.loads(bytes(found.event or b"{}"))
    numbers = [one["data"]["n"] for one in event.get("batch", [event])]
    assert numbers == ([2] if source == "debounce" else [0, 1, 2])
    assert run_view.run_page(found, [], 0).event_name == "a"
    assert [one.events for one in (await backlogs_of(lab.wire, "test-f")).buffers] == [1 if source == "debounce" else 3]
    assert await cancel_now(lab.wire, run, "not wanted") == "cancelled"
    assert (await lab.status(run, "cancelled")).source == source
    with pytest.raises(HasEnded):
        await cancel_now(lab.wire, run, "again")
    await lab.send("a", {"n": 9})
    assert {one.by for one in await lab.some(5) if one.by} > {run}, "what comes after makes another run"


@pytest.mark.parametrize("limit", [{"debounce": Debounce("1s")}, {"batch": Batch(2, "1m")}])
async def test_a_buffer_that_became_a_run_leaves_no_trace(lab: Lab, limit: dict[str, Any]) -> None:
    @lab.app.function("f", on="a", **limit)
    async def f(ctx, step):
        return 1

    await lab.work()
    for n in range(2):
        await lab.send("a", {"n": n})
    by = {run.by for run in await lab.some(2) if run.by}
    assert len(by) == 1
    await lab.status(by.pop(), "completed")
    assert await lab.wire.call("EXISTS", keys.buffered("test-f")) == 0
    assert (await backlogs_of(lab.wire, "test-f")).buffers == []


async def test_attempts_that_failed_are_told_by_the_api_and_in_the_terminal_as_on_the_page(lab: Lab) -> None:
    tried: list[int] = []

    async def call() -> str:
        tried.append(1)
        if len(tried) < 3:
            raise ConnectionError(f"the carrier answered 50{len(tried)}")
        return "label"

    @lab.app.function("f", on="a", retries=Retry(4, backoff=0.01))
    async def f(ctx: Context[dict], step: Step) -> str:
        return await step.run("print", call)

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    site = create_app(configured=lab.settings)
    transport = httpx2.ASGITransport(app=site)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        told = (await http.get(f"/v1/runs/{run.id}/attempts?fields=step,attempt,error")).json()["data"]
    await site.close()
    assert [(one["step"], one["attempt"], one["error"]["message"]) for one in told] == [
        ("print", 1, "the carrier answered 501"),
        ("print", 2, "the carrier answered 502"),
    ]
    shown = await asyncio.to_thread(bus, "run", run.id, url=lab.settings.redis_url)
    assert "ConnectionError: the carrier answered 501" in shown
    assert "ConnectionError: the carrier answered 502" in shown
    whole = json.loads(await asyncio.to_thread(bus, "run", run.id, "--json", url=lab.settings.redis_url))
    assert [one["attempt"] for one in whole["attempts"]] == [1, 2]
