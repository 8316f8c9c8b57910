"""A storm: thousands of runs while workers are killed and stopped and the server is killed; then the history is checked.

CHAOS_SCALE=10 makes it ten times as long (make storm); CHAOS_SEED repeats one. The seed is printed.
"""

import json
import time
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.chaos.storm import SCALE, SEED, WORKERS, Storm
from tests.patience import PATIENT_S
from tests.support import journal

pytestmark = pytest.mark.chaos
SLUG = "storm-three"
ENOUGH = {"kill": 15 * SCALE, "stop past the lease": 5 * SCALE, "server kill": 2 * SCALE}


def test_nothing_is_lost_doubled_or_done_again_in_a_storm(tmp_path: Path) -> None:
    count = int(1_000 * SCALE)
    storm = Storm(tmp_path)
    try:
        _storm(storm, count)
    finally:
        storm.close()


def _storm(storm: Storm, count: int) -> None:
    print(f"seed {SEED}")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True, socket_timeout=2)
    while store.zcard(keys.workers()) < WORKERS:  # groups begin where their trigger was registered
        time.sleep(0.02)
    sent = 0
    began = time.monotonic()
    while sent < count or not storm.has_done(ENOUGH):
        assert sent < 10 * count, f"too few faults: {dict(storm.done)}"
        for _ in range(15):  # a first publish that is lost with the server is repeated: no id is used twice
            try:
                store.set(f"storm:sent:{sent}", 1)
                store.xadd(keys.events("storm/three"), {"name": "storm/three", "data": json.dumps({"n": sent})})
                sent += 1
            except redis.RedisError:
                storm.done["publish failed"] += 1
                time.sleep(0.02)
        storm.strike()
        time.sleep(storm.random.uniform(0.03, 0.2))
    storm.calm()
    until = time.monotonic() + PATIENT_S
    index = keys.runs(SLUG, "completed")
    entries = 0
    while time.monotonic() < until:
        try:
            entries = store.xlen(keys.events("storm/three"))
            if store.zcard(index) >= entries and store.xpending(keys.events("storm/three"), SLUG)["pending"] == 0:
                break
        except redis.RedisError:
            pass
        time.sleep(0.05)
    took = time.monotonic() - began
    _check(store, storm, entries, sent)
    store.close()
    print(f"{entries} runs x 3 steps in {took:.0f} s: {dict(storm.done)}")
    assert storm.has_done(ENOUGH)


def _check(store: "redis.Redis", storm: Storm, entries: int, sent: int) -> None:
    """The history: every entry one completed run, every memo once and of its own run, no body begun after its memo."""
    assert entries >= sent, "an event that was answered is lost"
    runs = store.zrange(keys.runs(SLUG, "completed"), 0, -1)
    assert len(runs) == len(set(runs)) == entries, f"{len(runs)} runs of {entries} entries"
    for status in ("running", "queued", "waiting", "failed"):
        assert store.zcard(keys.runs(SLUG, status)) == 0, status
    starts: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in journal(storm.journal):
        starts.setdefault((line["run"], line["step"]), []).append((line["pid"], line["at"]))
    again = steps = strays = 0
    for run in runs:
        kept = store.hgetall(keys.run(SLUG, run))
        assert kept["status"] == "completed"
        assert json.loads(kept["output"]) == [f"{run}:{name}" for name in "abc"]
        assert store.ttl(keys.run(SLUG, run)) > 0
        memos = {step: json.loads(memo) for step, memo in store.hgetall(keys.steps(SLUG, run)).items()}
        assert sorted(memo["n"] for memo in memos.values()) == list(range(1, len(memos) + 1))
        assert store.exists(keys.open_steps(SLUG, run)) == 0
        for name in "abc":
            steps += 1
            began = starts[run, name]
            late = [(pid, at) for pid, at in began if at > memos[name]["ended"] + 1]
            strays += len(late)
            assert all(storm.is_stray(*one) for one in late), f"{run} {name} ran again after its memo"
            again += len(began) - 1
    assert store.zcard(keys.timers(SLUG)) == 0
    assert store.xlen(keys.queue(SLUG)) == 0
    assert strays <= len(storm.resumed)
    print(f"{strays} stray bodies of {len(storm.resumed)} workers that went on")
    print(f"bodies {steps + again} for {steps} steps (+{100 * again / steps:.1f} %)")
