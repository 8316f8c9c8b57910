"""What is kept, and what is dropped: never what somebody still needs."""

import json
import subprocess
import time

import pytest

from stepstream import Bus, Context, Step, StepFailed
from stepstream.bus.errors import InUse, NotFound
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys, kinds
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.upkeep.retention import tidy_runs, trim_events
from stepstream.consumers.upkeep.retention import Retention
from stepstream.consumers.worker import Worker
from tests import forks
from tests.patience import PATIENT_S
from tests.support import Lab, eventually

DAY = 86_400_000


async def stream(wire: Wire, *groups: str, count: int = 300) -> list[str]:
    """Make a stream of old entries, one a second from 1970 on, with groups that begin at its start."""
    for group in groups:
        await wire.call("XGROUP", "CREATE", keys.events("a"), group, "0", "MKSTREAM")
    return [
        (await wire.call("XADD", keys.events("a"), f"{n * 1000}-0", "data", "{}")).decode() for n in range(1, count + 1)
    ]


async def trimmed(wire: Wire, *groups: str) -> tuple[int, str]:
    found = await trim_events(wire, "a", groups)
    return found.dropped, found.holder


async def read(wire: Wire, group: str, count: int, *, ack: int) -> None:
    rows = (await wire.call("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", keys.events("a"), ">"))[0][1]
    for entry, _ in rows[:ack]:
        await wire.call("XACK", keys.events("a"), group, entry)


@pytest.mark.each_server
async def test_old_events_go_when_every_group_has_done_with_them(wire: Wire) -> None:
    await stream(wire, "f", "g")
    await read(wire, "f", 300, ack=300)
    assert await trimmed(wire, "f") == (0, "g"), "g has read nothing: all is kept, and g is named"
    await read(wire, "g", 250, ack=220)
    dropped, holder = await trimmed(wire, "f")
    assert 0 < dropped <= 220
    assert holder == "g"
    left = [entry.decode() for entry, _ in await wire.call("XRANGE", keys.events("a"), "-", "+")]
    assert left[-80:] == [f"{n * 1000}-0" for n in range(221, 301)], "what g has pending or not read is all there"


async def test_nothing_is_dropped_while_a_group_is_missing(wire: Wire) -> None:
    await stream(wire, "f")
    await read(wire, "f", 300, ack=300)
    assert await trimmed(wire, "f", "mine") == (-1, "mine")
    assert await wire.call("XLEN", keys.events("a")) == 300


