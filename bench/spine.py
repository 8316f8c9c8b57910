"""What the spine does in a second, beside the raw floor of the same server: `make bench`.

One worker process, the server with its append-only file at everysec, the status page open, all on one machine: the
ratios say more than the rates. The floor is XADD → XREADGROUP → XACK on the same pipelined connection, with no state
kept.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.open_page import open_page
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.wire import Wire
from stepstream.web.dev.embedded import embedded

BATCH = 1_000
IN_TURN = 100
WITHIN_S = 120.0
console = Console()


class Bench:
    """One server, one wire, one worker process at a time."""

    def __init__(self, wire: Wire, url: str) -> None:
        self.wire = wire
        self.url = url
        self.rows: list[tuple[str, str, str, str]] = []

    def row(self, what: str, rate: float, floor: float | None = None, more: str = "") -> None:
        """Add a row of the table."""
        self.rows.append((what, f"{rate:,.0f}/s", f"{rate / floor:.2f} ×" if floor else "", more))

    async def worker(self, *environ: str) -> asyncio.subprocess.Process:
        """Start a worker and wait until it works."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stepstream", "worker", "bench.app:app",
            env={**os.environ, "BUS_REDIS_URL": self.url, **dict(one.split("=", 1) for one in environ)},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        while b" works on " not in await process.stderr.readline():
            pass
        return process

    async def publish(self, name: str, count: int) -> float:
        """Publish events in lists of a thousand; return how many a second."""
        began = time.perf_counter()
        for start in range(0, count, BATCH):
            await app.publish([NewEvent(name, {"n": start + n}) for n in range(min(BATCH, count - start))])
        return count / (time.perf_counter() - began)

    async def runs(self, function: str, count: int) -> float:
        """Let a fresh worker do what is published; return how many runs a second, once it is up to speed."""
        process = await self.worker()
        index = keys.runs(f"bench-{function}", "completed")
        done, marks = 0, []
        until = time.monotonic() + WITHIN_S
        while done < count and time.monotonic() < until:
            done = await self.wire.call("ZCARD", index)
            marks.append((time.perf_counter(), done))
            await asyncio.sleep(0.01)
        process.terminate()
        await process.wait()
        begun = next((at, n) for at, n in marks if n > count // 20)
        return (marks[-1][1] - begun[1]) / (marks[-1][0] - begun[0])


async def floor(bench: Bench, count: int) -> tuple[float, float]:
    """Return entries a second through XADD alone, and through XREADGROUP and XACK."""
    call = bench.wire.call
    data = b'{"n":12345}'
    await call("XGROUP", "CREATE", "floor", "g", "$", "MKSTREAM")
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        await asyncio.gather(
            *(
                call("XADD", "floor", "*", "id", f"{start + n:026}", "name", "bench/noop", "data", data)
                for n in range(BATCH)
            )
        )
    added = count / (time.perf_counter() - began)
    began = time.perf_counter()
    done = 0
    while done < count:
        reply = await call("XREADGROUP", "GROUP", "g", "c", "COUNT", 100, "STREAMS", "floor", ">")
        ids = [entry for entry, _ in reply[0][1]]
        await call("XACK", "floor", "g", *ids)
        done += len(ids)
    return added, count / (time.perf_counter() - began)


async def floor_latency(bench: Bench, reader: Pipe, count: int) -> list[float]:
    """Return ms from XADD to the reader's hands, blocked in XREADGROUP, at 100 a second."""
    took: list[float] = []

    async def read() -> None:
        while len(took) < count:
            reply = await reader.call(
                "XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 4000, "STREAMS", "floor2", ">"
            )
            took.append((time.monotonic() - float(reply[0][1][0][1][1])) * 1_000)
            bench.wire.tell("XACK", "floor2", "g", reply[0][1][0][0])

    reading = asyncio.create_task(read())
    for _ in range(count):
        await asyncio.sleep(0.01)
        bench.wire.tell("XADD", "floor2", "*", "sent", repr(time.monotonic()))
    await reading
    return took


async def latency(bench: Bench, count: int) -> tuple[list[float], list[float]]:
    """Return ms of the floor, and ms from app.send to the handler's first line, at 100 a second.

    In turns, a second each: a machine that is slower for a while is slower for both.
    """
    process = await bench.worker()
    reader = bench.wire.pipe(extra_timeout=5)
    await bench.wire.call("XGROUP", "CREATE", "floor2", "g", "$", "MKSTREAM")
    low: list[float] = []
    for sent in range(0, count, IN_TURN):
        low += await floor_latency(bench, reader, min(IN_TURN, count - sent))
        for _ in range(min(IN_TURN, count - sent)):
            await asyncio.sleep(0.01)
            await app.send("bench/latency", {"sent": time.monotonic()})
    await reader.close()
    index = keys.runs("bench-latency", "completed")
    while await bench.wire.call("ZCARD", index) < count:
        await asyncio.sleep(0.05)
    process.terminate()
    await process.wait()
    runs = await bench.wire.call("ZRANGE", index, 0, -1)
    outputs = await asyncio.gather(
        *(bench.wire.call("HGET", keys.run("bench-latency", run.decode()), "output") for run in runs)
    )
    return low, [float(output) for output in outputs]


def _quantiles(took: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]


async def measure(url: str, scale: float) -> None:
    """Measure and print, with a page open."""
    async with open_page(url):
        await _measure(url, scale)


async def _measure(url: str, scale: float) -> None:
    wire = Wire(Settings(redis_url=url), "bench")
    bench = Bench(wire, url)
    app.connect(wire)
    n = int(20_000 * scale)
    registered = await bench.worker()  # groups begin where triggers were registered: before what is published
    registered.terminate()
    await registered.wait()
    with console.status("the floor") as status:
        adds, reads = await floor(bench, n)
        both = 1 / (1 / adds + 1 / reads)
        bench.row("floor: XADD, 1,000 in flight", adds)
        bench.row("floor: XREADGROUP 100 → XACK", reads)
        status.update("publishing")
        bench.row("app.send, lists of 1,000", await bench.publish("bench/noop", n), adds)

        async def one_by_one() -> None:
            for _ in range(n // 100):
                await app.send("bench/unheard", {"n": 1})

        began = time.perf_counter()
        await asyncio.gather(*(one_by_one() for _ in range(50)))
        bench.row("app.send, one by one, 50 at once", n // 100 * 50 / (time.perf_counter() - began), adds)
        for function, label, steps, share in (
            ("noop", "runs without a step", 1, 1.0),
            ("five", "runs of five steps: steps", 5, 0.5),
            ("parallel", "runs of ten parallel steps: steps", 10, 0.25),
            ("wait", "runs that await 10 ms, 100 at once", 1, 1.0),
        ):
            status.update(label)
            count = int(n * share)
            if function != "noop":
                await bench.publish(f"bench/{function}", count)
            bench.row(label, await bench.runs(function, count) * steps, both)
        status.update("latency")
        low, ours = await latency(bench, int(2_000 * scale))
    info: bytes = await wire.call("INFO", "server")
    await wire.close()
    _print(bench, _quantiles(low), _quantiles(ours), info.decode())


def _print(bench: Bench, low: tuple[float, float], ours: tuple[float, float], info: str) -> None:
    table = Table("what", "rate", "of the floor", box=None, pad_edge=False)
    for what, rate, ratio, _ in bench.rows:
        table.add_row(what, rate, ratio)
    console.print(table)
    late = Table("latency at 100 events/s", "p50", "p99", box=None, pad_edge=False)
    late.add_row("floor: XADD → blocked XREADGROUP", f"{low[0]:.2f} ms", f"{low[1]:.2f} ms")
    late.add_row("app.send → the handler's first line", f"{ours[0]:.2f} ms", f"{ours[1]:.2f} ms")
    late.add_row("of the floor", f"{ours[0] / low[0]:.1f} ×", f"{ours[1] / low[1]:.1f} ×")
    console.print(late)
    fields: dict[str, Any] = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    server = fields.get("server_name", "redis")
    version = fields.get("valkey_version") or fields.get("redis_version")
    console.print(f"{server} {version}, append-only everysec; Python {sys.version.split()[0]}, {os.cpu_count()} cores")


def on_own_server(measure: Callable[[str, float], Coroutine[Any, Any, None]], about: str | None) -> None:
    """Start a server of our own and measure on it, as the command line says."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--scale", type=float, default=1.0, help="how many times as many events")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(server.url, options.scale))


if __name__ == "__main__":
    on_own_server(measure, __doc__)
