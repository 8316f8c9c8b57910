"""What a server says or does when it cannot serve: states to live through. Workers wait quietly and go on by themselves."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.chaos.test_kills import Arena
from tests.support import WorkerProcess, journal

pytestmark = pytest.mark.chaos
TICKS = os.sysconf("SC_CLK_TCK")
AWAY_S = 5.0 if int(os.environ.get("CHAOS_TIMES", "1")) == 1 else 60.0
"""How long a server is gone: make chaos waits a minute."""
QUIET_SHARE = 0.10
"""Of a core, while Redis is away: 5 % is the aim, and a busy test machine doubles what is counted."""


@pytest.fixture
def arena(tmp_path: Path) -> Generator[Arena]:
    made = Arena(tmp_path)
    yield made
    made.close()


def cpu_s(worker: WorkerProcess) -> float:
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(worker: WorkerProcess) -> float:
    return int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def quiet_during(worker: WorkerProcess, seconds: float) -> None:
    """The worker neither spins nor grows for this long."""
    cpu, rss = cpu_s(worker), rss_mb(worker)
    time.sleep(seconds)
    assert worker.process.poll() is None
    assert (cpu_s(worker) - cpu) / seconds < QUIET_SHARE
    assert rss_mb(worker) - rss < 10


@pytest.mark.parametrize(
    ("enter", "leave"),
    [
        (lambda r: r.config_set("maxmemory", "1"), lambda r: r.config_set("maxmemory", "0")),
        (lambda r: r.config_set("min-replicas-to-write", "1"), lambda r: r.config_set("min-replicas-to-write", "0")),
        (lambda r: r.replicaof("127.0.0.1", "1"), lambda r: r.replicaof("NO", "ONE")),
    ],
    ids=["OOM", "NOREPLICAS", "READONLY"],
)
def test_a_server_that_refuses_writes_is_waited_for(arena: Arena, enter: Callable, leave: Callable) -> None:
    worker = arena.worker(lease="2", step="0.3")
    arena.send("chaos/five", 3)
    arena.until(lambda: len(journal(arena.path)) >= 3, "runs in progress")
    enter(arena.store)
    time.sleep(0.5)
    quiet_during(worker, 2.5)
    leave(arena.store)
    arena.until(lambda: arena.ended("five", 3), "the runs ended")
    arena.send("chaos/five", 3)
    arena.until(lambda: arena.ended("five", 6), "and later ones")
    arena.idle("five")


def test_what_was_done_is_recorded_though_memory_is_full(arena: Arena) -> None:
    """Under OOM a worker may not begin, but what it has done must not be done again."""
    arena.worker(lease="2", step="0.3")
    arena.send("chaos/five", 3)
    arena.until(lambda: len(journal(arena.path)) >= 3, "runs in progress")
    arena.store.config_set("maxmemory", "1")
    arena.until(lambda: arena.ended("five", 3), "runs end under OOM")
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        arena.send("chaos/five")
    arena.store.config_set("maxmemory", "0")
    arena.check("five", 3, extra=0)


def test_a_server_busy_with_a_script_is_waited_for(arena: Arena) -> None:
    worker = arena.worker(lease="10", step="0.1")
    arena.store.config_set("busy-reply-threshold", "100")
    blocker = threading.Thread(target=lambda: _swallow(lambda: arena.store.eval("while true do end", 0)))
    blocker.start()
    time.sleep(0.5)
    quiet_during(worker, 2.0)
    with redis.Redis.from_url(arena.server.url) as other:
        other.script_kill()
    blocker.join()
    arena.send("chaos/five", 3)
    arena.until(lambda: arena.ended("five", 3), "the runs ended")


def _swallow(work: Callable[[], object]) -> None:
    with contextlib.suppress(redis.RedisError):
        work()


def test_forgotten_scripts_are_sent_again_without_a_word(arena: Arena) -> None:
    arena.worker(lease="2", step="0.01")
    for _ in range(40):
        arena.send("chaos/five")
        arena.store.script_flush()
        time.sleep(0.02)
    arena.until(lambda: arena.ended("five", 40), "the runs ended")
    arena.check("five", 40, extra=0)


def test_clients_killed_at_random_lose_nothing(arena: Arena) -> None:
    arena.worker(lease="2", step="0.02")
    for _ in range(40):
        arena.send("chaos/five")
        for client in arena.store.client_list():
            if "bus" in client["name"] or client["name"].count("-") >= 2:
                _swallow(lambda client=client: arena.store.client_kill_filter(_id=client["id"]))
        time.sleep(0.05)
    arena.until(lambda: arena.ended("five", 40), "the runs ended")
    arena.check("five", 40, extra=0)
    arena.idle("five")


def test_a_server_that_pauses_its_clients_past_their_timeout_loses_and_doubles_nothing(arena: Arena) -> None:
    """CLIENT PAUSE for longer than a command may take: its outcome is unknown, and repeating it is harmless."""
    arena.worker(lease="4", step="0.05", BUS_TIMEOUT="0.5")
    for pause_ms in (700, 1_500):
        arena.send("chaos/five", 5)
        time.sleep(0.1)
        arena.store.client_pause(pause_ms)
    arena.until(lambda: arena.ended("five", 10), "the runs ended")
    arena.check("five", 10, extra=0)
    arena.idle("five")


def test_a_server_that_is_gone_is_asked_for_at_most_ten_times_a_second(arena: Arena) -> None:
    worker = arena.worker(lease="2")
    rss = rss_mb(worker)
    arena.server.kill()
    quiet_during(worker, AWAY_S)  # refused at once
    knocks: list[float] = []
    with socket.create_server(("127.0.0.1", arena.server.port)) as door:
        door.settimeout(0.1)
        until = time.monotonic() + AWAY_S
        cpu = cpu_s(worker)
        while time.monotonic() < until:
            try:
                guest, _ = door.accept()
                knocks.append(time.monotonic())
                guest.close()
            except TimeoutError:
                continue
        assert (cpu_s(worker) - cpu) / AWAY_S < 2 * QUIET_SHARE, (
            "each knock is answered and cut here, which costs both sides"
        )
    assert 3 <= len(knocks) <= 10 * AWAY_S, f"{len(knocks)} connections in {AWAY_S:.0f} s"
    assert rss_mb(worker) - rss < 10
    print(f"{len(knocks) / AWAY_S:.1f} connections a second while the server was gone")
    arena.server.start()
    arena.until(lambda: arena.store.zcard(keys.workers()) == 1, "the worker is back")
    _republish(arena)


def test_a_server_that_hangs_is_waited_for(arena: Arena) -> None:
    worker = arena.worker(lease="2", BUS_TIMEOUT="1")
    assert arena.server.process is not None
    arena.server.process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    quiet_during(worker, AWAY_S)
    arena.server.process.send_signal(signal.SIGCONT)
    _republish(arena)


def _republish(arena: Arena) -> None:
    """Events published from now on are run; the group is made again where the server has forgotten it."""
    arena.until(lambda: arena.store.ping(), "the server answers")
    arena.until(
        lambda: arena.store.exists(keys.events("chaos/five")) and arena.store.xinfo_groups(keys.events("chaos/five")),
        "its group",
    )
    arena.send("chaos/five", 2)
    arena.until(lambda: arena.ended("five", 2), "the runs ended")
