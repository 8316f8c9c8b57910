"""Verdicts: every state that a run can be in is told in one sentence, with the facts that are in it."""

import asyncio
import json
import re
from typing import Any

import pytest
import redis

from stepstream import Context, Retry, Step
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.limits.timeouts import Timeouts
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.controls.pauses import pause_event, pause_function, resume_event, resume_function
from stepstream.checkpoint.read.run.find import find, get
from stepstream.checkpoint.read.run.verdict import Verdict, verdict
from stepstream.checkpoint.registry import register
from tests.support import Lab, eventually


async def sent(lab: Lab, function: str, name: str, **data: Any) -> str:
    """Publish an event; return the id of the run that a function will make of it."""
    stored = await lab.send(name, data)
    return run_id(f"test-{function}", "event", f"{name}|{stored.entry}", entry_ms(stored.entry))


async def told(lab: Lab, run: str, kind: str) -> Verdict:
    """Wait until a run's verdict is of a kind."""

    async def look() -> Verdict | None:
        found = await find(lab.wire, run)
        seen.append(None if found is None else await verdict(lab.wire, found))
        return seen[-1] if seen[-1] is not None and seen[-1].kind == kind else None

    seen: list[Verdict | None] = []
    found = await eventually(look, f"{kind} is told of {run}")
    assert found is not None
    assert "  " not in found.words, found
    assert not re.search(r"\bNone\b|\{", found.words), found
    return found


async def test_what_a_run_waits_for_is_told(lab: Lab) -> None:
    fn = lab.app.function

    async def boom() -> None:
        raise RuntimeError("no paper\nleft")

    @fn("child", retries=0)
    async def child(ctx: Context[Any], step: Step) -> None:
        await step.sleep("nap", "2h")

    @fn("waits", on="a")
    async def waits(ctx: Context[Any], step: Step) -> None:
        match ctx.event.data["on"]:
            case "sleep":
                await step.sleep("nap", "2h")
            case "event":
                await step.wait_for_event("paid", "order/paid", match="data.on", timeout="3d")
            case "signal":
                await step.wait_for_signal("word", "go", timeout="1h")
            case "child":
                await step.invoke("call", child)
            case "step":
                await step.run("print", boom, retries=Retry(3, backoff=3_600))
            case "code":
                await boom()
            case _:
                await asyncio.gather(step.sleep("nap", "2h"), step.wait_for_event("paid", "order/paid"))

    @fn("code", on="b", retries=Retry(2, backoff=3_600))
    async def code(ctx: Context[Any], step: Step) -> None:
        await boom()

    await lab.work()
    sleeps = await told(lab, await sent(lab, "waits", "a", on="sleep"), "sleep")
    assert re.fullmatch(r"sleeps: step nap goes on in (2 h|1 h 59 min)", sleeps.words)
    assert (sleeps.step, sleeps.until is not None) == ("nap", True)
    event = await told(lab, await sent(lab, "waits", "a", on="event"), "event")
    assert event.words.startswith("waits for order/paid with the same data.on in step paid, at most ")
    assert event.waits_for == "order/paid"
    signal = await told(lab, await sent(lab, "waits", "a", on="signal"), "signal")
    assert (signal.words.startswith("waits for signal go in step word, at most "), signal.waits_for) == (True, "go")
    caller = await told(lab, await sent(lab, "waits", "a", on="child"), "child")
    assert caller.words == f"waits for test-child (run {caller.waits_for}) in step call"
    assert (await get(lab.wire, caller.waits_for)).function == "test-child"
    step = await told(lab, await sent(lab, "waits", "a", on="step"), "retry")
    assert re.match(r"step print is tried again in \d+ .*, attempt 2 of 5: RuntimeError: no paper$", step.words)
    assert (step.step, step.attempt, step.error) == ("print", 2, "RuntimeError: no paper")
    several = await told(lab, await sent(lab, "waits", "a", on=""), "several")
    assert re.match(r"sleeps: step nap .*; waits for order/paid in step paid", several.words)
    code_ = await told(lab, await sent(lab, "code", "b"), "retry")
    assert re.match(r"is tried again in .*, attempt 2 of 3: RuntimeError: no paper$", code_.words)
    assert (code_.attempt, code_.attempts, code_.until is not None) == (2, 3, True)