async def test_events_of_the_last_days_stay(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work()
    for _ in range(5):
        await lab.send("a")
    await lab.ended(5)
    await lab.idle()
    assert await trimmed(lab.wire, "test-f") == (0, "")
    assert await lab.wire.call("XLEN", keys.events("a")) == 5


@pytest.mark.each_server
async def test_of_ended_runs_the_oldest_go_above_the_count_and_failed_ones_count_apart(url: str) -> None:
    wire = Wire(Settings(redis_url=url, keep_runs=3), "test")
    for n in range(6):
        for status in ("completed", "failed"):
            run = f"{status}{n}"
            await wire.call("HSET", keys.run("s", run), "status", status, "ended", n + 1)
            await wire.call("PEXPIRE", keys.run("s", run), 60_000)
            await wire.call("HSET", keys.steps("s", run), "one", "{}")
            await wire.call("ZADD", keys.runs("s", status), n, run)
    assert await tidy_runs(wire, "s") == 6
    assert await wire.call("ZRANGE", keys.runs("s", "completed"), 0, -1) == [
        b"completed3",
        b"completed4",
        b"completed5",
    ]
    assert await wire.call("ZRANGE", keys.runs("s", "failed"), 0, -1) == [b"failed3", b"failed4", b"failed5"]
    assert await wire.call("EXISTS", keys.run("s", "completed0"), keys.steps("s", "failed2")) == 0
    await wire.call("DEL", keys.run("s", "completed3"))
    assert await tidy_runs(wire, "s") == 1, "a member that outlived its run"
    await wire.close()


async def test_a_run_is_not_forgotten_within_ten_minutes_of_its_end(url: str) -> None:
    wire = Wire(Settings(redis_url=url, keep_runs=0), "test")
    wire.now = "1000000"
    await wire.call("HSET", keys.run("s", "r"), "status", "completed", "ended", 900_000)
    await wire.call("PEXPIRE", keys.run("s", "r"), 60_000)
    await wire.call("ZADD", keys.runs("s", "completed"), 1, "r")
    assert await tidy_runs(wire, "s") == 0
    wire.now = "1500001"
    assert await tidy_runs(wire, "s") == 1
    await wire.close()


async def test_a_function_that_is_no_more_is_forgotten_once_no_worker_serves_it(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    worker = await lab.work()
    await lab.send("a")
    await lab.one()
    with pytest.raises(InUse, match="stop them first"):
        await forget(lab.wire, "test-f")
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.function_workers("test-f")) == 0

    await eventually(gone, "the worker has left")
    assert await forget(lab.wire, "test-f") == ["a"]
    assert await lab.wire.call("XINFO", "GROUPS", keys.events("a")) == []
    assert await lab.wire.call("HGETALL", keys.triggers()) == []
    with pytest.raises(NotFound, match="is not registered"):
        await forget(lab.wire, "test-f")


async def test_a_function_with_runs_that_wait_is_forgotten_only_with_them_and_their_callers_are_told(lab: Lab) -> None:
    other = Bus("other")

    @other.function("f")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.sleep("long", "30d")

    @lab.app.function("caller", on="a")
    async def caller(ctx: Context[dict], step: Step) -> str:
        try:
            await step.invoke("call", "other-f", timeout="40d")
        except StepFailed as error:
            return error.name
        return ""

    worker = await lab.work(app=other)
    await lab.work()
    await lab.send("a")

    async def sleeps() -> bool:
        return await lab.wire.call("ZCARD", keys.runs("other-f", "waiting")) == 1

    await eventually(sleeps, "it sleeps")
    worker.stop()

    async def has_left() -> bool:
        return await lab.wire.call("ZCARD", keys.function_workers("other-f")) == 0

    await eventually(has_left, "the worker has left")
    with pytest.raises(InUse, match=r"has 1 run\(s\) that have not ended"):
        await forget(lab.wire, "other-f")
    await forget(lab.wire, "other-f", with_runs=True)
    assert json.loads(bytes((await lab.one()).output or b"")) == "cancelled"
    assert await lab.admin.call("KEYS", "bus:fn:{other-f}:*") == []


async def test_a_function_of_many_runs_is_forgotten_with_all_its_keys_by_who_may_not_scan(lab: Lab) -> None:
    """It looked for them among the names of all keys on the server; only what expires by itself is left."""
    call, slug, now = lab.wire.call, "test-f", await lab.wire.clock()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await Listeners(lab.wire, [lab.app.functions]).get_ready({"a"}, PATIENT_S)
    runs = [f"{n:026}" for n in range(1_100)]  # three pages
    for run in runs:
        lab.wire.tell("ZADD", keys.runs(slug, "completed"), 1, run)
        lab.wire.tell("HSET", keys.run(slug, run), "status", "completed", "holds", "c0:x\ns:one")
    listed = {"c0:x": keys.places, "s:one": keys.single, "c1:lined": keys.backlog, "c1:full": keys.backlog}
    for limit_key, of in listed.items():
        await call("ZADD", of(slug, limit_key), 1, "r")
    await call("ZADD", keys.backlog(slug, "t:late"), 1, "r")
    await call("ZADD", keys.ready(slug), 1, "c1:lined")
    await call("ZADD", keys.full(slug), 1, "c1:full")
    await call("ZADD", keys.timers(slug), 1, "limit|t:late", 1, "buffer|d:timed", 1, "r:2")
    await call("HSET", keys.buffered(slug), "r", "b:held")
    for name in ("d:timed", "b:held"):
        await call("HSET", keys.buffer(slug, name), "run", "r")
    for at in (now // 60_000, now // 60_000 - 24 * 60):
        await call("HSET", keys.minute(slug, at), "started:0", 1)
    for of in (keys.steps, keys.open_steps, keys.log, keys.attempts):
        await call("SET", of(slug, runs[7]), 1)
        await call("SET", of(slug, "again"), 1)
    await call("XADD", keys.queue(slug), "*", "run", "again", "turn", "1")
    for of in (keys.cron, keys.errors, keys.function_workers):
        await call("HSET" if of is not keys.function_workers else "ZADD", of(slug), "1", "1")
    await call("XADD", keys.ends(slug), "*", "run", "r")
    await call("ZADD", keys.cancels(slug), 1, "x")
    await call("ZADD", keys.erred(slug), 1, "x")
    await call("SET", keys.rate(slug, "t:late"), 1, "PX", 60_000)
    there = [kinds.kind_of(key.decode()) for key in await lab.admin.call("KEYS", f"{keys.function(slug)}*")]
    of_functions = {make.__name__ for make, stand_ins in keys.ALL if stand_ins[:1] == ("F",)}
    assert {kind[0] for kind in there if kind} == of_functions, "keys of every kind are there"
    await forget(lab.wire, slug, with_runs=True)
    assert await lab.admin.call("KEYS", f"{keys.function(slug)}*") == [keys.rate(slug, "t:late").encode()]
    assert await call("HEXISTS", keys.functions(), slug) == 0


def test_bus_functions_lists_and_refuses_what_it_does_not_know(url: str) -> None:
    def bus(*words: str) -> "subprocess.CompletedProcess[str]":
        return forks.bus("functions", *words, env={"BUS_REDIS_URL": url})

    assert "no functions yet" in bus().stdout
    assert "is not registered" in bus("forget", "x").stderr
    assert "function 'drop' is not registered" in bus("drop").stderr
    for words in (("forget",), ("drop", "x")):
        assert "write: bus functions, bus functions SLUG, or bus functions forget SLUG" in bus(*words).stderr


async def test_a_group_that_has_done_with_all_holds_nothing_back(lab: Lab) -> None:
    """An event name that has been quiet for longer than events are kept: nobody needs its old events."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work()
    await lab.send("a")
    await lab.one()
    await lab.idle()
    lab.wire.now = str(int(time.time() * 1000) + 4 * 86_400_000)
    dropped, holder = await trimmed(lab.wire, "test-f")
    assert (dropped >= 0, holder) == (True, "")


async def test_a_group_that_nobody_serves_holds_events_for_seven_days_and_is_then_dropped(wire: Wire) -> None:
    """A function that was removed, or lost a trigger: its group would hold old events for ever."""
    await stream(wire, "f", "removed")
    await read(wire, "f", 300, ack=300)
    await wire.call("HSET", keys.triggers(), "removed a", 1, "removed b", 1, "removed x/*", 1)
    for day in range(8):
        wire.now = str(day * DAY + 4 * DAY)
        found = await trim_events(wire, "a", ["f"])
        assert (found.dropped, found.holder, found.unserved_ms, found.groups) == (0, "removed", day * DAY, [])
    wire.now = str(12 * DAY)
    found = await trim_events(wire, "a", ["f"])
    assert (found.holder, found.groups) == ("", ["removed"])
    assert found.dropped > 0
    assert await wire.call("HKEYS", keys.triggers()) == [b"removed b", b"removed x/*"], "put back, it begins anew"


async def test_a_group_that_is_served_again_has_seven_days_more(wire: Wire) -> None:
    await stream(wire, "f", "g")
    for day in range(28):
        wire.now = str(day * DAY + 5 * DAY)
        assert (await trim_events(wire, "a", ["f", "g"] if day % 6 == 0 else ["f"])).groups == []


async def test_days_on_which_no_worker_was_there_count_against_no_group(wire: Wire) -> None:
    """After two weeks without any worker the first one to come must not drop the others' groups."""
    await stream(wire, "f", "g")
    wire.now = str(5 * DAY)
    assert (await trim_events(wire, "a", ["f", "g"])).groups == []
    wire.now = str(20 * DAY)
    assert (await trim_events(wire, "a", ["f"])).groups == []


async def test_a_stream_that_nobody_reads_is_emptied_by_age_and_goes(lab: Lab) -> None:
    @lab.app.function("f", on="b")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    worker = await lab.work()
    await lab.send("nobody/reads", {"n": 1})
    sweep = Retention(lab.wire, worker.signals, ["test-f"], dict)
    await sweep.once()
    assert await lab.wire.call("XLEN", keys.events("nobody/reads")) == 1
    lab.wire.now = str(int(time.time() * 1000) + 4 * DAY)
    await sweep.once()
    assert await lab.wire.call("EXISTS", keys.events("nobody/reads"), keys.events_served("nobody/reads")) == 0
    assert await lab.wire.call("ZSCORE", keys.event_names(), "nobody/reads") is None
    lab.wire.now = ""
    await lab.send("nobody/reads", {"n": 2})
    assert await lab.wire.call("ZSCORE", keys.event_names(), "nobody/reads") is not None
    assert await lab.wire.call("XLEN", keys.events("nobody/reads")) == 1


async def test_only_a_group_that_nobody_serves_is_named_in_advice(lab: Lab) -> None:
    """A healthy function whose stream is empty, or that is behind, and @waits are none to be forgotten."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("it", "b", timeout="30d")

    worker = await lab.work()
    await lab.send("a")
    await lab.status(await lab.first(), "waiting")
    await lab.idle()
    for name, group in (("a", "removed"), ("b", "test-f-old")):
        await lab.wire.call("XGROUP", "CREATE", keys.events(name), group, "0")
    await lab.send("b", {"n": 1})
    sweep = Retention(lab.wire, worker.signals, ["test-f"], worker._assembly.feeds.names_read)
    await sweep.once()
    assert not [notice for notice in lab.notices if "group" in notice.event]
    for half_days in range(1, 9):
        lab.wire.now = str(int(time.time() * 1000) + half_days * DAY // 2)
        await sweep.once()
    told = [notice.fields["group"] for notice in lab.notices if "no worker serves" in notice.event]
    assert sorted(told) == ["removed", "test-f-old"]
    assert not [notice for notice in lab.notices if "forget" in notice.event and "no worker" not in notice.event]


async def test_a_trigger_that_is_put_back_begins_then(lab: Lab) -> None:
    """Months later: what came while the function did not have it is not its business."""
    seen: list[object] = []

    def version(*names: str) -> Bus:
        app = Bus("test")

        @app.function("f", on=list(names))
        async def f(ctx: Context[dict], step: Step) -> None:
            seen.append(ctx.event.data["n"])

        return app

    async def gone(worker: Worker) -> None:
        worker.stop()

        async def has_left() -> bool:
            return await lab.wire.call("ZCARD", keys.function_workers("test-f")) == 0

        await eventually(has_left, "the worker has left")

    await gone(await lab.work(app=version("a", "b/*")))
    await gone(await lab.work(app=version("a")))
    await lab.send("b/new", {"n": "between"})
    await lab.work(app=version("a", "b/*"))
    await lab.send("b/new", {"n": "after"})

    async def came() -> bool:
        return "after" in seen

    await eventually(came, "what comes now is taken")
    assert seen == ["after"]


async def test_the_count_holds_after_one_sweep_however_many_are_above_it(url: str) -> None:
    """A run that has just ended stands in front: it is passed over, and the sweep goes on until the count holds."""
    wire = Wire(Settings(redis_url=url, keep_runs=100), "test")
    wire.now = str(DAY)
    for n in range(5_000):
        run, ended = f"r{n:05}", DAY - 1 if n % 100 == 0 else n + 1
        wire.tell("HSET", keys.run("s", run), "status", "completed", "ended", ended)
        wire.tell("PEXPIRE", keys.run("s", run), 600_000)
        wire.tell("ZADD", keys.runs("s", "completed"), n, run)
    await wire.call("PING")
    assert await tidy_runs(wire, "s") == 4_900
    assert await wire.call("ZCARD", keys.runs("s", "completed")) == 100
    await wire.close()
