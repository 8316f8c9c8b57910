"""What is kept, and what is dropped: never what somebody still needs."""

import subprocess
import sys
import time

import pytest

from bus import Context, Step
from bus.errors import ConfigError, NotFound
from bus.settings import Settings
from bus.wire import keys
from bus.wire.wire import Wire
from checkpoint.forget import forget
from checkpoint.retention import tidy_runs, trim_events
from tests.support import Lab, eventually

DAY = 86_400_000


async def stream(wire: Wire, *groups: str, count: int = 300) -> list[str]:
    """Make a stream of old entries, one a second from 1970 on, with groups that begin at its start."""
    for group in groups:
        await wire.call("XGROUP", "CREATE", keys.events("a"), group, "0", "MKSTREAM")
    return [
        (await wire.call("XADD", keys.events("a"), f"{n * 1000}-0", "data", "{}")).decode() for n in range(1, count + 1)
    ]


async def read(wire: Wire, group: str, count: int, *, ack: int) -> None:
    rows = (await wire.call("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", keys.events("a"), ">"))[0][1]
    for entry, _ in rows[:ack]:
        await wire.call("XACK", keys.events("a"), group, entry)


async def test_old_events_go_when_every_group_has_done_with_them(wire: Wire) -> None:
    await stream(wire, "f", "g")
    await read(wire, "f", 300, ack=300)
    assert await trim_events(wire, "a", ["f"]) == (0, "g"), "g has read nothing: all is kept, and g is named"
    await read(wire, "g", 250, ack=220)
    dropped, holder = await trim_events(wire, "a", ["f"])
    assert 0 < dropped <= 220
    assert holder == "g"
    left = [entry.decode() for entry, _ in await wire.call("XRANGE", keys.events("a"), "-", "+")]
    assert left[-80:] == [f"{n * 1000}-0" for n in range(221, 301)], "what g has pending or not read is all there"


async def test_nothing_is_dropped_while_a_group_is_missing(wire: Wire) -> None:
    await stream(wire, "f")
    await read(wire, "f", 300, ack=300)
    assert await trim_events(wire, "a", ["f", "mine"]) == (-1, "mine")
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
    assert await trim_events(lab.wire, "a", ["test-f"]) == (0, "")
    assert await lab.wire.call("XLEN", keys.events("a")) == 5


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
    with pytest.raises(ConfigError, match="stop them first"):
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


def test_bus_functions_lists_and_refuses_what_it_does_not_know(url: str) -> None:
    def bus(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "bus", "functions", *words]
        return subprocess.run(command, env={"BUS_REDIS_URL": url}, capture_output=True, text=True, check=False)

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
    dropped, holder = await trim_events(lab.wire, "a", ["test-f"])
    assert (dropped >= 0, holder) == (True, "")