async def test_who_has_a_place_and_who_stands_before_it_is_told(lab: Lab) -> None:
    go = asyncio.Event()
    limits = {
        "one": {"concurrency": Concurrency(1, key="event.data.who")},
        "shared": {"concurrency": Concurrency(1, shared="press")},
        "slow": {"throttle": Throttle(1, "1h")},
        "quiet": {"debounce": Debounce("1h", key="event.data.who")},
        "many": {"batch": Batch(10, "1h")},
        "single": {"singleton": Singleton("skip")},
        "rare": {"rate_limit": RateLimit(1, "1h")},
    }
    for name, rule in limits.items():

        @lab.app.function(name, on=name, retries=0, **rule)  # type: ignore[arg-type]
        async def body(ctx: Context[Any], step: Step) -> None:
            await go.wait()

    await lab.work()
    first = await sent(lab, "one", "one", who="ann")
    running = await told(lab, first, "running")
    assert re.fullmatch(r"runs on \S+, begun .* ago", running.words)
    assert running.worker
    waits = [await sent(lab, "one", "one", who="ann") for _ in range(3)]
    last = await eventually(lambda: _third(lab, waits), "one is the third")
    assert last is not None
    assert last.words == (f"waits for its place: 3rd of 3 for ann (1 at a time per event.data.who), held by {first}")
    assert (last.place, last.of, last.holders, last.held, last.key) == (3, 3, (first,), 1, "ann")
    holder = await sent(lab, "shared", "shared")
    await told(lab, holder, "running")
    shared = await told(lab, await sent(lab, "shared", "shared"), "limit")
    assert shared.words == f"waits for its place: 1st of 1 (1 at a time, shared as press), held by {holder}"
    await told(lab, await sent(lab, "slow", "slow"), "running")
    throttled = await told(lab, await sent(lab, "slow", "slow"), "throttle")
    assert re.fullmatch(r"is throttled, 1st of 1 \(1 starts in 1h\): the next may start in .*", throttled.words)
    held = [await sent(lab, "quiet", "quiet", who="ann") for _ in range(2)]
    merged = await told(lab, held[0], "merged")
    assert merged.words.startswith(f"is part of {merged.waits_for}: events that come close")
    quiet = await told(lab, merged.waits_for, "debounce")
    assert re.fullmatch(r"is held back for ann: it runs in .*, if no other event comes", quiet.words)
    batched = await told(lab, await sent(lab, "many", "many"), "merged")
    batch = await told(lab, batched.waits_for, "batch")
    assert re.fullmatch(r"waits for more: a batch of 1 event runs in .*, or when it is full", batch.words)
    alone = await sent(lab, "single", "single")
    await told(lab, alone, "running")
    kept_out = await told(lab, await sent(lab, "single", "single"), "singleton")
    assert kept_out.words.startswith(f"was skipped: {alone} ran")
    await told(lab, await sent(lab, "rare", "rare"), "running")
    await told(lab, await sent(lab, "rare", "rare"), "rate_limited")
    await pause_function(lab.wire, "test-one", "ann")
    paused = await told(lab, waits[1], "paused")
    assert re.fullmatch(r"test-one is paused, for .*, by ann; beside that it waits for its place: .*", paused.words)
    await resume_function(lab.wire, "test-one")
    go.set()


async def _third(lab: Lab, runs: list[str]) -> Verdict | None:
    """The verdict of the run that is third in line: which one it is, is open for events of one millisecond."""
    for run in runs:
        found = await find(lab.wire, run)
        seen = None if found is None else await verdict(lab.wire, found)
        if seen is not None and seen.place == 3:
            return seen
    return None


