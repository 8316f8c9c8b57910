"""One server, one worker and one application in processes of their own, for `python -m bench.remote`."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from stepstream.bus.process.ports import free_port
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

HERE = Path(__file__).parent
HOME = HERE.parent / "build" / "sdk"
APPS = {
    "py": ("Python SDK 0.5.19", [HOME / "py/bin/python", HERE / "sdk/app.py"]),
    "ts": ("TypeScript SDK 4.24.0", ["node", HERE / "sdk/app.mjs", HOME / "v4.24.0"]),
}
ENVIRON = {**os.environ, "NODE_ENV": "production"}
STARTS_WITHIN_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"


def missing(app: str) -> bool:
    """Whether the SDK of an application is not installed: `make sdk` does that."""
    return not any(HOME.glob(f"{'py' if app == 'py' else 'v4.24.0'}/.installed-*"))


def cpu_s(pid: int) -> float:
    """Return the CPU that a process has taken, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def started(app: str, port: int, environ: dict[str, str], log: Path | None = None) -> "subprocess.Popen[bytes]":
    """Start an application at a port."""
    return _begun([*APPS[app][1], port], environ, log or Path(os.devnull))


def _begun(command: list[object], environ: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as out:
        return subprocess.Popen([*map(str, command)], env=environ, stdout=out, stderr=out)


class Broken(Exception):
    """A process has ended, or what it was to do has not come: the bench has no result."""


class Installation:
    """A server, a worker, and one application. What they write is in a folder, and told when one of them ends."""

    def __init__(self, url: str, app: str, folder: Path) -> None:
        self.app = app
        self.port, site_port = free_port(), free_port()
        self.site = f"http://127.0.0.1:{site_port}"
        self._folder = folder
        environ = {
            **ENVIRON,
            "BUS_REDIS_URL": url,
            "INNGEST_DEV": self.site,
            "BUS_LOG_LEVEL": "error",
        }
        bus = [sys.executable, "-m", "stepstream"]
        commands: dict[str, list[object]] = {
            "serve": [*bus, "serve", "--port", site_port],
            "worker": [*bus, "worker", "--remote", "--concurrency", 1_000],
        }
        self.processes = {name: _begun(command, environ, folder / name) for name, command in commands.items()}
        self.processes["app"] = started(app, self.port, environ, folder / "app")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()

    async def until(self, what: str, within_s: float, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is so; Broken when a process ends, or when it is not so in time."""
        began = time.monotonic()
        while not await is_so():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Broken(f"{name} of {self.app} has ended with {process.returncode}:\n{self._told(name)}")
            if time.monotonic() - began > within_s:
                told = "".join(f"\n-- {name}:\n{self._told(name)}" for name in self.processes)
                raise Broken(f"{what}: not within {within_s:.0f} s{told}")
            await asyncio.sleep(0.01)

    def _told(self, name: str) -> str:
        return (self._folder / name).read_text(errors="replace")[-2_000:]

    async def ready(self, http: httpx2.AsyncClient, wire: Wire) -> None:
        """Wait until all are up and the functions have their worker."""
        url = f"http://127.0.0.1:{self.port}/api/inngest"

        async def registered() -> bool:
            with contextlib.suppress(httpx2.HTTPError):
                return (await http.put(url, json={"url": url})).status_code == 200
            return False

        async def worked_on() -> bool:
            return bool(await wire.call("EXISTS", keys.function_workers(f"bench-{self.app}-five", "00")))

        await self.until("the application registers", STARTS_WITHIN_S, registered)
        await self.until("the worker follows it", STARTS_WITHIN_S, worked_on)

    def cpu(self) -> dict[str, float]:
        """Return the CPU that each process has taken, s."""
        return {name: cpu_s(process.pid) for name, process in self.processes.items()}

    def threads(self) -> int:
        """Return how many threads the worker has."""
        return len(os.listdir(f"/proc/{self.processes['worker'].pid}/task"))

    def connections(self) -> int:
        """Return how many connections to the application are open."""
        port = f":{self.port:04X}"
        found = 0
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{self.processes['app'].pid}/net/{table}").read_text().splitlines()[1:]
            found += sum(row.split()[1].endswith(port) and row.split()[3] == _ESTABLISHED for row in rows)
        return found
