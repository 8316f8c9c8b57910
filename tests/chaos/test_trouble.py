"""Redis's trouble stays the engine's: refusals in any words, role changes and outages reach no run and strand no work."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import redis

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from tests.chaos.resp import CLIENTS, WORDS, RespProxy
from tests.chaos.test_kills import Arena
from tests.support import Lab, ValkeyProcess, eventually, journal

pytestmark = pytest.mark.chaos


@pytest.fixture
def arena(tmp_path: Path) -> Generator[Arena]:
    made = Arena(tmp_path)
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path) -> Generator[ValkeyProcess]:
    with ValkeyProcess(tmp_path, appendonly="yes") as started:
        yield started


@pytest.fixture
def proxy(server: ValkeyProcess) -> Generator[RespProxy]:
    with RespProxy(server.port, seed=11) as started:
        yield started


@pytest.fixture
async def lab(server: ValkeyProcess, proxy: RespProxy) -> AsyncGenerator[Lab]:
    """Its workers reach the server through the proxy, the test reaches it directly."""
    settings = Settings(redis_url=server.url, lease_ms=1_000, drain_ms=3_000)
    wire = Wire(settings, "test")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(wire.close)
        app = Bus("test")
        yield Lab(app, msgspec.structs.replace(settings, redis_url=proxy.url), wire, stack, wire, wire)


# -- A refusal in any words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [CLIENTS, "TOO_MANY_REQUESTS slow down", list(WORDS)], ids=["clients", "many", "all"])
def test_six_seconds_of_refusals_fail_no_run_and_leave_none_behind(arena: Arena, words: str | list[str]) -> None:
    """Of 400 runs with retries=0 193 failed, 16 stayed running, 44 entries stayed pending, and acknowledging died."""
    with RespProxy(arena.server.port, seed=5) as proxy:
        worker = arena.worker(lease="2", step="0.01", BUS_REDIS_URL=proxy.url)
        proxy.refuse(words, share=0.3)
        rounds, until = 0, time.monotonic() + 60
        while rounds < 40 or proxy.told().total() <= 200:  # six seconds, and longer where a slow machine meets less
            assert time.monotonic() < until, f"{proxy.told().total()} commands refused within a minute"
            arena.send("chaos/once", 10)
            rounds += 1
            time.sleep(0.15)
        proxy.mend()
        harm = proxy.told().total()
        arena.until(lambda: arena.ended("once", 10 * rounds), "the runs ended")
        arena.idle("once")
        assert {run["status"] for run in arena.runs("once").values()} == {"completed"}
        bodies = [count for count in arena.bodies().values() if count > 1]
        log = worker.log.read_text()
        print(f"{harm} commands refused; {len(bodies)} bodies ran again; {len(log.splitlines())} lines")
        assert harm > 200
        assert "never retrieved" not in log
        assert "attempt failed" not in log
        assert "Traceback" not in log
        told = [line for line in log.splitlines() if "does not serve now" in line]
        assert len(told) <= len(set(WORDS)) + 8, f"{len(told)} lines"


# -- Inside a run --------------------------------------------------------------------------------------------------------


def declare(app: Bus) -> None:
    """One function for each kind of step, each without retries: an error that reaches it ends its run."""

    @app.function("marked-run", on="marked/run", retries=0)
    async def run(ctx, step):
        return await step.run("one", lambda: 1)

    @app.function("marked-sleep", on="marked/sleep", retries=0)
    async def sleep(ctx, step):
        await step.sleep("nap", 0.05)
        return 1

    @app.function("marked-wait", on="marked/wait", retries=0)
    async def wait(ctx, step):
        await step.send_event("tell", "marked/other", {"n": ctx.event.data["n"]})
        found = await step.wait_for_event("other", "marked/other", match="data.n", timeout="20s")
        return 1 if found else 0

    @app.function("marked-late", on="marked/late", retries=0)
    async def late(ctx, step):
        return 1 if await step.wait_for_event("never", "marked/never", timeout=0.05) is None else 0

    @app.function("marked-signal", on="marked/signal", retries=0)
    async def signal(ctx, step):
        name = f"marked-{ctx.event.data['n']}"
        first, _ = await asyncio.gather(
            step.wait_for_signal("hear", name, timeout="20s"), step.invoke("call", "test-marked-sender", {"name": name})
        )
        return first

    @app.function("marked-sender", retries=0)
    async def sender(ctx, step):
        while not await step.send_signal("send", ctx.event.data["name"], 1):
            await step.sleep("pause", 0.05)

    @app.function("marked-invoke", on="marked/invoke", retries=0)
    async def invoke(ctx, step):
        return await step.invoke("call", "test-marked-callee")

    @app.function("marked-callee", retries=0)
    async def callee(ctx, step):
        ctx.progress(0.5)
        return 1

    @app.function("marked-send", on="marked/send", retries=0)
    async def send(ctx, step):
        ids = await step.send_event("tell", [_event(n) for n in range(3)])
        return len(ids) // 3

    @app.function("marked-lined", on="marked/lined", retries=0, concurrency=2)
    async def lined(ctx, step):
        await step.sleep("nap", 0.02)
        return await step.run("one", lambda: 1)


def _event(n: int) -> NewEvent:
    return NewEvent("marked/sent", {"n": n})


KINDS = ["run", "sleep", "wait", "late", "signal", "invoke", "send", "lined"]
COMMANDS = 20
"""Trouble comes at the 1st, the 2nd, … command about one of these functions, counted from before the event is sent."""
FAULTS: list[Callable[[RespProxy, int], None]] = [
    lambda proxy, n: proxy.cut("*", n, holding="marked"),
    lambda proxy, n: proxy.answer("READONLY You can't write against a read only replica.", "*", n, 2, holding="marked"),
    lambda proxy, n: proxy.answer(CLIENTS, "*", n, 2, holding="marked"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["broken", "READONLY", "clients"])
@pytest.mark.parametrize("kind", KINDS)
async def test_trouble_at_any_command_of_a_step_is_no_error_of_the_run(
    lab: Lab, proxy: RespProxy, kind: str, fault: Callable[[RespProxy, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The connection broke at the last command of wait_for_event: 5 of 5 runs with retries=0 failed."""
    declare(lab.app)
    worker = await lab.work()
    for n in range(1, COMMANDS + 1):
        fault(proxy, n)
        await lab.send(f"marked/{kind}", {"n": n})

        async def over(n: int = n) -> bool:
            runs = [run for run in await lab.runs() if run.function == f"test-marked-{kind}"]
            return len(runs) == n and all(run.has_ended for run in runs)

        await eventually(over, f"the run with trouble at command {n} ended")
        proxy.mend()
    assert proxy.told().total() >= 5
    runs = await lab.runs()
    assert [(run.function, run.status, run.error) for run in runs if run.status != "completed"] == []
    outputs = {bytes(run.output or b"") for run in runs if run.function == f"test-marked-{kind}"}
    assert outputs == {b"1"}
    await lab.idle()
    await lab.no_turns(worker)
    assert not any("engine failed" in notice.event for notice in lab.notices), lab.notices
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text
    assert [key async for key in _left(lab)] == []


