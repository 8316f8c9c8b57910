"""Code that changed between two turns: a missing or renamed step is seen, told and resumable, never silently wrong."""

import asyncio
import json
from typing import Any

import pytest

from stepstream import Bus, Context, Step
from stepstream.bus.wire import keys
from stepstream.checkpoint.run.resolve import hurry_changed
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.turn import suspension
from tests.support import Lab, eventually

ran: list[str] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    ran.clear()


def body(name: str) -> str:
    ran.append(name)
    return name


async def v1(ctx: Context[dict], step: Step) -> list[str]:
    first = await step.run("charge", body, "charge")
    await step.sleep("nap", 0.4)
    return [first, await step.run("mail", body, "mail")]


async def renamed(ctx: Context[dict], step: Step) -> list[str]:
    first = await step.run("charge-card", body, "charge-card")
    await step.sleep("nap", 0.4)
    return [first, await step.run("mail", body, "mail")]


async def removed(ctx: Context[dict], step: Step) -> list[str]:
    await step.sleep("nap", 0.4)
    return [await step.run("mail", body, "mail")]


async def nothing_left(ctx: Context[dict], step: Step) -> list[str]:
    return ["nothing"]


async def nap_renamed(ctx: Context[dict], step: Step) -> list[str]:
    first = await step.run("charge", body, "charge")
    await step.sleep("rest", 0.4)
    return [first, await step.run("mail", body, "mail")]


async def nap_is_a_signal(ctx: Context[dict], step: Step) -> list[str]:
    first = await step.run("charge", body, "charge")
    await step.wait_for_signal("nap", "word", timeout=0.4)
    return [first, await step.run("mail", body, "mail")]


async def charge_is_a_sleep(ctx: Context[dict], step: Step) -> list[str]:
    await step.sleep("charge", 0.1)
    await step.sleep("nap", 0.4)
    return [await step.run("mail", body, "mail")]


async def added_in_front(ctx: Context[dict], step: Step) -> list[str]:
    look = await step.run("look", body, "look")
    first = await step.run("charge", body, "charge")
    await step.sleep("nap", 0.4)
    return [look, first, await step.run("mail", body, "mail")]


async def added_behind(ctx: Context[dict], step: Step) -> list[str]:
    first = await step.run("charge", body, "charge")
    _, look = await asyncio.gather(step.sleep("nap", 0.4), step.run("look", body, "look"))
    return [look, first, await step.run("mail", body, "mail")]


async def reordered(ctx: Context[dict], step: Step) -> list[str]:
    await step.sleep("nap", 0.4)
    first = await step.run("charge", body, "charge")
    return [first, await step.run("mail", body, "mail")]


async def deploy(lab: Lab, handler: Any) -> Any:
    app = Bus("test")
    app.function("f", on="a")(handler)
    lab.app = app
    return await lab.work(app=app)


async def replace(lab: Lab, old: Any, handler: Any) -> Any:
    old.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the old worker has left")
    return await deploy(lab, handler)


@pytest.mark.parametrize(
    ("handler", "steps"),
    [
        (renamed, "charge, nap"),
        (removed, "charge"),
        (nothing_left, "charge, nap"),
        (nap_renamed, "nap"),
        (added_in_front, "charge, nap"),
        (nap_is_a_signal, "nap as sleep"),
        (charge_is_a_sleep, "charge as run"),
    ],
    ids=[
        "renamed",
        "removed",
        "all removed",
        "sleep renamed",
        "added in front",
        "wait of another kind",
        "result of another kind",
    ],
)
async def test_a_step_that_is_no_more_is_told_and_the_run_goes_on_after_the_next_deploy(
    lab: Lab, handler: Any, steps: str
) -> None:
    old = await deploy(lab, v1)
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    new = await replace(lab, old, handler)

    async def told() -> bool:
        return any("code has changed" in notice.event for notice in lab.notices)

    await eventually(told, "it is told")
    seen = await lab.status(run, "waiting")
    assert ran == ["charge"], "nothing new was done"
    assert (seen.attempt, seen.error and seen.error.name) == (0, "code_changed")
    named = next(notice for notice in lab.notices if "code has changed" in notice.event)
    assert set(named.fields["steps"].split(", ")) == set(steps.split(", "))
    await replace(lab, new, v1)  # which tries it at once, not in a minute
    assert await lab.output() == ["charge", "mail"]
    assert ran == ["charge", "mail"]
    await lab.idle()


