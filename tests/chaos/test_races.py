"""Things that come at the same moment, under worker kills: a wait's event and its timeout, ticks and schedulers, cancel and end.

make storm: 5,000 triples, 2,000 races; CI a tenth of it. 1,000 ticks; CI 250. CHAOS_SEED repeats one.
"""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.rerun import rerun
from tests.chaos.hive import CLOCK
from tests.chaos.storm import SCALE, SEED, WORKERS, Storm
from tests.patience import PATIENT_S

pytestmark = pytest.mark.chaos
TIMEOUT_S = 0.5
TICKS = 250 if SCALE <= 1 else 1_000


@pytest.fixture
def storm(tmp_path: Path) -> Generator[Storm]:
    made = Storm(tmp_path)
    with redis.Redis.from_url(made.server.url) as store:
        while store.zcard(keys.workers()) < WORKERS:
            time.sleep(0.02)
    yield made
    made.close()


def kill_one(storm: Storm) -> None:
    place = storm.random.randrange(len(storm.workers))
    storm.signal(storm.workers[place], signal.SIGKILL)
    storm.workers[place] = storm.spawn()
    storm.done["kill"] += 1


def ended(store: "redis.Redis", slug: str) -> int:
    return sum(store.zcard(keys.runs(slug, status)) for status in ("completed", "failed", "cancelled"))


def test_a_wait_takes_its_event_or_times_out_never_both_never_neither(storm: Storm) -> None:
    print(f"seed {SEED}")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    count, answers = int(500 * SCALE), []
    sent = 0
    last_kill = began = time.monotonic()
    ended_then = 0
    while sent < count or answers:
        now = time.monotonic()
        while answers and answers[0][0] <= now:
            _, n = answers.pop(0)
            store.xadd(keys.events("storm/answer"), {"name": "storm/answer", "data": json.dumps({"n": n})})
        if sent < count and len(answers) < 200:
            data = json.dumps({"n": sent, "timeout": TIMEOUT_S})
            store.xadd(keys.events("storm/triple"), {"name": "storm/triple", "data": data})
            answers.append((now + TIMEOUT_S + storm.random.uniform(-0.05, 0.06), sent))
            answers.sort()
            sent += 1
        # Not before something has ended since: a run whose worker dies five times in a row is given up, which is no race.
        if now - last_kill > 0.3 and (have_ended := ended(store, "storm-triple")) > ended_then:
            last_kill, ended_then = now, have_ended
            kill_one(storm)
        time.sleep(0.001)
    until = time.monotonic() + PATIENT_S
    while ended(store, "storm-triple") < count:
        assert time.monotonic() < until, f"{ended(store, 'storm-triple')} of {count} ended"
        time.sleep(0.05)
    came = {
        json.loads(fields["data"])["n"]: int(entry.partition("-")[0])
        for entry, fields in store.xrange(keys.events("storm/answer"))
    }
    taken = Counter[str]()
    for run in store.zrange(keys.runs("storm-triple", "completed"), 0, -1):
        kept = store.hgetall(keys.run("storm-triple", run))
        n, output = json.loads(kept["event"])["data"]["n"], json.loads(kept["output"])
        memos = store.hgetall(keys.steps("storm-triple", run))
        assert list(memos) == ["w"]
        assert output in (None, n)
        if output is None:  # its deadline is at least TIMEOUT_S after its start
            assert came[n] > int(kept["started"]) + 1000 * TIMEOUT_S, f"run {run} missed an event that came in time"
        taken["event" if output is not None else "timeout"] += 1
    failed = store.zrange(keys.runs("storm-triple", "failed"), 0, -1)
    assert sum(taken.values()) == count, [store.hgetall(keys.run("storm-triple", run)) for run in failed]
    assert min(taken["event"], taken["timeout"]) >= count / 20
    assert storm.done["kill"] >= 5
    print(f"{count} triples in {time.monotonic() - began:.0f} s, {storm.done['kill']} kills: {dict(taken)}")
    store.close()


