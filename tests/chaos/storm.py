"""Storm: workers on a server, and bad things done to both by a seeded plan; each test chooses which.

CHAOS_SCALE=10 makes storms ten times as long (make storm); CHAOS_SEED repeats one.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stepstream.bus.wire import keys
from tests.chaos.resp import WORDS, RespProxy
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess

SCALE = float(os.environ.get("CHAOS_SCALE", "1"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(1_000_000))))
WORKERS = 4
LEASE_S = 0.6
REFUSED_SHARE = 0.3
"""How many commands are answered with an error word while a burst of them lasts."""

USUAL = {"kill": 65, "stop past the lease": 35}
"""Faults and how often each is chosen, beside a server kill each fifteenth time."""


def patterns(makes: Sequence[Callable[..., str]]) -> list[tuple[str, "re.Pattern[str]"]]:
    """Return the kind's name and what its keys look like, for key functions of bus/wire/keys."""
    stand_ins = dict(keys.ALL)
    found: list[tuple[str, re.Pattern[str]]] = []
    for make in makes:
        pattern = re.escape(make(*(f"~{n}" for n, _ in enumerate(stand_ins[make]))))
        found.append((make.__name__, re.compile(re.sub(r"\\~\d|~\d|%7E\d", ".*", pattern))))
    return found


