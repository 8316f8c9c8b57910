"""Limits under kills and stops: never above, full again within a lease, nothing leaked.

Ten workers, limit 3, the places looked at every 5 ms: for a minute with make storm, six seconds in CI.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.chaos.storm import LEASE_S, SCALE, SEED, Storm, within
from tests.patience import PATIENT_S
from tests.support import journal

pytestmark = pytest.mark.chaos
LIMIT = 3
SECONDS = 6 * SCALE
ENOUGH = {"kill": 3 * SECONDS, "stop": SECONDS / 3}
"""How many faults at least, however slow the machine: they go on until then."""


@pytest.fixture
def storm(tmp_path: Path) -> Generator[Storm]:
    made = Storm(tmp_path, workers=10)
    with redis.Redis.from_url(made.server.url) as store:
        while store.zcard(keys.workers()) < 10:
            time.sleep(0.02)
    yield made
    made.close()


def disturb(storm: Storm) -> None:
    """Kill a worker, or stop one past its lease."""
    now = time.monotonic()
    for pid, until in list(storm.stopped.items()):
        if now >= until:
            storm.go_on(pid)
            del storm.stopped[pid]
    place = storm.random.randrange(len(storm.workers))
    victim = storm.workers[place]
    if storm.random.random() < 0.7:
        storm.signal(victim, signal.SIGKILL)
        storm.stopped.pop(victim, None)
        storm.workers[place] = storm.spawn()
        storm.done["kill"] += 1
    elif victim not in storm.stopped and len(storm.stopped) < 3:
        storm.signal(victim, signal.SIGSTOP)
        storm.stopped[victim] = now + storm.random.uniform(1.2, 2.0) * LEASE_S
        storm.done["stop"] += 1


def ended(store: "redis.Redis", *slugs: str) -> int:
    return sum(
        store.zcard(keys.runs(slug, status)) for slug in slugs for status in ("completed", "failed", "cancelled")
    )


def all_begun(storm: Storm, store: "redis.Redis") -> bool:
    """Return whether each worker that was spawned last has its lease."""
    return {*storm.workers} <= {int(worker.split("-")[-2]) for worker in store.zrange(keys.workers(), 0, -1)}


def sampled(storm: Storm, store: "redis.Redis", name: str, places: str) -> tuple["Counter[int]", int]:
    """Publish while workers are disturbed; return how often how many places were held, and how many were published."""
    seen: Counter[int] = Counter()
    sent, began = 0, time.monotonic()
    next_strike = began + 0.2
    while (now := time.monotonic()) - began < SECONDS or not storm.has_done(ENOUGH):
        assert now - began < 10 * SECONDS, f"too few faults: {dict(storm.done)}"
        if store.zcard(keys.runs("storm-limited", "queued")) + store.zcard(keys.runs("storm-shared", "queued")) < 40:
            for _ in range(20):
                store.xadd(keys.events(name), {"name": name, "data": json.dumps({"n": sent})})
                sent += 1
        seen[store.zcard(places)] += 1
        if now > next_strike:
            next_strike = now + storm.random.uniform(0.05, 0.25)
            disturb(storm)
        time.sleep(0.005)
    storm.calm()
    return seen, sent


def test_a_limit_of_three_is_never_exceeded_and_nothing_leaks(storm: Storm) -> None:
    print(f"seed {SEED}")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    slug, places = "storm-limited", keys.places("storm-limited", "c0:")
    seen, sent = sampled(storm, store, "storm/limited", places)
    assert max(seen) == LIMIT
    # All die: the places are those of runs that are pending, and are in use again within a lease and a look.
    for place, pid in enumerate(storm.workers):
        storm.signal(pid, signal.SIGKILL)
        storm.workers[place] = storm.spawn()
    died, done = time.monotonic(), ended(store, slug)
    assert within(PATIENT_S, lambda: all_begun(storm, store)), "ten new workers have begun"
    begun = time.monotonic()
    while ended(store, slug) < done + 2 * LIMIT:
        assert time.monotonic() - begun < 4 * LEASE_S, "runs go on again"
        time.sleep(0.005)
    full_again = time.monotonic() - died
    until = time.monotonic() + 60 + SECONDS
    while ended(store, slug) < sent:
        assert time.monotonic() < until, f"{ended(store, slug)} of {sent}"
        assert store.zcard(places) <= LIMIT
        time.sleep(0.01)
    assert store.exists(places) == 0, "no place is held by a run that has ended"
    assert store.exists(keys.backlog(slug, "c0:")) == 0
    assert store.zcard(keys.runs(slug, "completed")) == sent
    assert storm.has_done(ENOUGH)
    print(
        f"{sent} runs, {storm.done['kill']} kills, {storm.done['stop']} stops in {SECONDS:.0f} s: places held {dict(seen)}; "
        f"all workers killed: going on after {full_again:.1f} s, {begun - died:.1f} s of it until the new had begun"
    )
    store.close()


def test_a_shared_limit_of_three_is_never_exceeded(storm: Storm) -> None:
    print(f"seed {SEED}")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    slugs = ("storm-shared", "storm-sharing")
    seen, sent = sampled(storm, store, "storm/shared", keys.limit("three="))
    assert max(seen) == LIMIT
    until = time.monotonic() + 60 + SECONDS
    while ended(store, *slugs) < 2 * sent:
        assert time.monotonic() < until, f"{ended(store, *slugs)} of {2 * sent}"
        time.sleep(0.01)
    while store.zcard(keys.limit("three=")):
        assert time.monotonic() < until
        time.sleep(0.05)
    for slug in slugs:
        assert store.exists(keys.places(slug, "c0:"), keys.backlog(slug, "c0:")) == 0
        assert store.zcard(keys.runs(slug, "completed")) == sent
    print(f"{2 * sent} runs, {storm.done['kill']} kills, {storm.done['stop']} stops: places held {dict(seen)}")
    store.close()


def test_a_run_taken_over_from_the_dead_never_works_beside_who_has_its_shared_place(storm: Storm) -> None:
    """A limit of one for all workers: whoever holds the place is killed, again and again, at work."""
    print(f"seed {SEED}")
    kills, slug, limit = round(20 * SCALE), "storm-alone", keys.limit("alone=")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    sent, died = 0, dict[int, float]()
    until = time.monotonic() + 30 + 4 * LEASE_S * kills
    while len(died) < kills:
        assert time.monotonic() < until, f"{len(died)} of {kills} kills"
        if store.zcard(keys.runs(slug, "queued")) < 5:
            store.xadd(keys.events("storm/alone"), {"name": "storm/alone", "data": "{}"})
            sent += 1
        for holder in store.zrange(limit, 0, -1):
            worker = store.hget(keys.run(slug, holder.split("|")[1]), "worker") or "-"
            pid = int(worker.split("-")[-2]) if worker.count("-") >= 2 else 0
            if pid in storm.workers and storm.random.random() < 0.3:  # seldom five times the same run
                time.sleep(storm.random.uniform(0, 0.04))
                storm.signal(pid, signal.SIGKILL)
                died[pid] = time.time() * 1000
                storm.workers[storm.workers.index(pid)] = storm.spawn()
        time.sleep(storm.random.uniform(0, 0.02))
    while ended(store, slug) < sent:
        assert time.monotonic() < until, f"{ended(store, slug)} of {sent}"
        time.sleep(0.02)
    bodies: list[tuple[float, float, str]] = []
    for line in journal(storm.journal):
        if line["what"] == "begins":
            bodies.append((line["at"], died.get(line["pid"], 0.0), line["run"]))
        else:
            begins = max(n for n, one in enumerate(bodies) if one[2] == line["run"])
            bodies[begins] = (bodies[begins][0], line["at"], line["run"])
    bodies.sort()
    beside = [(one, other) for one, other in pairwise(bodies) if other[0] < one[1]]
    assert not beside
    print(f"{sent} runs, {len(bodies)} bodies, {kills} kills of the holder: never two at work")
    store.close()
