"""A whole installation for one SDK: a server, `bus serve`, `bus worker --remote`, and the SDK's application, as processes."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App, app_of
from stepstream.checkpoint.read.lists.runs import list_runs, whole
from stepstream.checkpoint.read.run.steps import steps
from stepstream.checkpoint.run.record import Run
from stepstream.consumers.remote.functions import RemoteBus, bus_of
from tests import support
from tests.forks import Forked
from tests.sdk.sdks import HERE, NODE_SDKS, home
from tests.support import ValkeyProcess, WorkerProcess, free_port, journal

APP = "matrix"
R = TypeVar("R")
WITHIN_S = 120.0
"""How long something may take that usually takes a second: a slow machine is no fault."""
KEYS = "+keys"
"""What the name of an installation ends with that has keys."""
NEWER, KEY, OLDER, FOREIGN = (f"signkey-test-{digit * 64}" for digit in "abcd")
"""Signing keys. An installation with keys has KEY, and still OLDER; what an application has in their place is its own."""
EVENT_KEY = "event-key-1"


def until(look: Callable[[], R], what: str, within_s: float = WITHIN_S) -> R:
    """Wait for what usually takes a moment, and on a slow machine longer."""
    return support.until(look, what, within_s)


class AppProcess:
    """The application of one SDK, to be killed and started again at the same place."""

    cwd: Path | None = None

    def __init__(self, sdk: str, folder: Path, server: str, environ: Mapping[str, str] | None = None) -> None:
        self.sdk = sdk
        self.port = free_port()
        self.journal = folder / "journal"
        self.log = folder / "app.log"
        self._environ = {
            **os.environ, "PORT": str(self.port), "INNGEST_DEV": server, "JOURNAL": str(self.journal), "NODE_ENV": "development",
            "PYTHONDONTWRITEBYTECODE": "1", **(environ or {}),
        }  # fmt: skip
        self.changed = dict[str, str]()
        """What it was started with in place of its own."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/inngest"

    @property
    def streaming_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/streaming"

    @property
    def urls(self) -> list[str]:
        """Where its applications register from."""
        return [self.url, self.streaming_url]

    def command(self) -> list[str]:
        """Return what starts it."""
        if self.sdk in NODE_SDKS:
            return ["node", str(HERE / "js" / "app.mjs"), str(home(self.sdk)), str(self.port), str(self.journal)]
        uvicorn = str(home(self.sdk) / "bin" / "uvicorn")
        return [uvicorn, "app:app", "--app-dir", str(HERE / "py"), "--port", str(self.port), "--log-level", "warning"]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.cwd, env=self._environ | self.changed, stdout=log, stderr=log
            )
        until(self._answers, f"{self.sdk} answers; its log: {self.log}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx2.get(self.url, timeout=5).status_code > 0
        except httpx2.HTTPError:
            return False

    def restart(self, **environ: str) -> None:
        """End it, and start it with what differs in its environment."""
        self.kill()
        self.changed = environ
        self.start()

    def register(self, path: str = "") -> httpx2.Response:
        """Let it register, as a deploy does."""
        return httpx2.put(path or self.url, timeout=60, trust_env=False)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Stack:
    """All of it, and what a test asks of it."""

    app_id = APP

    def __init__(self, installed: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.sdk = sdk = installed.removesuffix(KEYS)
        self.has_keys = installed != sdk
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.valkey = ValkeyProcess(folder)
        self.environ, given = dict(environ or {}), dict[str, str]()
        headers = dict[str, str]()
        if self.has_keys:
            self.environ |= {
                "BUS_SIGNING_KEY": KEY, "BUS_SIGNING_KEY_FALLBACK": OLDER, "BUS_EVENT_KEYS": EVENT_KEY,
                "BUS_APP_HOSTS": "localhost",
            }  # fmt: skip
            given = {
                "INNGEST_DEV": "0", "INNGEST_BASE_URL": self.url, "INNGEST_SIGNING_KEY": KEY,
                "INNGEST_EVENT_KEY": EVENT_KEY, "NODE_ENV": "production",
            }  # fmt: skip
            headers = {"authorization": f"Bearer {KEY}"}
        self.app = AppProcess(sdk, folder, self.url, given)
        self.http = httpx2.Client(base_url=self.url, timeout=60, trust_env=False, headers=headers)
        self._loop = asyncio.Runner()
        self._wire = self._loop.run(self._connected())
        self.site: Forked | None = None
        self.worker: WorkerProcess | None = None

    @property
    def is_python(self) -> bool:
        return self.sdk == "py"

    @property
    def saves(self) -> bool:
        """Whether the SDK saves steps while a call is open."""
        return self.sdk.startswith("v4")

    @property
    def is_early(self) -> bool:
        """Whether the SDK is asked again as soon as one of several steps has ended."""
        return self.sdk.startswith("v3")

    def start(self) -> None:
        """Start all, and register the application."""
        self.valkey.start()
        self.start_site()
        self.app.start()
        self.start_worker()
        for url in self.app.urls:
            answer = self.app.register(url)
            assert answer.status_code == 200, (answer.text, self.tail())

    @property
    def given(self) -> dict[str, str]:
        """The environment of a `bus` command."""
        return {**os.environ, "BUS_REDIS_URL": self.valkey.url, **self.environ}

    async def _connected(self) -> Wire:
        return Wire(Settings(redis_url=self.valkey.url), "tests")

    def start_site(self) -> None:
        given = self.given | {"BUS_LOG_FORMAT": "json"}
        log = self.folder / "serve.log"
        self.site = Forked("serve", "--port", str(self.port), env=given, err=log, out=log)
        until(self._listens, "bus serve answers")

    def start_worker(self) -> WorkerProcess:
        """Start another worker."""
        log = self.folder / "worker.log"
        self.worker = WorkerProcess("--remote", self.valkey.url, log=log, environ=self.environ)
        return self.worker

    def _listens(self) -> bool:
        assert self.site is not None
        assert self.site.poll() is None, (self.folder / "serve.log").read_text()
        try:
            return self.http.get("/health").status_code == 200
        except httpx2.HTTPError:
            return False

    def stop(self) -> None:
        """End all of it."""
        self.http.close()
        self._loop.run(self._wire.close())
        self._loop.close()
        self.app.kill()
        if self.worker is not None:
            self.worker.kill()
        if self.site is not None:
            self.site.kill()
            self.site.wait(10)
        if self.valkey.process is not None:
            self.valkey.kill()

    # -- what tests ask ---------------------------------------------------------------------------------------------

    def send(self, name: str, data: dict[str, Any] | None = None, **more: Any) -> str:
        """Publish an event; return its id."""
        return self.send_all({"name": name, "data": data or {}, **more})[0]

    def send_all(self, *events: dict[str, Any]) -> list[str]:
        answer = self.http.post(f"/e/{EVENT_KEY}", json=list(events))
        assert answer.status_code == 200, answer.text
        return answer.json()["ids"]

    def runs(self, function: str, app: str = "") -> list[dict[str, Any]]:
        """Return the runs of a function, oldest first."""

        async def look() -> list[Run]:
            slug = f"{app or self.app_id}-{function}"
            return await whole(self._wire, (await list_runs(self._wire, [slug], limit=1_000)).runs)

        found = codec.decode(codec.encode(self._loop.run(look())))
        return [{"output": None, "error": None, **run} for run in reversed(found)]

    def steps(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the steps of a run."""
        found = codec.decode(codec.encode(self._loop.run(steps(self._wire, run["function"], run["id"]))))
        return {one["id"]: one for one in found}

    def ended(
        self, function: str, data: dict[str, Any], count: int = 1, app: str = "", within: float = WITHIN_S
    ) -> list[dict[str, Any]]:
        """Wait until as many runs have ended whose event has this data."""

        def look() -> list[dict[str, Any]] | None:
            found = self.of(function, data, app)
            over = [run for run in found if run["status"] in {"completed", "failed", "cancelled", "skipped"}]
            return over if len(over) >= count else None

        try:
            return until(look, f"{count} ended runs of {function}", within) or []
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.of(function, data, app)} {self.tail()}") from None

    def of(self, function: str, data: dict[str, Any], app: str = "") -> list[dict[str, Any]]:
        """Return the runs whose event has this data."""
        return [run for run in self.runs(function, app) if data.items() <= run["event"]["data"].items()]

    def output(self, function: str, data: dict[str, Any], app: str = "") -> Any:
        """Wait for the one run to complete; return what it returned."""
        run = self.ended(function, data, app=app)[0]
        assert run["status"] == "completed", (run, self.tail())
        return run["output"]

    def status(self, function: str, data: dict[str, Any], status: str) -> dict[str, Any]:
        """Wait until a run has a status."""

        def look() -> dict[str, Any] | None:
            return next((run for run in self.of(function, data) if run["status"] == status), None)

        found = until(look, f"a run of {function} is {status}")
        assert found is not None
        return found

    def step(self, run: dict[str, Any], step: str, state: str) -> dict[str, Any]:
        """Wait until a step is in a state."""

        def look() -> dict[str, Any] | None:
            found = self.steps(run).get(step)
            return found if found is not None and found["state"] == state else None

        found = until(look, f"step {step} of {run['function']} {run['id']} is {state}")
        assert found is not None
        return found

    def lines(self, **having: Any) -> list[dict[str, Any]]:
        """Return the lines of the journal that have this."""
        return [line for line in journal(self.app.journal) if having.items() <= line.items()]

    def calls(self, run: str, least: int = 1) -> list[dict[str, Any]]:
        """Return the calls of a run, in the order of their ends; an application notes one after it has answered it."""

        def ended() -> list[dict[str, Any]]:
            return [line for line in self.lines(run=run) if "call" in line]

        until(lambda: len(ended()) >= least, f"{least} calls of {run} have ended")
        return ended()

    def told(self, runs: set[str]) -> set[str]:
        """Return the operations that the SDK has told of in some runs."""
        return {one for line in self.lines() if "ops" in line and line["run"] in runs for one in line["ops"]}

    def registered(self) -> App:
        """Return the application as it is registered."""
        found = self._loop.run(app_of(self._wire, APP))
        assert found is not None
        return found

    def configs(self) -> list[dict[str, Any]]:
        """Return the functions as the SDK has registered them."""
        return list(self.registered().functions.values())

    def bus(self) -> RemoteBus:
        """Return the functions as the bus has understood them."""
        return bus_of(self.registered())

    def tail(self) -> str:
        """Return the ends of the logs."""
        logs = (self.app.log, self.folder / "worker.log", self.folder / "serve.log")
        return "\n".join(f"-- {log.name}\n{log.read_text()[-1_500:]}" for log in logs if log.exists())