class Storm:
    """Workers, one server or two, and a plan. Counts what it does in `done`."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        workers: int = WORKERS,
        faults: "dict[str, int]" = USUAL,
        server_kills: int = 15,
        deletable: Sequence[Callable[..., str]] = (),
        lease_s: float = LEASE_S,
    ) -> None:
        """Start. `words` are hive's; `server_kills`: each so-many-th strike; `deletable`: whose keys are deleted."""
        self.random = random.Random(SEED)
        self.faults = faults
        self.lease_s = lease_s
        self._server_kills = server_kills
        self._deletable = patterns(deletable)
        self.server = self._started(folder / "first")
        self.replica = self._started(folder / "second") if "role swap" in faults else None
        if self.replica is not None:
            self.at(self.replica).replicaof("127.0.0.1", str(self.server.port))
        self.proxy = RespProxy(self.server.port, SEED) if {"role swap", "error words"} & {*faults} else None
        self.url = self.proxy.url if self.proxy else self.server.url
        """Where the workers, and whoever else shall feel the faults, look for Redis."""
        self.journal = folder / "journal"
        self.done: Counter[str] = Counter()
        self.repairs: list[str] = []
        """What `bus check --repair` said each time."""
        self.strikes = 0
        self._each_first = self.random.sample([*faults], len(faults))
        self.environ = {
            **os.environ,
            "BUS_REDIS_URL": self.url,
            "BUS_LEASE": str(lease_s),
            "BUS_LOG_FORMAT": "json",
            "CHAOS_JOURNAL": str(self.journal),
        }
        self.log = folder / "hive.log"
        with self.log.open("w") as log:
            self.hive = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.hive", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, env=self.environ, stderr=log, cwd=Path(__file__).parent.parent.parent,
            )  # fmt: skip
        self.workers = [self.spawn() for _ in range(workers)]
        self.stopped: dict[int, float] = {}
        self.resumed: list[tuple[int, float]] = []
        self.words_until: float | None = None

    def _started(self, folder: Path) -> ValkeyProcess:
        folder.mkdir()
        # everysec holds writes back while the disk syncs, and a kill loses them; no hands each to the system before its answer.
        options = ("--appendfsync", "no", "--repl-diskless-sync-delay", "0")
        server = ValkeyProcess(folder, *options, appendonly="yes")
        server.start()
        return server

    def at(self, server: ValkeyProcess) -> "redis.Redis":
        """Return a client straight to a server."""
        return redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    @property
    def store(self) -> "redis.Redis":
        """A client straight to the server that has the say now."""
        return self.at(self.server)

    def has_done(self, least: Mapping[str, float]) -> bool:
        """Return whether each of these faults has been done so often: a slow machine needs longer for them."""
        return all(self.done[fault] >= count for fault, count in least.items())

    def await_workers(self) -> None:
        """Wait until all work: groups begin where their trigger was registered."""
        while self.store.zcard(keys.workers()) < len(self.workers):
            time.sleep(0.02)

    def spawn(self) -> int:
        assert self.hive.stdin is not None
        assert self.hive.stdout is not None
        self.hive.stdin.write("spawn\n")
        self.hive.stdin.flush()
        return int(self.hive.stdout.readline())

    def signal(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.done["already gone"] += 1

    # -- the plan ----------------------------------------------------------------------------------------------------

    def strike(self) -> None:
        """Do one bad thing; end those whose time is over."""
        self.strikes += 1
        now = time.monotonic()
        for pid, until in list(self.stopped.items()):
            if now >= until:
                self.go_on(pid)
                del self.stopped[pid]
        if self.words_until is not None and now >= self.words_until:
            self.mend_words()
        if self.strikes % self._server_kills == 0:
            self.kill_server()
            return
        each = self._each_first.pop() if self._each_first else None
        what = each or self.random.choices([*self.faults], weights=[*self.faults.values()])[0]
        self.ways()[what]()

    def ways(self) -> "dict[str, Callable[[], None]]":
        """Return how each fault is done."""
        return {
            "kill": self.kill_worker,
            "stop past the lease": self.stop_worker,
            "error words": self.say_words,
            "role swap": self.swap_roles,
            "key deletion": self.delete_key,
        }

    def kill_worker(self) -> None:
        place = self.random.randrange(len(self.workers))
        self.signal(self.workers[place], signal.SIGKILL)
        self.stopped.pop(self.workers[place], None)
        self.workers[place] = self.spawn()
        self.done["kill"] += 1

    def stop_worker(self) -> None:
        victim = self.random.choice(self.workers)
        if victim not in self.stopped and len(self.stopped) < 2:
            self.signal(victim, signal.SIGSTOP)
            self.stopped[victim] = time.monotonic() + self.random.uniform(1.2, 2.4) * self.lease_s
            self.done["stop past the lease"] += 1

    def kill_server(self) -> None:
        self.server.kill()
        time.sleep(self.random.uniform(0, 0.1))
        self.server.start()
        self.done["server kill"] += 1

    def say_words(self) -> None:
        """Answer a share of all commands with error words for a while, seldom for long."""
        assert self.proxy is not None
        if self.words_until is None:
            self.proxy.refuse(WORDS, share=REFUSED_SHARE)
            seconds = self.random.uniform(0.2, 1.2) if self.random.random() < 0.9 else self.random.uniform(3, 6)
            self.words_until = time.monotonic() + seconds
            self.done["burst of error words"] += 1

    def mend_words(self) -> None:
        assert self.proxy is not None
        self.proxy.mend()
        self.words_until = None

    def swap_roles(self) -> None:
        """Let the replica be the primary and the other way round: planned, so that nothing answered is lost.

        Writes are paused until the replica has all; connections stay with the old primary, which refuses writes from
        then on. One time in three they break instead, as when it is restarted.
        """
        assert self.replica is not None
        assert self.proxy is not None
        old, new = self.at(self.server), self.at(self.replica)
        if not within(20, lambda: new.info("replication")["master_link_status"] == "up"):
            self.done["role swap put off"] += 1
            return
        old.client_pause(20_000, all=False)
        offset = old.info("replication")["master_repl_offset"]
        while new.info("replication")["slave_repl_offset"] < offset:
            time.sleep(0.002)
        assert old.info("replication")["master_repl_offset"] - offset < 100, "a paused server took writes"
        new.replicaof("NO", "ONE")
        self.proxy.point(self.replica.port, keep_open=self.random.random() < 0.67)
        old.replicaof("127.0.0.1", str(self.replica.port))
        old.client_unpause()
        self.server, self.replica = self.replica, self.server
        self.done["role swap"] += 1

    def delete_key(self) -> None:
        """Delete a key of each of three kinds that there are some of."""
        store = self.store
        there = sorted(store.scan_iter(count=5_000))
        left = 3
        for kind, pattern in self.random.sample(self._deletable, len(self._deletable)):
            found = [key for key in there if pattern.fullmatch(key)]
            if left and found and store.delete(self.random.choice(found)):
                self.done[f"deleted {kind}"] += 1
                left -= 1

    # -- afterwards --------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Do nothing bad from now on."""
        for pid in self.stopped:
            self.go_on(pid)
        self.stopped.clear()
        if self.words_until is not None:
            self.mend_words()

    def go_on(self, pid: int) -> None:
        self.resumed.append((pid, time.time() * 1000))
        self.signal(pid, signal.SIGCONT)

    def is_stray(self, pid: int, at: float) -> bool:
        """A worker stopped between its look at the lease and its body's first line goes on with that line: one body a
        stop, whose result is refused."""
        return any(pid == one and 0 <= at - since < 100 for one, since in self.resumed)

    def close(self) -> None:
        for pid in self.workers:
            self.signal(pid, signal.SIGKILL)
        if self.hive.stdin is not None:
            self.hive.stdin.close()
        self.hive.wait(PATIENT_S)
        if self.hive.stdout is not None:
            self.hive.stdout.close()
        if self.proxy is not None:
            self.proxy.end()
        for server in (self.server, self.replica):
            if server is not None:
                server.__exit__()


@contextlib.contextmanager
def raging(folder: Path, *words: str, **options: object) -> Generator[Storm]:
    """A storm that is closed at the end."""
    storm = Storm(folder, *words, **options)  # type: ignore[arg-type]
    try:
        yield storm
    finally:
        storm.close()


def within(seconds: float, look: Callable[[], object]) -> bool:
    """Look until what is seen is true; return whether it was in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if look():
                return True
        except (redis.RedisError, KeyError):
            pass
        time.sleep(0.02)
    return False