@pytest.mark.parametrize(
    ("handler", "output", "done"),
    [
        (added_behind, ["look", "charge", "mail"], ["charge", "look", "mail"]),
        (reordered, ["charge", "mail"], ["charge", "mail"]),
    ],
    ids=["added", "reordered"],
)
async def test_what_is_added_or_moved_runs_and_what_was_done_stands(
    lab: Lab, handler: Any, output: list[str], done: list[str]
) -> None:
    old = await deploy(lab, v1)
    await lab.send("a")
    await lab.status(await lab.first(), "waiting")
    await replace(lab, old, handler)
    assert await lab.output() == output
    assert ran == done
    assert not any("code has changed" in notice.event for notice in lab.notices)


async def test_a_rolling_deploy_of_two_hundred_runs_is_never_silently_wrong(lab: Lab) -> None:
    """Half the runs see the old code, half a version that renamed what they have done; then the old one comes back."""
    old = await deploy(lab, v1)
    for _ in range(200):
        await lab.send("a")
    await lab.some(200)
    new = await replace(lab, old, renamed)

    async def seen() -> bool:
        stuck = [run for run in await lab.runs() if run.error is not None and run.error.name == "code_changed"]
        return len(stuck) + sum(run.has_ended for run in await lab.runs()) == 200

    await eventually(seen, "each has ended or waits for a deploy")
    assert "charge-card" not in ran
    await replace(lab, new, v1)
    runs = await lab.ended(200)
    assert {json.dumps(json.loads(bytes(run.output or b""))) for run in runs} == {'["charge", "mail"]'}
    assert ran.count("charge") == ran.count("mail") == 200


async def race(ctx: Context[dict], step: Step) -> str:
    loser = asyncio.ensure_future(step.wait_for_signal("loser", "word", timeout="1h"))
    await step.run("winner", asyncio.sleep, 0.1)
    loser.cancel()
    await step.sleep("nap", 0.3)
    return "done"


async def waits_for_the_loser(ctx: Context[dict], step: Step) -> str:
    loser = asyncio.ensure_future(step.wait_for_signal("loser", "word", timeout="1h"))
    await step.run("winner", asyncio.sleep, 0.1)
    await step.sleep("nap", 0.3)
    return await loser


async def waits_for_the_loser_first(ctx: Context[dict], step: Step) -> str:
    loser = asyncio.ensure_future(step.wait_for_signal("loser", "word", timeout="1h"))
    await step.run("winner", asyncio.sleep, 0.1)
    await loser
    await step.sleep("nap", 0.3)
    return "never"


async def test_code_that_waits_for_a_step_it_had_given_up_waits_on(lab: Lab) -> None:
    old = await deploy(lab, race)
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    await replace(lab, old, waits_for_the_loser)

    async def heard() -> bool:
        return await send_signal(lab.wire, "word", "after all") == run

    await eventually(heard, "it waits again")
    assert await lab.output() == "after all"


async def test_code_that_waits_for_a_step_it_had_given_up_before_it_comes_to_what_it_has_done(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline of the author's may have cancelled it, and will again; after a minute it is told as changed code."""
    monkeypatch.setattr(suspension, "GIVEN_UP_WAIT_S", 0.2)
    old = await deploy(lab, race)
    await lab.send("a")
    run = await lab.first()
    await lab.status(run, "waiting")
    new = await replace(lab, old, waits_for_the_loser_first)

    async def told() -> bool:
        return any("code has changed" in notice.event for notice in lab.notices)

    await eventually(told, "it is told")
    seen = await lab.status(run, "waiting")
    assert (seen.error and seen.error.name) == "code_changed"
    await replace(lab, new, race)
    assert await lab.output() == "done"


async def test_a_new_worker_wakes_only_what_waits_for_a_deploy(lab: Lab) -> None:
    """Also with buffers, sleeping runs and what was added by hand between them, and more than one page of them."""
    timers, soon = keys.timers("test-f"), await lab.wire.clock() + 30_000
    many = {f"sleeps{n}:1": soon for n in range(300)}
    others = ("buffer|k", "limit|c0:", "odd", "torn:1")
    for member in (*many, *others, "changed:2"):
        await lab.wire.call("ZADD", timers, soon, member)
    await lab.wire.call("HSET", keys.run("test-f", "torn"), "error", "{")
    await lab.wire.call("HSET", keys.run("test-f", "changed"), "error", '{"name":"code_changed","message":"m"}')
    assert await hurry_changed(lab.wire, "test-f") == 1
    due = await lab.wire.call("ZRANGEBYSCORE", timers, "-inf", await lab.wire.clock())
    assert due == [b"changed:2"]
    assert await lab.wire.call("ZCARD", timers) == 305
    await lab.wire.call("DEL", timers, keys.run("test-f", "torn"), keys.run("test-f", "changed"))  # added by hand
