"""A drain ends in time, whatever threads do, and what they did is not begun twice at once."""

import asyncio
import signal
import threading
from pathlib import Path

import pytest
import redis

from stepstream import Context, Step
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.consumers import worker as life
from tests.patience import FOR_EVER_S, PATIENT_S
from tests.support import Lab, WorkerProcess, eventually, until
from tests.system.test_commands import bus


async def test_a_body_that_never_returns_does_not_hold_up_a_drain_and_is_left_to_its_lease(
    lab: Lab, settings: Settings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain waited for it as long as it ran: for ever. Given back it would run twice at once."""
    monkeypatch.setattr(life, "_THREADS_S", 0.3)
    begun: list[int] = []
    release = threading.Event()

    def work() -> str:
        seconds, micros = store.time()
        begun.append(seconds * 1_000 + micros // 1_000)
        if len(begun) == 1:
            release.wait(FOR_EVER_S)
        return "done"

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        return await step.run("work", work)

    lab.settings = Settings(redis_url=settings.redis_url, lease_ms=1_500, drain_ms=100)
    worker = await lab.work()
    await lab.send("a")
    await eventually(lambda: asyncio.sleep(0, begun), "it runs")
    [(_, lease_ends)] = store.zrange(keys.workers(), 0, -1, withscores=True)  # or later: it is renewed until the stop
    worker.stop()
    await eventually(lambda: asyncio.sleep(0, worker.stuck), "it leaves the body to its lease")
    await lab.work()
    run = await lab.one()
    release.set()
    assert run.status == "completed"
    assert begun[1] >= lease_ends, "not before the lease has run out"
    assert run.crashes == 0
    assert (await lab.wire.call("HGET", keys.run(run.function, run.id), "crashes")) in (None, b"0")


@pytest.mark.process
@pytest.mark.parametrize("what", ["sync", "to-thread"])
def test_a_worker_process_ends_in_time_though_a_thread_never_does(url: str, tmp_path: Path, what: str) -> None:
    environ = {"BUS_DRAIN": "0.2", "BUS_LEASE": "1", "BEGUN": str(tmp_path / "begun")}
    with WorkerProcess("tests.system.process_app:app", url, log=tmp_path / "log", environ=environ) as worker:
        worker.wait_ready()
        bus("send", what, url=url)
        until((tmp_path / "begun").exists, "its thread runs")
        worker.signal(signal.SIGTERM)
        assert worker.process.wait(PATIENT_S) == 3
