"""The network and the disk misbehave: nothing is stored twice, nothing hangs, and a server that forgot a little goes on.

CHAOS_TIMES=20 (make chaos) repeats each; CI does each once. CHAOS_SEED repeats one; the seed is printed.
"""

import asyncio
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.errors import BusError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from tests.chaos.proxy import FAULTS, Fault, Proxy
from tests.chaos.test_kills import Arena
from tests.chaos.test_states import quiet_during
from tests.patience import PATIENT_S
from tests.support import journal

pytestmark = pytest.mark.chaos
TIMES = int(os.environ.get("CHAOS_TIMES", "1"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(1_000_000))))


@pytest.fixture
def arena(tmp_path: Path) -> Generator[Arena]:
    made = Arena(tmp_path)
    yield made
    made.close()


@pytest.fixture
def lasting(tmp_path: Path) -> Generator[Arena]:
    made = Arena(tmp_path, appendonly="yes")
    yield made
    made.close()


def publish(url: str, name: str, count: int) -> list[str]:
    """Publish one by one through a bad network, as an application does: repeat what failed, with the same id."""

    async def doing() -> list[str]:
        app = Bus("publisher")
        wire = Wire(Settings(redis_url=url, timeout_ms=1_000), "publisher")
        app.connect(wire)
        ids = []
        try:
            for n in range(count):
                own = f"own-{n}" if n % 2 else None
                stored = None
                while stored is None:
                    try:
                        stored = (await app.publish([NewEvent(name, {"n": n}, own)]))[0]
                    except BusError:
                        assert own, "a first publish repeats by itself for 10 s"
                ids.append(stored.id)
        finally:
            await wire.close()
        return ids

    return asyncio.run(doing())


@pytest.mark.parametrize("times", range(TIMES))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_network_doubles_and_loses_nothing(arena: Arena, fault: Fault, times: int) -> None:
    """Replies lost after the command was applied, requests lost, late, split, cut in the middle, half-open."""
    seed = SEED + times
    print(f"seed {seed}")
    count = 12 if fault == "silent" else 30  # each silence costs its caller a second
    with Proxy(arena.server.port, fault, seed, one_in=20 if fault == "silent" else 12) as proxy:
        arena.worker(lease="2", BUS_REDIS_URL=proxy.url, BUS_TIMEOUT="1")
        ids = publish(proxy.url, "chaos/mixed", count)
        arena.until(lambda: arena.ended("mixed", count), "the runs ended")
        proxy.mend()
        arena.idle("mixed")
        arena.workers[0].kill()
        harm = proxy.end()
    assert harm >= 5
    print(f"{fault}: {harm} times")
    stored = [fields["id"] for _, fields in arena.store.xrange(keys.events("chaos/mixed"))]
    assert sorted(stored) == sorted(ids)
    assert len(set(ids)) == count
    arena.check("mixed", count, extra=count)


@pytest.mark.parametrize("times", range(TIMES))
def test_a_drain_whose_reads_are_on_the_wire_loses_none(arena: Arena, times: int) -> None:
    """SIGTERM while a read's reply is 200 ms away: what it brings is given back, and another worker has it."""
    with Proxy(arena.server.port, "late", SEED + times, one_in=1) as proxy:
        first = arena.worker(lease="1", BUS_REDIS_URL=proxy.url, step="0.01")
        arena.send("chaos/five", 5)
        time.sleep(random.Random(SEED + times).uniform(0, 0.3))
        arena.send("chaos/five", 5)
        first.signal(signal.SIGTERM)
        arena.worker(lease="1", step="0.01")
        assert first.process.wait(PATIENT_S) == 0
    arena.until(lambda: arena.ended("five", 10), "the runs ended")
    arena.check("five", 10, extra=0)
    arena.idle("five")


@pytest.mark.parametrize("times", range(TIMES))
def test_a_server_that_lost_its_last_moments_goes_on_from_what_it_knows(lasting: Arena, times: int) -> None:
    """Power loss: the append-only file ends somewhere within its last second, also inside a script's transaction."""
    dice = random.Random(SEED + times)
    print(f"seed {SEED + times}")
    lasting.worker(lease="1", step="0.02")
    lasting.worker(lease="1", step="0.02")
    cut = 0
    for _ in range(3):
        sizes = [_aof(lasting.folder).stat().st_size]
        for _ in range(8):
            lasting.send("chaos/mixed", 5)
            time.sleep(0.1)
            sizes.append(_aof(lasting.folder).stat().st_size)
        lasting.server.kill()
        file = _aof(lasting.folder)
        left = dice.randrange(sizes[4], file.stat().st_size)
        cut += file.stat().st_size - left
        os.truncate(file, left)
        lasting.server.start()
        time.sleep(0.3)
    entries = lasting.store.xlen(keys.events("chaos/mixed"))
    assert entries >= 60
    lasting.until(lambda: lasting.ended("mixed", entries), "each event that is left has a run that ended")
    lasting.idle("mixed")
    for run, kept in lasting.runs("mixed").items():
        assert kept["status"] == "completed"
        memos = lasting.steps("mixed", run)
        assert sorted(memo["n"] for memo in memos.values()) == list(range(1, len(memos) + 1))
    for status in ("running", "queued", "waiting"):
        assert lasting.store.zcard(keys.runs("chaos-mixed", status)) == 0
    print(f"3 cuts, {cut} bytes forgotten: {entries} events left, all runs completed")


