"""What functions behind HTTP do in a second, with the official SDKs: `python -m bench.remote` after `make sdk`.

One `bus serve`, one `bus worker --remote`, one process of the application, all on one machine. The floor is a bare
echo over HTTP of a call's size, by the same client: nothing that calls an application can be faster. An SDK's own work
for a call is in the figures; the CPU that each process took for a run says where the time goes. Of TypeScript, `five`
has the default options (a step is saved as soon as it has run: one call and five saves a run), `buffered` has
`checkpointing: { bufferedSteps: 10 }` (one call, whose answer has all steps). What an SDK can do at most is measured,
too: the same application, called by a loop that keeps nothing and answers at once (bench/caller.py). More than that
nobody gets out of one process of it.
"""

import argparse
import asyncio
import contextlib
import json
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

from bench.caller import Caller
from bench.installation import APPS, ENVIRON, Broken, Installation, cpu_s, missing
from stepstream.bus.process.ports import free_port
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.remote.calls.client import Client
from stepstream.web.dev.embedded import embedded

AT_ONCE = 100
WITHIN_S = 180.0
CALL_BYTES = 1_200
"""About the size of a call of the third step of five."""
WARM = 50
SLEEPERS = CALLS = 1_000
WATCHED_S = 3.0
PARTS = ("five", "buffered", "now", "asleep", "slow")
console = Console()
Row = tuple[str, str, str]
OF_FIVE = ("five", "buffered")
"""The measurements of runs of five steps."""


def say(what: str) -> None:
    """Tell what is under way, on standard error: standard output has the table."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def _echo() -> AsyncGenerator[str]:
    """Serve an echo in a process of its own, as an application is."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.remote", "--echo", str(port)])
    url = f"http://127.0.0.1:{port}/"
    try:
        async with asyncio.timeout(60), httpx2.AsyncClient() as http:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    await http.post(url, content=b"{}")
                    break
                if process.poll() is not None:
                    raise Broken("the echo has ended")
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


