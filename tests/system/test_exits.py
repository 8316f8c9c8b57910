"""How entries leave a worker's hands: places come free and wake the line, and what a thread still does is kept."""

import asyncio
import threading
from functools import partial

import pytest

from stepstream import Bus, Concurrency, Context, Step, Timeouts
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_of
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.consumers import worker as life
from tests.patience import FOR_EVER_S, PATIENT_S
from tests.support import Lab, eventually

HELD = run_id("test-f", "event", "held", 1_469_918_176_385)


async def count(lab: Lab, slug: str, status: str) -> int:
    return await lab.wire.call("ZCARD", keys.runs(slug, status))


async def test_a_line_of_runs_whose_time_to_start_is_over_empties_at_once_and_fresh_ones_run(lab: Lab) -> None:
    gate = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=Concurrency(1), timeouts=Timeouts(start="1h"))
    async def f(ctx: Context[dict], step: Step) -> None:
        if ctx.event.data.get("holds"):
            await gate.wait()

    worker = await lab.work()
    await lab.send("a", {"holds": True})
    await lab.status(await lab.first(), "running")
    for _ in range(30):
        await lab.send("a")
    await eventually(lambda: count(lab, "test-f", "queued"), "they stand in line")
    lab.wire.now = worker._wire.now = str(await lab.wire.clock() + 3_601_000)  # longer than each may wait
    gate.set()
    for _ in range(12):
        await lab.send("a", {"fresh": True})

    async def settled() -> bool:
        return await count(lab, "test-f", "cancelled") + await count(lab, "test-f", "completed") == 43

    await eventually(settled, "nobody is in line")
    assert await count(lab, "test-f", "completed") == 13


async def test_a_run_that_is_cancelled_with_its_place_wakes_who_waits_for_it(wire: Wire) -> None:
    """No worker has done this, so none would look at the line by itself."""
    slug, waits = "test-f", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
    for run, entry in ((HELD, "queue|1-1"), (waits, "backlog|c0:")):
        await wire.call(
            "HSET", keys.run(slug, run), "format", "1", "status", "queued", "turn", "1", "entry", entry, "queued", "1",
            "event", "{}", "source", "event", "holds", "c0:", "rank", "1",
        )  # fmt: skip
        await wire.call("ZADD", keys.runs(slug, "queued"), 1, run)
    await wire.call("ZADD", keys.places(slug, "c0:"), 1, HELD)
    await wire.call("ZADD", keys.backlog(slug, "c0:"), 1, waits)
    assert await cancel_of(wire, slug, HELD, "test") == "cancelled"
    (bell,) = await wire.call("XRANGE", keys.queue(slug), "-", "+")
    assert bell[1] == [b"bell", b"cancel"]
    assert await wire.call("ZRANGE", keys.ready(slug), 0, -1) == [b"c0:"]


async def dead_holder(lab: Lab, run: str) -> str:
    """Leave a run as a worker leaves it that dies in the middle of its body; return its entry."""
    slug, queue = "test-f", keys.queue("test-f")
    now = str(await lab.wire.clock())
    event = await lab.wire.call("HGET", keys.run(slug, run), "event")
    entry = (await lab.wire.call("XADD", queue, "*", "run", HELD, "turn", "1", "why", "place", "holds", "c0:")).decode()
    await lab.wire.call(
        "HSET", keys.run(slug, HELD), "format", "1", "status", "running", "source", "event", "event", event, "turn", "1",
        "entry", f"queue|{entry}", "fence", "x", "worker", "ghost.0", "queued", now, "started", now, "holds", "c0:", "rank", now,
    )  # fmt: skip
    await lab.wire.call("ZADD", keys.places(slug, "c0:"), now, HELD)
    await lab.wire.call("ZADD", keys.runs(slug, "running"), now, HELD)
    return entry