async def _left(lab: Lab) -> AsyncGenerator[str]:
    """Yield what waits and signals have left behind."""
    for name in ("marked/other", "marked/never"):
        for word in await lab.wire.call("ZRANGE", keys.waits(name), 0, -1):
            yield word.decode()
    for key in await lab.admin.call("KEYS", keys.signal("*").replace("{", "*").replace("}", "*")):
        yield key.decode()


# -- A role change -------------------------------------------------------------------------------------------------------


def test_a_primary_that_becomes_a_replica_and_keeps_its_connections_is_left(arena: Arena, tmp_path: Path) -> None:
    """READONLY was for ever: nobody hung up, and nobody looked where the address leads by now."""
    (tmp_path / "other").mkdir()
    with ValkeyProcess(tmp_path / "other") as other, RespProxy(arena.server.port) as proxy:
        new = redis.Redis.from_url(other.url, decode_responses=True)
        old = arena.store
        new.replicaof("127.0.0.1", str(arena.server.port))
        arena.until(lambda: new.info("replication")["master_link_status"] == "up", "the replica has its copy")
        worker = arena.worker(lease="4", step="0.05", BUS_REDIS_URL=proxy.url)
        arena.send("chaos/five", 30)
        arena.until(lambda: len(journal(arena.path)) >= 30, "runs in progress")
        before = len(worker.log.read_text().splitlines())

        old.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")  # as a failover that loses nothing does it
        arena.until(lambda: _offset(old) == _offset(new), "the replica has all")
        new.replicaof("NO", "ONE")
        proxy.point(other.port)
        old.replicaof("127.0.0.1", str(other.port))
        old.execute_command("CLIENT", "UNPAUSE")
        swapped = time.monotonic()

        arena.store = new
        entry = new.xadd(keys.events("chaos/once"), {"name": "chaos/once", "data": "{}"})
        arena.until(lambda: arena.runs("once"), "a fresh entry is started")
        print(f"started {time.monotonic() - swapped:.1f} s after the swap ({entry})")
        arena.until(lambda: arena.ended("five", 30) and arena.ended("once", 1), "the runs ended")
        arena.until(lambda: "serves again" in worker.log.read_text(), "it is told that Redis serves again")
        time.sleep(3.0)  # for lines that would come again and again
        arena.check("five", 30, extra=0)
        arena.idle("five", "once")
        lines = worker.log.read_text().splitlines()[before:]
        print("\n".join(lines))
        assert len(lines) <= 8
        assert sum("serves again" in line for line in lines) == 1
        assert old.info("clients")["connected_clients"] <= 3, "the old primary is left alone"


def _offset(client: "redis.Redis") -> int:
    return int(client.info("replication")["master_repl_offset"])


# -- An outage longer than the lease -------------------------------------------------------------------------------------


async def test_fresh_entries_start_within_a_second_of_the_servers_return(server: ValkeyProcess, lab: Lab) -> None:
    """15 of 36 starts came 10 to 12 s late: read under a lease that had ended, given up, and claimed a lease later."""

    @lab.app.function("now", on="now")
    async def now(ctx, step):
        return None

    @lab.app.function("lined", on="lined", concurrency=50)
    async def lined(ctx, step):
        return None

    lab.settings = msgspec.structs.replace(lab.settings, redis_url=server.url, lease_ms=4_000)
    await lab.work()
    for times in range(1, 4):
        server.kill()
        await asyncio.sleep(5.0)  # the lease has ended
        await asyncio.to_thread(server.start)
        with redis.Redis.from_url(server.url) as client:
            for n in range(6):
                client.xadd(keys.events("now" if n % 2 else "lined"), {"data": "{}"})

        await lab.ended(6 * times, 15)
    late = [(run.started or 0) - run.queued for run in await lab.runs()]
    print(f"started after {sorted(late)} ms")
    assert max(late) <= 1_000
