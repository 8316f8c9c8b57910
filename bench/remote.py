"""What functions behind HTTP do in a second, with the official SDKs: `make bench-remote`.

One `bus serve`, one `bus worker --remote`, one process of the application, all on one machine. The floor is a bare
echo over HTTP of a call's size, by the same client: nothing that calls an application can be faster. An SDK's own work
for a call is in the figures; the CPU that each process took for a run says where the time goes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import uvloop
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.remote.client import Client
from stepstream.web.dev.embedded import embedded

HERE = Path(__file__).parent
HOME = HERE.parent / "build" / "sdk"
APPS = {"py": ("Python SDK 0.5.19", [HOME / "py/bin/python", HERE / "sdk/app.py"]),
        "ts": ("TypeScript SDK 4.24.0", ["node", HERE / "sdk/app.mjs", HOME / "v4.24.0"])}  # fmt: skip
AT_ONCE = 100
WITHIN_S = 120.0
CALL_BYTES = 1_200
"""About the size of a call of the third step of five."""
console = Console()
_TICKS = os.sysconf("SC_CLK_TCK")


def _cpu(process: "subprocess.Popen[bytes]") -> float:
    """Return the CPU that a process has taken, s."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Installation:
    """A server, a worker, and one application."""

    def __init__(self, url: str, app: str) -> None:
        self.app = app
        self.port, self.site_port = _free_port(), _free_port()
        self.site = f"http://127.0.0.1:{self.site_port}"
        environ = {**os.environ, "BUS_REDIS_URL": url, "INNGEST_DEV": self.site, "BUS_LOG_LEVEL": "error"}
        bus = [sys.executable, "-m", "stepstream"]
        self.processes = {
            name: subprocess.Popen(
                [*map(str, command)], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for name, command in {
                "serve": [*bus, "serve", "--port", self.site_port],
                "worker": [*bus, "worker", "--remote", "--concurrency", 1_000],
                "app": [*APPS[app][1], self.port],
            }.items()
        }

    async def ready(self, http: httpx2.AsyncClient, wire: Wire) -> None:
        """Wait until all are up and the functions have their worker."""
        url = f"http://127.0.0.1:{self.port}/api/inngest"
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    await http.get(f"{self.site}/health")
                    if (await http.put(url, json={"url": url})).status_code == 200:
                        break
                await asyncio.sleep(0.1)
            while not await wire.call("EXISTS", keys.function_workers(f"bench-{self.app}-five", "00")):
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """End all."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


async def _ended(wire: Wire, slug: str, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await wire.call("ZCARD", keys.runs(slug, "completed")) < count:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _echo() -> AsyncGenerator[str]:
    """Serve an echo in a process of its own, as an application is."""
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.remote", "--echo", str(port)])
    url = f"http://127.0.0.1:{port}/"
    try:
        async with httpx2.AsyncClient() as http:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    await http.post(url, content=b"{}")
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


async def floor(count: int) -> float:
    """Return calls a second of an echo, a hundred at once, by the client that calls applications."""
    body = json.dumps({"data": "x" * CALL_BYTES}).encode()
    headers = {"content-type": "application/json"}
    async with _echo() as url:
        client = Client(Settings())

        async def some() -> None:
            for _ in range(count // AT_ONCE):
                await client.call(url, body, headers)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        took = time.perf_counter() - began
        await client.close()
    return count / took


async def measure(app: str, count: int, calls: float) -> list[tuple[str, str, str]]:
    """Return the rows of one SDK; `calls` is the floor, in calls a second."""
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as url:
        wire = Wire(Settings(redis_url=url), "bench")
        installed = Installation(url, app)
        try:
            async with httpx2.AsyncClient(timeout=30) as http:
                await installed.ready(http, wire)

                async def publish(name: str, data: list[dict[str, Any]]) -> None:
                    events = [{"name": f"bench-{app}/{name}", "data": one} for one in data]
                    (await http.post(f"{installed.site}/e/bench", json=events)).raise_for_status()

                await publish("five", [{}] * 50)
                await _ended(wire, f"bench-{app}-five", 50)
                before = {name: _cpu(process) for name, process in installed.processes.items()}
                began = time.perf_counter()
                await publish("five", [{}] * count)
                await _ended(wire, f"bench-{app}-five", 50 + count)
                rate = count / (time.perf_counter() - began)
                cpu = {
                    name: (_cpu(process) - before[name]) / count * 1_000
                    for name, process in installed.processes.items()
                }
                of_each = ", ".join(f"{name} {ms:.1f} ms" for name, ms in cpu.items())
                rows.append(
                    (
                        "runs of five steps",
                        f"{rate:,.0f}/s",
                        f"{rate * 6 / calls:.2f} × six calls of the floor; CPU a run: {of_each}",
                    )
                )

                for _ in range(sent := 200):
                    await publish("now", [{"sent": time.time() * 1_000}])
                    await asyncio.sleep(0.05)
                await _ended(wire, f"bench-{app}-now", sent)
                runs = await wire.call("ZRANGE", keys.runs(f"bench-{app}-now", "completed"), 0, -1)
                took = [
                    float(await wire.call("HGET", keys.run(f"bench-{app}-now", run.decode()), "output")) for run in runs
                ]
                cuts = statistics.quantiles(took, n=100)
                rows.append(
                    ("publish to the first line, 20 events/s", f"p50 {cuts[49]:.1f} ms", f"p99 {cuts[98]:.1f} ms")
                )

                await publish("slow", [{"seconds": 5}] * 1_000)
                worker, most, threads = installed.processes["worker"], 0, 0
                async with asyncio.timeout(60):
                    while await wire.call("ZCARD", keys.runs(f"bench-{app}-slow", "completed")) < 1_000:
                        most = max(most, await wire.call("ZCARD", keys.runs(f"bench-{app}-slow", "running")))
                        threads = max(threads, len(os.listdir(f"/proc/{worker.pid}/task")))
                        await asyncio.sleep(0.1)
                rows.append(("1,000 calls of 5 s", f"{most} open at once", f"{threads} threads of the worker"))
        finally:
            installed.stop()
            await wire.close()
    return rows


async def main(count: int) -> None:
    """Measure and print."""
    calls = await floor(count * 6)
    table = Table("what", "how much", "beside", title="functions behind HTTP")
    table.add_row(f"floor: echo of {CALL_BYTES} bytes, {AT_ONCE} at once", f"{calls:,.0f} calls/s", "")
    for app, (name, _) in APPS.items():
        if not (HOME / ("py/bin/python" if app == "py" else "v4.24.0/package.json")).exists():
            table.add_row(name, "NOT RUN", "make sdk installs it")
            continue
        for row in await measure(app, count, calls):
            table.add_row(f"{name}: {row[0]}", *row[1:])
    console.print(table)


def _serve_echo(port: int) -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    uvicorn.run(Starlette(routes=[Route("/", echo, methods=["POST"])]), port=port, log_level="critical")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: a thousand runs of each SDK")
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.echo:
        _serve_echo(given.echo)
    else:
        uvloop.run(main(int(1_000 * given.scale)))
