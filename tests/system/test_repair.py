"""A run whose holder is gone (a failover forgot it) is seen twice, one lease apart, and goes on."""

import asyncio
import json
import os
from typing import Any

import pytest

from stepstream import Context, Step
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Listeners
from stepstream.checkpoint.upkeep.audit import audit
from stepstream.checkpoint.upkeep.repair import unheld
from stepstream.consumers.upkeep.repair import Repair
from tests import forks
from tests.patience import PATIENT_S
from tests.support import Lab, eventually

SLUG = "test-f"


async def _lose(lab: Lab, what: str, run: str) -> None:
    """Take the run's holder away, as a server does that has forgotten it."""
    call = lab.wire.call
    if what == "timer":
        await call("DEL", keys.timers(SLUG))
    elif what == "queue entry":
        await call("HSET", keys.run(SLUG, run), "status", "queued", "entry", "queue|1-1")
        await call("DEL", keys.timers(SLUG))
        await call("ZREM", keys.runs(SLUG, "waiting"), run)
        await call("ZADD", keys.runs(SLUG, "queued"), 1, run)
    else:
        await call("HSET", keys.run(SLUG, run), "status", "running", "turn", "1", "entry", "event|a|1-1", "fence", "x")
        await call("DEL", keys.timers(SLUG))
        await call("ZREM", keys.runs(SLUG, "waiting"), run)
        await call("ZADD", keys.runs(SLUG, "running"), 1, run)


@pytest.mark.each_server
@pytest.mark.parametrize("what", ["timer", "queue entry", "pending entry"])
async def test_a_run_that_lost_its(lab: Lab, what: str) -> None:
    slept: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        slept.append(await step.run("first", lambda: "once"))
        await step.sleep("nap", 1.5)  # it is to be lost before that
        return "done"

    worker = await lab.work()
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    await _lose(lab, what, run)
    assert len(await unheld(lab.wire, SLUG, [run])) == 1
    await Repair(lab.wire, worker.signals, [SLUG]).everything()
    assert await lab.output() == "done"
    assert any("had no holder" in notice.event for notice in lab.notices)
    steps = await lab.steps((await lab.runs())[0])
    assert steps["first"].attempts == 1
    await lab.idle()


async def test_runs_that_have_a_holder_are_left_alone(lab: Lab) -> None:
    go_on = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        if ctx.event.data["n"] % 2:
            await step.sleep("nap", "1h")
        else:
            await go_on.wait()

    worker = await lab.work()
    for n in range(6):
        await lab.send("a", {"n": n})
    await lab.some(6)
    await lab.wire.call("ZADD", keys.runs(SLUG, "running"), 1, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    repair = Repair(lab.wire, worker.signals, [SLUG])
    await repair.everything()
    for _ in range(4):
        await repair.next_page()
    assert not any("had no holder" in notice.event for notice in lab.notices)
    assert await lab.wire.call("ZSCORE", keys.runs(SLUG, "running"), "01ARZ3NDEKTSV4RRFFQ69G5FAV") is None
    go_on.set()


@pytest.mark.parametrize("name", ["queue", "backlog", "event|a"])
async def test_a_run_of_an_event_with_the_name_of_another_holder_is_not_taken_for_lost(lab: Lab, name: str) -> None:
    """Its entry was named `queue|<id>`, looked for in the queue, and repaired while its worker was at it."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @lab.app.function("f", on=name)
    async def f(ctx: Context[dict], step: Step) -> str:
        await step.run("first", begun.set)
        await go_on.wait()
        return "done"

    await lab.work()
    await lab.send(name)
    async with asyncio.timeout(PATIENT_S):
        await begun.wait()
    assert await unheld(lab.wire, SLUG, [await lab.first()]) == []
    go_on.set()
    assert await lab.output() == "done"


def bus_check(settings: Settings, *words: str) -> tuple[int, str]:
    done = forks.bus("check", *words, env={**os.environ, "BUS_REDIS_URL": settings.redis_url, "BUS_LEASE": "1"})
    return done.returncode, done.stdout


async def test_bus_check_tells_and_repairs(lab: Lab) -> None:
    import anyio.to_thread

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "done"

    await lab.work()
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")

    async def check(*words: str) -> Any:
        return await anyio.to_thread.run_sync(bus_check, lab.checker.settings, *words)

    assert await check() == (0, "1 runs have not ended, 0 of them have no holder; 0 keys are not right\n")
    await _lose(lab, "timer", run)
    code, told = await check()
    assert code == 1
    assert f"{run}  {SLUG}  is waiting, but has no timer" in told
    code, told = await check("--repair", "--json")
    assert code == 0
    assert json.loads(told) == {
        "active": 1, "unheld": [{"run": run, "function": SLUG, "found": "is waiting, but has no timer"}],
        "faults": [], "leftovers": [], "repaired": 1,
    }  # fmt: skip

    async def parked_again() -> bool:
        return await lab.wire.call("ZCARD", keys.timers(SLUG)) == 1

    await eventually(parked_again, "it waits again")


async def test_what_a_dead_worker_left_waiting_is_told_as_a_leftover_not_as_a_fault(lab: Lab) -> None:
    """`bus check` exited with 1 for days: it is in nobody's way, and goes at its deadline."""
    deadline = await lab.wire.clock() + 3_600_000
    await lab.wire.call("SET", keys.signal("word"), "gone|run|fence|step", "PX", 3_600_000)
    await lab.wire.call("ZADD", keys.waits("shop/a"), 0, f"data.n=1|gone|run|step|{deadline}|1-0")
    code, told = await asyncio.to_thread(bus_check, lab.checker.settings)
    assert code == 0
    assert "0 keys are not right; 2 leftovers go by themselves at their deadline; bus check --repair" in told
    code, told = await asyncio.to_thread(bus_check, lab.checker.settings, "--repair")
    assert (code, told.splitlines()[-1].endswith("; 2 repaired")) == (0, True)
    assert await lab.wire.call("EXISTS", keys.signal("word"), keys.waits("shop/a")) == 0


async def test_a_function_that_is_registered_before_any_worker_started_has_no_fault(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await Listeners(lab.wire, [lab.app.functions]).get_ready({"a"}, PATIENT_S)
    await lab.send("a")
    assert await audit(lab.checker) == []
    await lab.wire.call("ZADD", keys.function_workers(SLUG), 2**52, "worker")
    found = {(fault.key, fault.words) for fault in await audit(lab.checker)}
    lacks = f"lacks the consumer group of {SLUG}"
    assert found == {(keys.queue(SLUG), lacks), (keys.ends(SLUG), lacks)}, "a worker had made them"
    await lab.wire.call("DEL", keys.function_workers(SLUG))