def test_no_tick_of_hundreds_is_doubled_or_missed_by_four_schedulers_that_are_killed(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    storm = Storm(tmp_path, "schedulers")
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    queue, start = keys.queue("storm-ticked"), 1_777_600_800_000
    try:
        store.set(CLOCK, start + 1)
        while not store.hexists(keys.cron("storm-ticked"), "cron * * * * *"):
            time.sleep(0.005)
        for n in range(1, TICKS + 1):
            store.set(CLOCK, start + n * 60_000 + 5)
            if n % 12 == 0:
                kill_one(storm)
            until = time.monotonic() + PATIENT_S
            while store.xlen(queue) < n:
                assert time.monotonic() < until, f"tick {n} is missing"
        ticks = [json.loads(fields["event"])["ts"] for _, fields in store.xrange(queue)]
        assert ticks == [start + n * 60_000 for n in range(1, TICKS + 1)]
        runs = [fields["run"] for _, fields in store.xrange(queue)]
        assert len(set(runs)) == TICKS
        print(f"{TICKS} ticks, {storm.done['kill']} schedulers killed: none doubled, none missed")
    finally:
        store.close()
        storm.close()


def test_cancel_rerun_and_end_fired_together_give_one_end_each(storm: Storm) -> None:
    print(f"seed {SEED}")
    count = int(200 * SCALE)
    words, reruns = asyncio.run(_race(storm, count))
    store = redis.Redis.from_url(storm.server.url, decode_responses=True)
    slug, wanted = "storm-race", count + reruns
    until = time.monotonic() + PATIENT_S
    while ended(store, slug) < wanted:
        assert time.monotonic() < until, f"{ended(store, slug)} of {wanted} ended"
        time.sleep(0.05)
    seen = Counter[str]()
    for status in ("completed", "failed", "cancelled"):
        for run in store.zrange(keys.runs(slug, status), 0, -1):
            assert store.hget(keys.run(slug, run), "status") == status
            seen[status] += 1
            if "cancelled" in words.get(run, []):
                assert status == "cancelled", "what was answered `cancelled` stays so"
    assert sum(seen.values()) == wanted, "a run is in one index"
    assert seen["failed"] == 0
    for status in ("running", "queued", "waiting"):
        assert store.zcard(keys.runs(slug, status)) == 0
    assert store.zcard(keys.timers(slug)) == 0
    assert min(seen["completed"], seen["cancelled"]) > 0
    print(f"{count} races and {reruns} reruns, {storm.done['kill']} kills: {dict(seen)}")
    store.close()


async def _race(storm: Storm, count: int) -> tuple[dict[str, list[str]], int]:
    wire = Wire(Settings(redis_url=storm.server.url), "racer")
    words: dict[str, list[str]] = {}
    reruns = 0

    async def attack(run: str) -> int:
        await asyncio.sleep(storm.random.uniform(0, 0.06))
        work: list[Any] = [cancel(wire, run, "race"), cancel(wire, run, "race")]
        again = storm.random.random() < 0.3
        found = await asyncio.gather(*work, *([rerun(wire, run, beside=True)] if again else []))
        words[run] = [str(word) for word in found[:2]]
        return again

    known: set[str] = set()
    for start in range(0, count, 20):
        for _ in range(20):
            await wire.call("XADD", keys.events("storm/race"), "*", "name", "storm/race", "data", "{}")
        fresh: list[str] = []
        until = time.monotonic() + PATIENT_S
        while len(fresh) < 10 and time.monotonic() < until:
            fresh = []
            for status in ("running", "waiting", "queued", "completed"):
                rows = await wire.call("ZREVRANGE", keys.runs("storm-race", status), 0, 100)
                fresh += [row.decode() for row in rows if row.decode() not in known]
            await asyncio.sleep(0.002)
        known.update(fresh)
        reruns += sum(await asyncio.gather(*(attack(run) for run in dict.fromkeys(fresh))))
        if start % 100 == 0:
            kill_one(storm)
    await wire.close()
    return words, reruns