async def test_how_a_run_ended_is_told(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=0, timeouts=Timeouts(finish="1s"))
    async def f(ctx: Context[Any], step: Step) -> str:
        if ctx.event.data.get("wait"):
            await step.sleep("nap", "1h")
        if ctx.event.data.get("fail"):
            raise RuntimeError("no paper\nleft")
        return "done"

    await lab.work()
    assert (await told(lab, await sent(lab, "f", "a"), "completed")).words.startswith("completed in ")
    failed = await told(lab, await sent(lab, "f", "a", fail=True), "failed")
    assert re.fullmatch(r"failed after .*: RuntimeError: no paper", failed.words)
    late = await told(lab, await sent(lab, "f", "a", wait=True), "timed_out")
    assert late.words == "timed out: the run did not finish within 1 s"

    @lab.app.function("g", on="g")
    async def g(ctx: Context[Any], step: Step) -> None:
        await step.sleep("nap", "1h")

    await lab.work()
    waits = await sent(lab, "g", "g")
    await told(lab, waits, "sleep")
    await cancel_now(lab.wire, waits, "by ann")
    assert (await told(lab, waits, "cancelled")).words == "was cancelled: by ann"


async def test_what_nobody_takes_up_is_told(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> None: ...

    await register(lab.wire, lab.app.functions["f"])
    run = await sent(lab, "f", "a")
    nobody = await told(lab, run, "no_worker")
    assert nobody.words == "waits for a worker: none serves test-f"
    await pause_event(lab.wire, "a", "the API")
    paused = await told(lab, run, "paused")
    assert re.fullmatch(r"events a are paused, for .*, by the API; beside that it waits for a worker: .*", paused.words)
    await resume_event(lab.wire, "a")
    await lab.work()
    await told(lab, run, "completed")


@pytest.mark.parametrize(
    ("fields", "lease", "others", "kind", "words"),
    [
        ({}, 9_000, 1, "running", "runs on box-1, begun .* ago"),
        ({"crashes": "2"}, 9_000, 1, "running", "runs on box-1, begun .* ago; its worker has died 2 times"),
        ({"cancel": '{"name":"cancelled","message":"by ann"}'}, 9_000, 1, "cancelling", "is being cancelled: by ann"),
        ({}, 2_000, 1, "worker_gone", "its worker box-1 was last seen .* ago; another takes it over in .*, unless it .*"),
        ({}, -4_000, 1, "worker_gone", "its worker box-1 was last seen 1.* s ago; another takes it over now"),
        ({}, -4_000, 0, "worker_gone", "its worker box-1 was last .* ago, and no other serves t-f: start one, which .*"),
        ({"worker": ""}, None, 1, "worker_gone", "its worker is gone; another takes it over now"),
        ({"status": "queued"}, None, 1, "slot", "is due, and waits for a free slot of the 1 worker of t-f"),
        ({"status": "queued"}, None, 0, "no_worker", "waits for a worker: none serves t-f"),
        ({"status": "waiting", "started": "5"}, None, 0, "turn", "waits for its next turn, soon; no worker serves t-f.*"),
        ({"status": "waiting", "turn": "2"}, None, 1, "later", "its event is of a time to come: it begins soon"),
        (
            {"status": "failed", "error": '{"name":"worker_crash","message":"the worker process died 5 times"}'},
            None, 1, "poison", "failed: the worker process died 5 times; it is not tried again, .*",
        ),
        ({"status": "skipped"}, None, 1, "skipped", "was skipped"),
    ],
)  # fmt: skip
async def test_who_has_it_is_told(
    wire: Wire, store: "redis.Redis", fields: dict[str, str], lease: int | None, others: int, kind: str, words: str
) -> None:
    now, run = await wire.clock(), run_id("t-f", "test", "x", 1)
    declared: dict[str, Any] = {
        "bus": "t",
        "id": "f",
        "name": "f",
        "slug": "t-f",
        "on": [],
        "events": [],
        "retries": 4,
        "code": "x",
    }
    store.hset(keys.functions(), "t-f", json.dumps(declared))
    stands: dict[Any, Any] = {
        "status": "running",
        "queued": str(now),
        "entry": "queue|1-0",
        "worker": "box-1.0",
        "turn": "1",
        **fields,
    }
    store.hset(keys.run("t-f", run), mapping=stands)
    store.pexpire(keys.run("t-f", run), 60_000)
    if lease is not None:
        store.zadd(keys.function_workers("t-f", run), {"box-1.0": now + lease * wire.settings.lease_ms // 10_000})
    if others:
        store.zadd(keys.function_workers("t-f", run), {"box-2.0": now + 60_000})
    found = await verdict(wire, await get(wire, run))
    assert found.kind == kind, found
    assert re.fullmatch(words, found.words), found
