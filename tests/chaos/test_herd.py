"""Timers that are due in one moment: they are moved as fast as runs can be taken up, by all workers, in small parts.

Two thousand in CI; ten thousand with make chaos, which also tells how long the runs alone would take.
"""

import asyncio
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.resolve import fire_timers
from tests.support import ValkeyProcess, WorkerProcess, until

pytestmark = pytest.mark.chaos
IS_WHOLE = os.environ.get("CHAOS_TIMES", "1") != "1"
COUNT = 10_000 if IS_WHOLE else 2_000
PUBLISHED_WITHIN_S = 15
APP = "tests.chaos.herd_app:app"
SLUG = "herd-sleeper"


async def publish(url: str, moment: float) -> None:
    wire, app = Wire(Settings(redis_url=url)), Bus("publisher")
    app.connect(wire)
    for _ in range(0, COUNT, 1_000):
        await app.publish([NewEvent("herd/sleep", {"until": moment})] * 1_000)
    await wire.close()


async def move_all(url: str) -> None:
    wire = Wire(Settings(redis_url=url))
    while (await fire_timers(wire, SLUG)).more:
        pass
    await wire.close()


class Herd:
    """Runs that all sleep until one moment, on some workers."""

    def __init__(self, folder: Path, url: str, store: "redis.Redis", workers: int) -> None:
        self.folder = folder
        self.url = url
        self.store = store
        self.workers = workers

    def work(self, stack: ExitStack) -> list[WorkerProcess]:
        logs = [self.folder / f"{time.monotonic_ns()}-{n}" for n in range(self.workers)]
        return [stack.enter_context(WorkerProcess(APP, self.url, log=log)) for log in logs]

    def all_are(self, status: str, seconds: float) -> None:
        until(lambda: self.store.zcard(keys.runs(SLUG, status)) == COUNT, f"all are {status}", seconds)

    def drained(self, *, alone: bool) -> float:
        """Return how long it takes from the moment to the 99th of a hundred runs, s; `alone`: they are due before."""
        self.store.flushall()
        with ExitStack() as stack:
            processes = self.work(stack)
            for process in processes:
                process.wait_ready()
            moment = float(round(time.time() + PUBLISHED_WITHIN_S))
            asyncio.run(publish(self.url, moment))
            self.all_are("waiting", moment - time.time() - 0.5)
            if alone:  # a queue of turns, and no timers
                for process in processes:
                    process.process.terminate()
                    process.process.wait()
                until(lambda: time.time() > moment, "the moment has come")
                asyncio.run(move_all(self.url))
                self.work(stack)
            self.all_are("completed", 60)
        pipe = self.store.pipeline(transaction=False)
        for run in self.store.zrange(keys.runs(SLUG, "completed"), 0, -1):
            pipe.hget(keys.steps(SLUG, run.decode()), "nap")
        ended = sorted(json.loads(memo)["ended"] / 1_000 for memo in pipe.execute())
        return ended[COUNT * 99 // 100] - (ended[0] if alone else moment)


@pytest.mark.parametrize("workers", [1, 3])
def test_thousands_of_timers_of_one_moment_wake_their_runs_once_each(tmp_path: Path, workers: int) -> None:
    """Prints how long that took beside the runs alone; how fast a machine is, is no claim of a test."""
    with ValkeyProcess(tmp_path) as server, redis.Redis.from_url(server.url) as store:
        herd = Herd(tmp_path, server.url, store, workers)
        alone = herd.drained(alone=True) if IS_WHOLE else float("nan")
        print(f"{workers} workers: the runs alone {alone:.2f} s, by their timers {herd.drained(alone=False):.2f} s")
        assert store.zcard(keys.timers(SLUG)) == 0
