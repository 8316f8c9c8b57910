"""Nothing that a run needs expires while it lives, however long it waits."""

import json
from typing import Any

import pytest

from stepstream import Context, Singleton, Step, StepFailed
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.rerun import rerun
from tests.support import Lab, eventually

SLUG = "test-f"


async def ttl(lab: Lab, key: str) -> int:
    """Return ms until a key expires, -1: never, -2: it is not there."""
    return int(await lab.wire.call("PTTL", key))


async def test_a_singletons_name_is_its_runs_until_the_end_and_no_longer(lab: Lab) -> None:
    @lab.app.function("f", on="a", singleton=Singleton("skip", key="event.data.k"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("it", "go", timeout="300d")

    await lab.work()
    await lab.send("a", {"k": "x"})
    run = await lab.first()
    await lab.status(run, "waiting")
    name = keys.single(SLUG, "s:x")
    assert (await lab.wire.call("GET", name), await ttl(lab, name)) == (run.encode(), -1)
    await lab.send("a", {"k": "x"})
    assert sorted(one.status for one in await lab.some(2)) == ["skipped", "waiting"]
    await lab.send("go")
    await lab.status(run, "completed")
    assert await ttl(lab, name) == -2, "a name is given up in the act that ends its run"
    await lab.send("a", {"k": "x"})
    await lab.some(3)
    assert sorted(one.status for one in await lab.some(3)).count("skipped") == 1


async def test_a_newer_run_that_took_a_singletons_name_keeps_it_when_the_older_ends(lab: Lab) -> None:
    @lab.app.function("f", on="a", singleton=Singleton("cancel"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("it", "go", timeout="300d")

    await lab.work()
    await lab.send("a")
    first = await lab.first()
    await lab.status(first, "waiting")
    await lab.send("a")
    await lab.status(first, "cancelled")
    second = next(run.id for run in await lab.some(2) if run.id != first)
    assert await lab.wire.call("GET", keys.single(SLUG, "s:")) == second.encode()


@pytest.mark.parametrize("limits", [{}, {"concurrency": 2}], ids=["plain", "with limits"])
async def test_memos_copied_by_a_rerun_live_as_long_as_the_new_run(lab: Lab, limits: dict[str, Any]) -> None:
    bodies: list[str] = []

    @lab.app.function("f", on="a", **limits)
    async def f(ctx: Context[dict], step: Step) -> str:
        await step.run("first", lambda: bodies.append("first"))
        if len(bodies) > 1:
            raise AssertionError("a finished step ran again")
        await step.run("second", lambda: bodies.append("second") if len(bodies) > 5 else None)
        await step.wait_for_event("it", "go", timeout="30d")
        return "done"

    worker = await lab.work()
    await lab.send("a")
    old = await lab.first()
    await lab.status(old, "waiting")
    await lab.send("go")
    await lab.status(old, "completed")
    worker.stop()

    async def has_left() -> bool:
        return await lab.wire.call("ZCARD", keys.function_workers(SLUG)) == 0

    await eventually(has_left, "the worker has left")
    new = await rerun(lab.wire, old, "second")
    assert await ttl(lab, keys.steps(SLUG, new)) == -1, "it may be days until a worker begins it"
    await lab.work()
    await lab.status(new, "waiting")
    assert await ttl(lab, keys.steps(SLUG, new)) == -1
    await lab.send("go")
    await lab.status(new, "completed")
    assert await ttl(lab, keys.steps(SLUG, new)) > 0
    assert bodies == ["first"]


async def test_a_caller_is_told_when_the_record_of_its_call_is_gone_before_its_end_was_told(lab: Lab) -> None:
    """No worker was there for longer than ended runs are kept."""

    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> None:
        await step.sleep("long", "300d")

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        try:
            await step.invoke("call", child, {}, timeout="300d")
        except StepFailed as error:
            return f"{error.name}: {error.message}"
        return "done"

    await lab.work()
    await lab.send("a")
    caller, called = await lab.first(SLUG), (await lab.some(1, "test-child"))[0].id
    await lab.status(caller, "waiting")
    parent = f"{SLUG}|{caller}|call"
    await lab.wire.call("XADD", keys.ends("test-child"), "*", "run", "01GONE", "status", "completed", "parent", parent)
    run = await lab.status(caller, "completed")
    assert json.loads(bytes(run.output or b"")) == "gone: run 01GONE has ended; how is no longer known"
    assert await cancel(lab.wire, called, "over") == "cancelled"