def _aof(folder: Path) -> Path:
    return max((folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize("wipe", ["stream", "group", "everything"])
def test_a_worker_lives_on_when_its_stream_group_or_all_is_deleted(arena: Arena, wipe: str) -> None:
    """Under blocked readers: groups are made again, functions registered again, and it is told loudly."""
    worker = arena.worker(lease="1", step="0.01")
    if wipe == "stream":
        arena.store.delete(keys.events("chaos/five"))
    elif wipe == "group":
        arena.store.xgroup_destroy(keys.events("chaos/five"), "chaos-five")
    else:
        arena.store.flushall()
    arena.until(lambda: "was Redis wiped?" in worker.log.read_text(), "it is told")
    arena.until(
        lambda: arena.store.exists(keys.events("chaos/five")) and arena.store.xinfo_groups(keys.events("chaos/five")),
        "the group is there again",
    )
    arena.send("chaos/five", 3)
    arena.until(lambda: arena.ended("five", 3), "the runs ended")
    assert arena.store.hexists(keys.functions(), "chaos-five")
    assert worker.process.poll() is None


def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    try:
        worker = arena.worker(lease="1", step="0.01")
        arena.send("chaos/five", 3)
        arena.until(lambda: arena.ended("five", 3), "the runs ended")
        pipe = arena.store.pipeline(transaction=False)
        for n in range(3_000):
            pipe.set(f"filler:{n}", "x" * 200)
        pipe.execute()
        arena.store.save()
        arena.server.kill()
        arena.server.options = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
        starting = threading.Thread(target=arena.server.start)
        starting.start()
        time.sleep(0.5)
        with pytest.raises(redis.BusyLoadingError):
            arena.store.get("x")
        quiet_during(worker, 2.0)
        starting.join()
        arena.send("chaos/five", 3)
        arena.until(lambda: arena.ended("five", 6), "and later ones")
    finally:
        arena.close()


def test_a_server_that_cannot_write_its_disk_is_waited_for(tmp_path: Path) -> None:
    """MISCONF: the directory of its snapshots is gone."""
    arena = Arena(tmp_path)
    away = tmp_path / "snapshots"
    away.mkdir()
    arena.server.kill()
    arena.server.options = ("--dir", str(away), "--stop-writes-on-bgsave-error", "yes")
    arena.server.start()
    try:
        # The lease cannot be renewed either: it is longer than what is lived through, so nothing is done again.
        worker = arena.worker(lease="8", step="0.3")
        arena.send("chaos/five", 3)
        arena.until(lambda: len(journal(arena.path)) >= 3, "runs in progress")
        shutil.rmtree(away)
        arena.store.config_set("save", "3600 1")
        arena.store.bgsave()
        arena.until(lambda: _refuses(arena, "MISCONF"), "the server refuses")
        quiet_during(worker, 2.0)
        arena.store.config_set("save", "")
        arena.until(lambda: arena.ended("five", 3), "the runs ended")
        arena.check("five", 3, extra=0)
        arena.idle("five")
    finally:
        arena.close()


def _refuses(arena: Arena, word: str) -> bool:
    try:
        arena.store.set("probe", "1")
    except redis.ResponseError as error:
        return str(error).startswith(word)
    return False


@pytest.mark.parametrize("times", range(TIMES))
def test_a_worker_killed_within_its_drain_under_load_loses_nothing(arena: Arena, times: int) -> None:
    """SIGTERM, then kill -9 at a moment of the drain."""
    dice = random.Random(SEED + times)
    other = arena.worker(lease="0.6", step="0.05")
    for _ in range(3):
        first = arena.worker(lease="0.6", step="0.05", BUS_DRAIN="0.3")
        arena.send("chaos/five", 15)
        time.sleep(dice.uniform(0, 0.2))
        first.signal(signal.SIGTERM)
        time.sleep(dice.uniform(0, 0.3))
        first.kill()
    arena.until(lambda: arena.ended("five", 45), "the runs ended")
    arena.check("five", 45, extra=45)
    arena.idle("five")
    assert other.process.poll() is None
