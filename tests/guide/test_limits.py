"""Limits: the shortest example of each, and the sequences of events that docs/limits.md compares with the Inngest SDK."""

import asyncio
import json
import time
from collections import Counter
from typing import Any

import pytest

from stepstream import (
    Batch,
    Bus,
    CancelOn,
    Concurrency,
    ConfigError,
    Context,
    Debounce,
    EventData,
    Harness,
    NewEvent,
    RateLimit,
    Singleton,
    Step,
    StepFailed,
    Throttle,
)
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel
from tests.support import Lab, eventually

SLUG = "test-f"


class Asked(EventData, name="shop/asked", rename="camel"):
    user_id: str
    n: int = 0


class Watched:
    """How many run at once, per user, and in which order they began."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[int] = []

    async def work(self, user: str, n: int, seconds: float = 0.05) -> None:
        self.order.append(n)
        self.now[user] += 1
        self.most[user] = max(self.most[user], self.now[user])
        await asyncio.sleep(seconds)
        self.now[user] -= 1


async def nothing_is_held(lab: Lab) -> None:
    """After all runs have ended: no place, no line."""

    async def look() -> bool:
        found = await lab.admin.call("KEYS", f"bus:fn:{{{SLUG}}}:*")
        return not [k for k in found if any(part in k.decode() for part in (":places:", ":backlog:", ":ready"))]

    await eventually(look, "no place is held, no run is in line")
    await lab.idle()


@pytest.mark.each_server
async def test_so_many_at_once_for_each_key(lab: Lab) -> None:
    watched = Watched()

    @lab.app.function("f", on=Asked, concurrency=Concurrency(3, key="event.data.userId"))
    async def f(ctx: Context[Asked], step: Step) -> None:
        await step.run("work", watched.work, ctx.event.data.user_id, ctx.event.data.n)

    await lab.work()
    await lab.app.send([Asked(user, n) for n in range(12) for user in ("ann", "ben")])
    await lab.ended(24)
    assert watched.most == {"ann": 3, "ben": 3}
    await nothing_is_held(lab)


async def test_a_run_that_sleeps_holds_no_place(lab: Lab) -> None:
    """Measured: with limit 1 and a sleep three runs go side by side."""
    watched = Watched()

    @lab.app.function("f", on="a", concurrency=1)
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("before", watched.work, "x", 0, 0.02)
        await step.sleep("nap", 0.5)
        await step.run("after", watched.work, "x", 1, 0.02)

    await lab.work()
    for _ in range(3):
        await lab.send("a")
    await lab.ended(3)
    assert watched.most["x"] == 1
    assert watched.order == [0, 0, 0, 1, 1, 1], "the others began while the first slept"
    await nothing_is_held(lab)


async def test_two_limits_at_once(lab: Lab) -> None:
    watched = Watched()

    @lab.app.function("f", on=Asked, concurrency=[Concurrency(4), Concurrency(2, key="event.data.userId")])
    async def f(ctx: Context[Asked], step: Step) -> None:
        await asyncio.gather(
            watched.work(ctx.event.data.user_id, ctx.event.data.n), watched.work("all", ctx.event.data.n)
        )

    await lab.work()
    await lab.app.send([Asked(user, n) for n in range(6) for user in ("ann", "ben", "cy")])
    await lab.ended(18)
    assert watched.most["all"] == 4
    assert max(watched.most[user] for user in ("ann", "ben", "cy")) == 2
    await nothing_is_held(lab)


async def test_one_customers_burst_does_not_delay_another(lab: Lab) -> None:
    @lab.app.function("f", on=Asked, concurrency=Concurrency(2, key="event.data.userId"))
    async def f(ctx: Context[Asked], step: Step) -> float:
        await asyncio.sleep(0.02)
        return time.time() * 1000

    await lab.work(concurrency=10)
    await lab.app.send([Asked("burst", n) for n in range(400)])
    await lab.some(200)
    stored = await lab.send("shop/asked", {"userId": "other", "n": 1})

    async def other() -> float | None:
        for run in await lab.runs():
            if run.output and b'"other"' in bytes(run.event or b""):
                return float(bytes(run.output))
        return None

    done = await eventually(other, "the other customer's run has ended")
    assert done is not None
    assert done - int(stored.entry.partition("-")[0]) < 1_000


@pytest.mark.parametrize("burst", [0, 2])
async def test_throttle(lab: Lab, burst: int) -> None:
    """Measured, limit 3 in 6 s: 3 at once, then one every 2 s; with burst 2: 5 at once. Here 6 in a minute."""

    @lab.app.function("f", on="a", throttle=Throttle(6, "1m", burst=burst))
    async def f(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    async with Harness(lab.app, url=lab.admin.settings.redis_url, flush=True) as bus:

        async def ended() -> int:
            return sum(run.has_ended for run in await bus.runs())

        for n in range(10 + burst):
            await bus.send("a", {"n": n})
        for started in range(6 + burst, 10 + burst):
            assert await ended() == started
            await bus.advance("9.9s")
            assert await ended() == started
            await bus.advance("0.1s")
        outputs = [await bus.output(run.id) for run in await bus.runs()]
        assert sorted(outputs) == list(range(10 + burst))
    await nothing_is_held(lab)


@pytest.mark.parametrize(("limit", "passed"), [(5, 1), (20, 3)])
async def test_rate_limit(lab: Lab, limit: int, passed: int) -> None:
    """Measured, six events in 0.6 s: 5 in a minute lets one pass, 20 in a minute three."""

    @lab.app.function("f", on="a", rate_limit=RateLimit(limit, "1m"))
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work()
    for n in range(6):
        await lab.send("a", {"n": n})
    found = Counter(run.status for run in await lab.ended(6))
    assert found == {"completed": passed, "skipped": 6 - passed}
    skipped = next(run for run in await lab.runs() if run.status == "skipped")
    assert skipped.why == "rate_limit"
    assert await lab.wire.call("PTTL", keys.run(SLUG, skipped.id)) <= 86_400_000
    await nothing_is_held(lab)


async def test_a_key_that_is_false_is_not_limited(lab: Lab) -> None:
    @lab.app.function("f", on="a", rate_limit=RateLimit(1, "1h", key="event.data.limited"))
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work()
    for _ in range(3):
        await lab.send("a", {"limited": False})
        await lab.send("a", {"limited": "x"})
    assert Counter(run.status for run in await lab.ended(6)) == {"completed": 4, "skipped": 2}


async def test_idempotency(lab: Lab) -> None:
    """Measured: six events, two keys: two runs."""

    @lab.app.function("f", on="a", idempotency="event.data.key")
    async def f(ctx: Context[dict], step: Step) -> str:
        return ctx.event.data["key"]

    await lab.work()
    for n in range(6):
        await lab.send("a", {"key": f"k{n % 2}"})
    runs = await lab.ended(6)
    assert sorted(json.loads(bytes(run.output)) for run in runs if run.output) == ["k0", "k1"]


@pytest.mark.each_server
async def test_debounce(lab: Lab) -> None:
    """The last event, a second after it; whatever came before is part of that run."""

    @lab.app.function("f", on="a", debounce=Debounce("1s", key="event.data.user"))
    async def f(ctx: Context[dict], step: Step) -> list[Any]:
        return [ctx.event.data["user"], ctx.event.data["n"]]

    await lab.work()
    for n in range(4):
        for user in ("ann", "ben"):
            await lab.send("a", {"user": user, "n": n})
        await asyncio.sleep(0.2)
    runs = await lab.ended(10)
    outputs = sorted(json.loads(bytes(run.output)) for run in runs if run.output)
    assert outputs == [["ann", 3], ["ben", 3]]
    merged = [run for run in runs if run.status == "skipped"]
    assert {run.why for run in merged} == {"debounced"}
    assert {run.by for run in merged} == {run.id for run in runs if run.output}
    await nothing_is_held(lab)


async def test_debounce_has_a_longest_wait_and_keeps_the_newest_by_its_time(url: str, server_url: str) -> None:
    app = Bus("test")

    @app.function("f", on="a", debounce=Debounce("1s", timeout="1s"))
    async def f(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    async def outputs(bus: Harness) -> list[Any]:
        return [await bus.output(run) for run in await bus.runs() if run.status == "completed"]

    async with Harness(app, url=server_url, flush=True) as bus:
        began = bus.now
        await bus.send(NewEvent("a", {"n": 1}, ts=began))
        await bus.advance(0.6)
        await bus.send(NewEvent("a", {"n": 2}, ts=began - 5_000))
        await bus.advance(0.3)
        assert await outputs(bus) == []
        await bus.advance(0.2)
        assert await outputs(bus) == [1], "a second after the first, not after the last"
        await bus.advance("1h")
        assert await outputs(bus) == [1]


@pytest.mark.each_server
async def test_batch(lab: Lab) -> None:
    """Measured: five events, size 3: three at once, two when the time is over."""

    @lab.app.function("f", on=Asked, batch=Batch(3, "1s"))
    async def f(ctx: Context[Asked], step: Step) -> list[int]:
        assert ctx.event.data.n == ctx.events[0].data.n
        return [event.data.n for event in ctx.events]

    await lab.work()
    for n in range(5):
        await lab.app.send(Asked("x", n))
    runs = await lab.ended(7)
    assert sorted(json.loads(bytes(run.output)) for run in runs if run.output) == [[0, 1, 2], [3, 4]]
    assert {run.why for run in runs if run.status == "skipped"} == {"batched"}
    await nothing_is_held(lab)


async def test_batches_by_key_and_events_that_run_alone(lab: Lab) -> None:
    @lab.app.function("f", on=Asked, batch=Batch(2, "60s", key="event.data.userId", if_="event.data.n >= 0"))
    async def f(ctx: Context[Asked], step: Step) -> list[int]:
        await step.sleep("nap", 0.05)
        return [event.data.n for event in ctx.events]

    await lab.work()
    await lab.app.send([Asked("ann", 1), Asked("ben", 2), Asked("ann", -1), Asked("ann", 3), Asked("ben", 4)])
    runs = await lab.ended(7)
    assert sorted(json.loads(bytes(run.output)) for run in runs if run.output) == [[-1], [1, 3], [2, 4]]


async def test_singleton_skip(lab: Lab) -> None:
    """Measured: six events: one run."""
    gate = asyncio.Event()

    @lab.app.function("f", on="a", singleton=Singleton("skip"))
    async def f(ctx: Context[dict], step: Step) -> int:
        await gate.wait()
        return ctx.event.data["n"]

    await lab.work()
    for n in range(6):
        await lab.send("a", {"n": n})

    async def skipped() -> bool:
        return await lab.wire.call("ZCARD", keys.runs(SLUG, "skipped")) == 5

    await eventually(skipped, "five are skipped")
    gate.set()
    runs = await lab.ended(6)
    done = next(run for run in runs if run.status == "completed")
    assert {(run.why, run.by) for run in runs if run.status == "skipped"} == {("singleton", done.id)}
    await lab.send("a", {"n": 9})
    assert Counter(run.status for run in await lab.ended(7)) == {"completed": 2, "skipped": 5}


async def test_singleton_cancel(lab: Lab) -> None:
    @lab.app.function("f", on="a", singleton=Singleton("cancel", key="event.data.user"))
    async def f(ctx: Context[dict], step: Step) -> int:
        await step.sleep("nap", 0.3)
        return ctx.event.data["n"]

    await lab.work()
    for n in range(3):
        await lab.send("a", {"user": "ann", "n": n})
        await asyncio.sleep(0.05)
    runs = await lab.ended(3)
    assert [json.loads(bytes(run.output)) for run in runs if run.output] == [2]
    assert Counter(run.status for run in runs) == {"completed": 1, "cancelled": 2}


async def test_priority(lab: Lab) -> None:
    """Seconds before others, ±12 h; no number is 0."""
    watched = Watched()

    @lab.app.function("f", on="a", concurrency=1, priority="event.data.p")
    async def f(ctx: Context[dict], step: Step) -> None:
        await watched.work("x", ctx.event.data["n"], 0.3 if ctx.event.data["n"] == 0 else 0.01)

    await lab.work()
    await lab.send("a", {"n": 0, "p": 0})
    await lab.some(1)
    for n, p in enumerate([-60, 0, "high", 600, 10**9], start=1):
        await lab.send("a", {"n": n, "p": p})
        await asyncio.sleep(0.002)  # runs of one millisecond have no order
    await lab.ended(6)
    assert watched.order == [0, 5, 4, 2, 3, 1]


async def test_several_rules_together(lab: Lab) -> None:
    watched = Watched()

    @lab.app.function(
        "f",
        on=Asked,
        concurrency=Concurrency(1, key="event.data.userId"),
        throttle=Throttle(50, "1s"),
        rate_limit=RateLimit(100, "1m", key="event.data.userId"),
        priority="event.data.n",
    )
    async def f(ctx: Context[Asked], step: Step) -> None:
        await step.run("work", watched.work, ctx.event.data.user_id, ctx.event.data.n, 0.01)

    await lab.work()
    await lab.app.send([Asked(user, n) for n in range(15) for user in ("ann", "ben")])
    found = Counter(run.status for run in await lab.ended(30))
    assert found == {"completed": 22, "skipped": 8}
    assert watched.most == {"ann": 1, "ben": 1}
    await nothing_is_held(lab)


async def test_calls_and_schedules_pass_the_limits_too(lab: Lab) -> None:
    watched = Watched()

    @lab.app.function("f", concurrency=1)
    async def f(ctx: Context[dict], step: Step) -> int:
        await watched.work("x", 0)
        return 1

    @lab.app.function("caller", on="a")
    async def caller(ctx: Context[dict], step: Step) -> list[int]:
        return await asyncio.gather(*(step.invoke(f"call-{n}", f) for n in range(4)))

    await lab.work()
    await lab.send("a")
    runs = await lab.ended(5)
    assert [json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-caller"] == [[1, 1, 1, 1]]
    assert watched.most["x"] == 1


async def test_a_caller_is_told_that_its_call_was_dropped(lab: Lab) -> None:
    @lab.app.function("f", rate_limit=RateLimit(1, "1h"))
    async def f(ctx: Context[dict], step: Step) -> int:
        return 1

    @lab.app.function("caller", on="a")
    async def caller(ctx: Context[dict], step: Step) -> list[Any]:
        first = await step.invoke("first", f)
        try:
            await step.invoke("second", f)
        except StepFailed as error:
            return [first, error.name]
        return []

    await lab.work()
    await lab.send("a")
    runs = await lab.ended(3)
    assert [json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-caller"] == [[1, "skipped"]]


async def test_a_run_in_line_is_cancelled_and_leaves_it(lab: Lab) -> None:
    gate = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=1, cancel_on=CancelOn("stop", match="data.n"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await gate.wait()

    await lab.work()
    for n in range(4):
        await lab.send("a", {"n": n})
    await lab.some(4)
    await lab.send("stop", {"n": 1})

    async def one_cancelled() -> str | None:
        return next((run.id for run in await lab.runs() if run.status == "cancelled"), None)

    await eventually(one_cancelled, "the event cancels the one in line")
    queued = next(run for run in await lab.runs() if run.status == "queued")
    assert await cancel(lab.wire, queued.id, "by hand") == "cancelled"
    assert await lab.wire.call("ZCARD", keys.backlog(SLUG, "c0:")) == 1
    assert await lab.wire.call("ZCARD", keys.places(SLUG, "c0:")) == 1, "the one that runs has its place still"
    gate.set()
    assert Counter(run.status for run in await lab.ended(4)) == {"completed": 2, "cancelled": 2}
    await nothing_is_held(lab)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("event.data.missing", {}),
        ("event.data.key", {"key": None}),
        ("event.data.key", {"key": [1, 2]}),
        ("event.data.key", {"key": "x" * 1_000_000}),
        ("event.data.key", {"key": 7.5}),
        ("event.data.key", {"key": "a|b:{c}\nd"}),
    ],
)
async def test_whatever_a_key_is_its_runs_run(lab: Lab, key: str, data: dict) -> None:
    watched = Watched()

    @lab.app.function("f", on="a", concurrency=Concurrency(1, key=key))
    async def f(ctx: Context[dict], step: Step) -> None:
        await watched.work("x", 0, 0.02)

    await lab.work()
    for _ in range(3):
        await lab.send("a", data)
    await lab.ended(3)
    assert watched.most["x"] == 1
    await nothing_is_held(lab)


async def test_limits_that_a_deploy_changed_count_from_then_on(lab: Lab) -> None:
    """The stored key stands; the new limit counts."""
    watched = Watched()

    def declare(app: Bus, limit: int) -> None:
        @app.function("f", on=Asked, concurrency=Concurrency(limit, key="event.data.userId"))
        async def f(ctx: Context[Asked], step: Step) -> None:
            await watched.work(ctx.event.data.user_id, ctx.event.data.n, 0.1)

    declare(lab.app, 1)
    old = await lab.work()
    await lab.app.send([Asked("ann", n) for n in range(12)])
    await lab.some(12)
    old.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the old worker has left")
    assert watched.most["ann"] == 1
    lab.app = Bus("test")
    declare(lab.app, 3)
    await lab.work(app=lab.app)
    await lab.ended(12)
    assert watched.most["ann"] == 3
    await nothing_is_held(lab)


async def test_a_function_that_has_no_limits_any_more_runs_those_in_line(lab: Lab) -> None:
    @lab.app.function("f", on="a", concurrency=1)
    async def f(ctx: Context[dict], step: Step) -> None:
        await asyncio.sleep(0.2)

    old = await lab.work()
    for _ in range(5):
        await lab.send("a")
    await lab.some(5)
    old.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the old worker has left")
    lab.app = Bus("test")

    @lab.app.function("f", on="a")
    async def free(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work(app=lab.app)
    await lab.ended(5)
    await nothing_is_held(lab)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"concurrency": 0}, "concurrency limit must be a whole number, at least 1, got 0"),
        ({"concurrency": Concurrency(True)}, "must be a whole number"),
        ({"concurrency": Concurrency(1, key="event.data.user_id")}, "unknown field user_id; did you mean userId"),
        (
            {"concurrency": [Concurrency(1), Concurrency(2), Concurrency(3)]},
            "has 3 concurrency limits; give at most two",
        ),
        ({"throttle": Throttle(1, "-1s")}, "is not a duration"),
        ({"throttle": Throttle(1, "5 parsecs")}, "'5 parsecs' is not a duration"),
        ({"throttle": Throttle(1, 0.5)}, "throttle period must be from 1 s"),
        ({"throttle": Throttle(1, 1, burst=-1)}, "throttle burst must be a whole number, at least 0, got -1"),
        ({"rate_limit": RateLimit(1, "25h")}, "rate limit period must be from 1 s to 86400 s"),
        ({"rate_limit": RateLimit(1, -5)}, "must be between 0 and 366 days"),
        ({"debounce": Debounce("8d")}, "debounce period must be from 1 s"),
        ({"batch": Batch(1, "1s")}, "batch size must be a whole number, at least 2, got 1"),
        ({"batch": Batch(2, "1s", if_="event.data.")}, "is not an expression"),
        ({"batch": Batch(2, "1s"), "debounce": Debounce("1s")}, "has batch and debounce; they do not go together"),
        ({"batch": Batch(2, "1s"), "singleton": Singleton("skip")}, "has batch and singleton"),
        ({"batch": Batch(2, "1s"), "priority": "1"}, "has batch and priority"),
        ({"batch": Batch(2, "1s"), "cancel_on": "x"}, "has batch and cancel_on"),
        ({"singleton": Singleton("replace")}, "singleton mode must be skip or cancel, got 'replace'"),  # type: ignore[arg-type]
        ({"priority": "event.data.prio"}, "unknown field prio"),
        ({"idempotency": "data.userId"}, "names 'data'"),
        ({"concurrency": Concurrency(1, shared="a b")}, "shared 'a b' must be letters"),
    ],
)
def test_limits_that_make_no_sense_fail_when_declared(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        Bus("a").function("f", on=Asked, **options)
    assert "function 'f'" in str(refused.value)


@pytest.mark.each_server
async def test_a_limit_that_two_functions_share(lab: Lab) -> None:
    watched = Watched()

    @lab.app.function("f", on=Asked, concurrency=Concurrency(2, key="event.data.userId", shared="gpu"))
    async def f(ctx: Context[Asked], step: Step) -> None:
        await step.run("work", watched.work, ctx.event.data.user_id, ctx.event.data.n, 0.03)

    @lab.app.function(
        "g", on=Asked, concurrency=[Concurrency(5), Concurrency(2, key="event.data.userId", shared="gpu")]
    )
    async def g(ctx: Context[Asked], step: Step) -> None:
        await step.sleep("nap", 0.02)
        await step.run("work", watched.work, ctx.event.data.user_id, ctx.event.data.n, 0.03)

    await lab.work()
    await lab.work()
    await lab.app.send([Asked(user, n) for n in range(8) for user in ("ann", "ben")])
    await lab.ended(32)
    assert watched.most == {"ann": 2, "ben": 2}
    await nothing_is_held(lab)

    async def given_back() -> bool:
        return not await lab.wire.call("ZCARD", keys.limit("gpu=ann"))

    await eventually(given_back, "no shared place is held")


async def test_a_shared_place_that_was_taken_for_a_run_that_has_ended_comes_free(lab: Lab) -> None:
    @lab.app.function("f", on=Asked, concurrency=Concurrency(1, key="event.data.userId", shared="gpu"))
    async def f(ctx: Context[Asked], step: Step) -> None: ...

    await lab.work()
    await lab.app.send(Asked("ann", 1))
    run = await lab.one()
    # A worker that dies after a run's end leaves its entry: the next one asks for a place before start says "ended".
    await lab.wire.call(
        "XADD", keys.queue("test-f"), "*", "run", run.id, "turn", "1", "why", "place", "holds", "c0:ann"
    )
    await lab.idle()

    async def given_back() -> bool:
        return not await lab.wire.call("ZCOUNT", keys.limit("gpu=ann"), await lab.wire.clock(), "+inf")

    await eventually(given_back, "no shared place is held")
    await lab.app.send(Asked("ann", 2))
    await lab.ended(2)
