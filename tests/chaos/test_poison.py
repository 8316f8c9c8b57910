"""Runs that kill their worker every time, among many that do not: those are told by name and end, the others go on.

make storm: 20 among 1,000; CI a fifth of it. Prints how many innocent runs were done beside those of a calm pass.
"""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.chaos.storm import LEASE_S, SCALE, WORKERS, Storm
from tests.patience import PATIENT_S

pytestmark = pytest.mark.chaos
SLUG = "storm-crowd"
RUNS = round(200 if SCALE <= 1 else 100 * SCALE)
A_SECOND = 50


def test_twenty_crashers_among_a_thousand_end_alone(tmp_path: Path) -> None:
    done: dict[bool, int] = {}
    for poisoned in (False, True):
        folder = tmp_path / str(poisoned)
        folder.mkdir()
        storm = Storm(folder)
        try:
            done[poisoned] = _crowd(storm, poisoned=poisoned)
        finally:
            storm.close()
    share = done[True] / done[False]
    print(
        f"innocent runs done when the last was published: {done[True]} of {done[False]} without crashers ({share:.0%})"
    )


def _crowd(storm: Storm, *, poisoned: bool) -> int:
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    while store.zcard(keys.workers()) < WORKERS:
        time.sleep(0.02)
    began, innocent, crashers = time.monotonic(), 0, 0
    for n in range(RUNS):
        bad = poisoned and n % 50 == 25
        crashers += bad
        innocent += not bad
        data = json.dumps({"poison": 1} if bad else {})
        store.xadd(keys.events("storm/crowd"), {"name": "storm/crowd", "data": data})
        while time.monotonic() < began + n / A_SECOND:
            _replace_the_dead(storm)
            time.sleep(0.005)
    done = store.zcard(keys.runs(SLUG, "completed"))
    until = time.monotonic() + 90
    while store.zcard(keys.runs(SLUG, "completed")) < innocent or store.zcard(keys.runs(SLUG, "failed")) < crashers:
        assert time.monotonic() < until, _told(store)
        _replace_the_dead(storm)
        time.sleep(0.02)
    failed = [store.hgetall(keys.run(SLUG, run)) for run in store.zrange(keys.runs(SLUG, "failed"), 0, -1)]
    assert len(failed) == crashers
    assert all("worker_crash" in run["error"] and "poison" in run["event"] for run in failed)
    assert store.zcard(keys.runs(SLUG, "completed")) == innocent
    print(f"{innocent} innocent runs, {crashers} crashers, {storm.done['died']} workers died")
    store.close()
    return done


def _replace_the_dead(storm: Storm) -> None:
    for place, pid in enumerate(storm.workers):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            storm.done["died"] += 1
            storm.workers[place] = storm.spawn()


def _told(store: "redis.Redis") -> Counter[str]:
    return Counter(
        {status: store.zcard(keys.runs(SLUG, status)) for status in ("running", "queued", "completed", "failed")}
    )


def test_runs_of_workers_that_are_stopped_again_and_again_are_not_ended_as_crashers(tmp_path: Path) -> None:
    """Thirty stops of more than a lease: each is taken for a death, and none is one."""
    stops, runs = (15 if SCALE <= 1 else 30), 15
    storm = Storm(tmp_path, workers=2)
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    try:
        while store.zcard(keys.workers()) < 2:
            time.sleep(0.02)
        for n in range(runs):
            store.xadd(keys.events("storm/long"), {"name": "storm/long", "data": json.dumps({"n": n})})
        for n in range(stops):
            victim = storm.workers[n % 2]
            storm.signal(victim, signal.SIGSTOP)
            time.sleep(storm.random.uniform(1.2, 1.8) * LEASE_S)
            storm.signal(victim, signal.SIGCONT)
            time.sleep(storm.random.uniform(0.2, 0.6) * LEASE_S)
        until = time.monotonic() + PATIENT_S
        while store.zcard(keys.runs("storm-long", "completed")) < runs:
            failed = store.zrange(keys.runs("storm-long", "failed"), 0, -1)
            assert not failed, [store.hget(keys.run("storm-long", run), "error") for run in failed]
            assert time.monotonic() < until, _told(store)
            time.sleep(0.05)
        print(f"{runs} runs, {stops} stops past the lease: none was ended as a crasher")
    finally:
        store.close()
        storm.close()