async def floor(count: int) -> tuple[float, float]:
    """Return calls a second of an echo, a hundred at once, by the client that calls applications; its CPU a call, s."""
    body = json.dumps({"data": "x" * CALL_BYTES}).encode()
    headers = {"content-type": "application/json"}
    async with _echo() as url:
        client = Client(Settings())

        async def some() -> None:
            for _ in range(max(1, count // AT_ONCE)):
                await client.call(url, body, headers)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await client.close()
    called = AT_ONCE * max(1, count // AT_ONCE)
    return called / took, cpu / called


class Measured:
    """The measurements of one SDK; `most` is how many runs of each function it can do in a second."""

    def __init__(self, installed: Installation, http: httpx2.AsyncClient, wire: Wire, most: dict[str, float]) -> None:
        self.installed, self.http, self.wire, self.most = installed, http, wire, most

    def _slug(self, name: str) -> str:
        return f"bench-{self.installed.app}-{name}"

    async def publish(self, name: str, data: list[dict[str, Any]]) -> None:
        """Publish events for one function."""
        events = [{"name": f"bench-{self.installed.app}/{name}", "data": one} for one in data]
        (await self.http.post(f"{self.installed.site}/e/bench", json=events)).raise_for_status()

    async def count(self, name: str, status: str) -> int:
        """Return how many runs of a function there are."""
        return int(await self.wire.call("ZCARD", keys.runs(self._slug(name), status)))

    async def _until(self, name: str, status: str, count: int) -> None:
        async def are() -> bool:
            return await self.count(name, status) >= count

        await self.installed.until(f"{count} runs of {name} are {status}", WITHIN_S, are)

    async def rate(self, name: str, count: int) -> Row:
        """Return how many runs of five steps end in a second."""
        await self.publish(name, [{}] * WARM)
        await self._until(name, "completed", WARM)
        redis = int(str(await self.wire.call("INFO", "server")).partition("process_id:")[2].partition("\\r")[0])
        before = {**self.installed.cpu(), "redis": cpu_s(redis)}
        began = time.perf_counter()
        await self.publish(name, [{}] * count)
        await self._until(name, "completed", WARM + count)
        rate = count / (time.perf_counter() - began)
        after = {**self.installed.cpu(), "redis": cpu_s(redis)}
        cpu = {one: (after[one] - before[one]) / count * 1_000 for one in before}
        of_each = ", ".join(f"{one} {ms:.1f}" for one, ms in cpu.items())
        beside = f"{rate / self.most[name]:.0%} of the SDK's most; CPU a run: {sum(cpu.values()):.1f} ms: {of_each}"
        return f"runs of five steps ({name})", f"{rate:,.0f}/s", beside

    async def latency(self) -> Row:
        """Return how long it takes from a publish to the first line of the function."""
        for _ in range(sent := 200):
            await self.publish("now", [{"sent": time.time() * 1_000}])
            await asyncio.sleep(0.05)
        await self._until("now", "completed", sent)
        runs = await self.wire.call("ZRANGE", keys.runs(self._slug("now"), "completed"), 0, -1)
        took = [
            float(await self.wire.call("HGET", keys.run(self._slug("now"), one.decode()), "output")) for one in runs
        ]
        cuts = statistics.quantiles(took, n=100)
        return "publish to the first line, 20 events/s", f"p50 {cuts[49]:.1f} ms", f"p99 {cuts[98]:.1f} ms"

    async def sleepers(self) -> Row:
        """Return what runs cost that are asleep: connections that are open, and CPU."""
        await self.publish("asleep", [{}] * SLEEPERS)
        await self._until("asleep", "waiting", SLEEPERS)

        async def none_open() -> bool:
            return not self.installed.connections()

        await self.installed.until("no connection to the application is open", 60, none_open)
        before, most = self.installed.cpu(), 0
        until = time.monotonic() + WATCHED_S
        while time.monotonic() < until:
            most = max(most, self.installed.connections())
            await asyncio.sleep(0.01)
        after = self.installed.cpu()
        of_each = ", ".join(f"{one} {(after[one] - before[one]) / WATCHED_S:.1%}" for one in ("worker", "app"))
        return f"{SLEEPERS:,} runs asleep", f"{most} connections", f"CPU of one core: {of_each}"

    async def open_calls(self) -> Row:
        """Return how many calls are open at once, and how many threads the worker has then."""
        await self.publish("slow", [{"seconds": 5}] * CALLS)
        most = threads = 0

        async def ended() -> bool:
            nonlocal most, threads
            most = max(most, await self.count("slow", "running"))
            threads = max(threads, self.installed.threads())
            return await self.count("slow", "completed") >= CALLS

        await self.installed.until(f"{CALLS} slow calls end", WITHIN_S, ended)
        return f"{CALLS:,} calls of 5 s", f"{most} open at once", f"{threads} threads of the worker"

    async def part(self, name: str, count: int) -> Row:
        """Return one row."""
        if name in OF_FIVE:
            return await self.rate(name, count)
        return await {"now": self.latency, "asleep": self.sleepers, "slow": self.open_calls}[name]()


async def most_of(app: str, count: int, parts: list[str]) -> tuple[dict[str, float], list[Row]]:
    """Return how many runs of each function of five steps an SDK ends in a second, and the rows that say so."""
    most: dict[str, float] = {}
    rows: list[Row] = []
    async with Caller(app, ENVIRON) as caller:
        for name in parts:
            say(f"{app}: {name}, called by a bare loop")
            most[name], cpu = await caller.rate(name, count, WARM, AT_ONCE)
            beside = f"CPU of the application: {cpu * 1_000:.1f} ms a run"
            rows.append((f"the SDK's most, called by a bare loop ({name})", f"{most[name]:,.0f}/s", beside))
            say("   " + ", ".join(rows[-1]))
    return most, rows


async def measure(app: str, count: int, parts: list[str]) -> list[Row]:
    """Return the rows of one SDK."""
    parts = [name for name in parts if name != "buffered" or app == "ts"]
    most, rows = await most_of(app, count, [name for name in parts if name in OF_FIVE])
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        wire = Wire(Settings(redis_url=server.url), "bench")
        try:
            async with httpx2.AsyncClient(timeout=60) as http, Installation(server.url, app, Path(folder)) as installed:
                say(f"{app}: a server, a worker and the application start")
                await installed.ready(http, wire)
                measured = Measured(installed, http, wire, most)
                for name in parts:
                    say(f"{app}: {name}")
                    rows.append(await measured.part(name, count))
                    say("   " + ", ".join(rows[-1]))
        finally:
            await wire.close()
    return rows


async def main(count: int, apps: list[str], parts: list[str]) -> None:
    """Measure and print."""
    say("floor: an echo over HTTP")
    calls, cpu = await floor(count * 6)
    table = Table("what", "how much", "beside", title="functions behind HTTP")
    table.add_row(
        f"floor: echo of {CALL_BYTES} bytes, {AT_ONCE} at once",
        f"{calls:,.0f} calls/s",
        f"CPU of the client: {cpu * 1_000:.2f} ms a call",
    )
    for app in apps:
        if missing(app):
            table.add_row(APPS[app][0], "NOT RUN", "make sdk installs it")
            continue
        for row in await measure(app, count, parts):
            table.add_row(f"{APPS[app][0]}: {row[0]}", *row[1:])
    console.print(table)


def _serve_echo(port: int) -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    uvicorn.run(Starlette(routes=[Route("/", echo, methods=["POST"])]), port=port, log_level="critical")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: a thousand runs of each SDK")
    parser.add_argument("--app", action="append", choices=list(APPS), help="of one SDK only; may be given again")
    parser.add_argument("--only", action="append", choices=PARTS, help="one measurement only; may be given again")
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.echo:
        _serve_echo(given.echo)
    else:
        try:
            uvloop.run(main(int(1_000 * given.scale), given.app or list(APPS), given.only or list(PARTS)))
        except KeyboardInterrupt:
            sys.exit(130)
        except Broken as error:
            sys.exit(f"no result: {error}")