async def test_a_run_that_was_taken_over_waits_for_its_shared_place_like_any_other(
    lab: Lab, settings: Settings, wire: Wire
) -> None:
    bodies: list[str] = []

    @lab.app.function("f", on="a", concurrency=Concurrency(1, shared="gpu"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("work", bodies.append, ctx.run_id)

    first = Bus("test")
    first.function("f", on="a", concurrency=Concurrency(1, shared="gpu"))(f.handler)
    worker = await lab.work(app=first)
    await lab.send("a")
    made = (await lab.some())[0]
    await lab.status(made.id, "completed")
    worker.stop()
    await lab.no_turns(worker)
    entry = await dead_holder(lab, made.id)
    await wire.call("XREADGROUP", "GROUP", "test-f", "ghost.0", "STREAMS", keys.queue("test-f"), ">")
    other = "test-g|R|1"
    await wire.call("ZADD", keys.limit("gpu="), await wire.clock() + 60_000, other)
    await lab.work()

    async def in_line() -> bool:
        return (await wire.call("HGET", keys.run("test-f", HELD), "entry")) == b"backlog|c0:"

    await eventually(in_line, "it stands in line")
    found = await wire.call("HMGET", keys.run("test-f", HELD), "status", "crashes", "charged")
    assert found == [b"queued", b"1", b"ghost.0\n"]
    assert HELD not in bodies

    async def has_left() -> bool:
        return await wire.call("XPENDING", keys.queue("test-f"), "test-f", entry, entry, 1) == []

    await eventually(has_left, "its entry is acknowledged")
    await wire.call("ZREM", keys.limit("gpu="), other)
    await lab.status(HELD, "completed")
    assert bodies.count(HELD) == 1


async def test_a_deploy_that_drops_a_limit_lets_what_waited_under_it_run(lab: Lab) -> None:
    gate = asyncio.Event()

    def declare(app: Bus, *rules: Concurrency) -> None:
        @app.function("f", on="a", concurrency=list(rules))
        async def f(ctx: Context[dict], step: Step) -> None:
            await step.sleep("nap", 0.3)
            await gate.wait()

    declare(lab.app, Concurrency(5, shared="cpu"))
    before = Bus("test")
    declare(before, Concurrency(5, shared="cpu"), Concurrency(1, shared="gpu"))
    worker = await lab.work(app=before)
    for _ in range(3):
        await lab.send("a")
    waiting = partial(count, lab, "test-f", "waiting")
    await eventually(waiting, "one sleeps")
    worker.stop()
    await lab.no_turns(worker)
    gate.set()
    await lab.work()
    assert {run.status for run in await lab.ended(3)} == {"completed"}
    assert not [notice for notice in lab.notices if "failed" in notice.event]


async def test_a_run_that_took_a_shared_place_and_does_not_start_leaves_none(lab: Lab) -> None:
    @lab.app.function("f", on="a", concurrency=Concurrency(1, shared="gpu"))
    async def f(ctx: Context[dict], step: Step) -> None: ...

    lab.settings = Settings(redis_url=lab.settings.redis_url, lease_ms=600_000)
    await lab.work()
    await lab.send("a")
    run = await lab.one()
    for turn in ("1", "7"):
        await lab.wire.call(
            "XADD", keys.queue("test-f"), "*", "run", run.id, "turn", turn, "why", "place", "holds", "c0:"
        )
    await lab.idle()

    async def gone() -> bool:
        return not await lab.wire.call("EXISTS", keys.limit("gpu="))

    await eventually(gone, "no key of the limit is left")  # given back: no lease has ended yet


async def test_a_body_that_runs_in_a_thread_when_its_worker_stops_is_not_begun_by_another(
    lab: Lab, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_THREADS_S", PATIENT_S)  # so that it is not given up, however slow the machine
    begun, release = threading.Event(), threading.Event()
    bodies: list[str] = []

    def work() -> str:
        bodies.append("work")
        begun.set()
        release.wait(FOR_EVER_S)
        return "done"

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        found = await step.run("work", work)
        await step.run("after", bodies.append, "after")
        return found

    lab.settings = Settings(redis_url=settings.redis_url, lease_ms=1_000, drain_ms=200)
    worker = await lab.work()
    await lab.send("a")
    await asyncio.to_thread(begun.wait, PATIENT_S)
    worker.stop()

    def told() -> list[dict]:
        return [notice.fields for notice in lab.notices if "runs in a thread" in notice.event]

    async def is_told() -> bool:
        return bool(told())

    await eventually(is_told, "the worker tells of it")
    run = (await lab.some())[0]
    assert told()[0]["run"] == run.id
    assert told()[0]["steps"] == ["work"]
    await lab.work()
    await asyncio.sleep(2.2)  # two leases: the other could have claimed it
    assert bodies == ["work"]
    release.set()
    assert await lab.output() == "done"
    assert bodies == ["work", "after"]


async def test_a_worker_that_stops_takes_nothing_up_again_that_it_gave_back(lab: Lab, settings: Settings) -> None:
    """While a thread was waited for it claimed its own entries, and ran their bodies a second time."""
    in_thread, release = threading.Event(), threading.Event()
    begun: list[str] = []

    def work() -> None:
        in_thread.set()
        release.wait(FOR_EVER_S)

    @lab.app.function("thread", on="a")
    async def thread(ctx: Context[dict], step: Step) -> None:
        await step.run("work", work)

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        async def body() -> None:
            begun.append("body")
            if len(begun) == 1:
                await asyncio.sleep(FOR_EVER_S)

        await step.run("body", body)

    lab.settings = Settings(redis_url=settings.redis_url, lease_ms=500, drain_ms=200)
    worker = await lab.work()
    await asyncio.sleep(0.6)  # by now it may take up what was given back
    await lab.send("a")
    await asyncio.to_thread(in_thread.wait, PATIENT_S)
    await eventually(lambda: asyncio.sleep(0, list(begun)), "both run")
    worker.stop()
    await asyncio.sleep(1.5)  # many looks at what others left
    assert begun == ["body"]
    await lab.work()
    await eventually(lambda: asyncio.sleep(0, len(begun) == 2), "another has it")
    release.set()
    await lab.ended(2)


@pytest.mark.parametrize("by", ["event", "call"])
async def test_a_deploy_that_adds_a_limit_goes_on_with_what_was_in_hand(lab: Lab, by: str) -> None:
    """Its entry was acknowledged as decided on long ago; the run stayed `running` until repair came by."""
    begun: list[str] = []
    gate = asyncio.Event()

    async def f(ctx: Context[dict], step: Step) -> None:
        async def body() -> None:
            begun.append(ctx.run_id)
            await gate.wait()

        await step.run("body", body)

    first = Bus("test")
    first.function("f", on="a")(f)
    lab.app.function("f", on="a", concurrency=Concurrency(1))(f)
    lab.settings = Settings(redis_url=lab.settings.redis_url, lease_ms=500, drain_ms=100)
    worker = await lab.work(app=first)
    if by == "event":
        await lab.send("a")
    else:
        await invoke(lab.wire, "test-f", {})
    await eventually(lambda: asyncio.sleep(0, list(begun)), "it runs")
    worker.stop()
    await lab.work()
    await eventually(lambda: asyncio.sleep(0, len(begun) == 2), "the new version has it")
    gate.set()
    run = await lab.one()
    assert run.status == "completed"
    assert begun == [run.id] * 2
    await lab.idle()


async def test_a_run_that_gets_one_of_two_shared_places_gives_it_back_before_it_stands_in_line(lab: Lab) -> None:
    """Behind that it freed the place of the worker that had taken the run from the line by then: two had it."""

    @lab.app.function("f", on="a", concurrency=[Concurrency(1, shared="a"), Concurrency(1, shared="b")])
    async def f(ctx: Context[dict], step: Step) -> None:
        pass

    await lab.wire.call("ZADD", keys.limit("b="), await lab.wire.clock() + 60_000, "other")
    await lab.work()
    await lab.admin.call("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "10000")
    try:
        await lab.admin.call("SLOWLOG", "RESET")
        await lab.send("a")
        run = await lab.first()

        async def first_of_each() -> list[int]:
            """Return the numbers that the server has given to the first two of these commands, once it has had both."""
            rows = await lab.admin.call("SLOWLOG", "GET", "-1")
            given = [row[0] for row in rows if row[3][-1] == f"test-f|{run}|1".encode()]
            stood = [row[0] for row in rows if row[3][-2:] == [b"c1:", b""]]
            return [min(given), min(stood)] if given and stood else []

        given, stood = await eventually(first_of_each, "it gives its place back, and stands in line")
    finally:
        await lab.admin.call("CONFIG", "SET", "slowlog-log-slower-than", "10000")
    assert given < stood
    await lab.wire.call("ZREM", keys.limit("b="), "other")
    await lab.ended()
