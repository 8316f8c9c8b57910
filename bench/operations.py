"""What operations do in a second, and whom they delay: cancelling, and running again, many runs of one function.

One worker process carries the operation on and serves all functions; another function's events come at 100 a second
meanwhile. In one run with the floor (XADD, 1,000 in flight) of the same server: the ratios say more than the rates.
"""

import asyncio
import os
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.spine import Bench, floor, on_own_server
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.operations import Kind, Operation, operate, operation
from stepstream.checkpoint.read.lists.search import RunQuery

console = Console()
_EVERY_S = 0.01
_LOOKED_EVERY_S = 0.02


async def cpu(wire: Wire, pid: int) -> tuple[float, float]:
    """Return how many seconds the server and the worker have worked so far, whatever else the machine does."""
    info: bytes = await wire.call("INFO", "cpu")
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    server = float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])
    stat = (await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)).rpartition(")")[2].split()
    return server, (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


async def starts(wire: Wire, until: asyncio.Event) -> list[float]:
    """Begin runs of another function at 100 a second until told; return ms from app.send to the first line of each."""
    index = keys.runs("bench-latency", "completed")
    before, sent = await wire.call("ZCARD", index), 0
    while not until.is_set():
        await app.send("bench/latency", {"sent": time.monotonic()})
        sent += 1
        await asyncio.sleep(_EVERY_S)
    while await wire.call("ZCARD", index) < before + sent:
        await asyncio.sleep(_LOOKED_EVERY_S)
    runs = await wire.call("ZRANGE", index, before, -1)
    keyed = [("HGET", keys.run("bench-latency", run.decode()), "output") for run in runs]
    return [float(output) for output in await wire.loads(*keyed)]


async def carried_out(wire: Wire, kind: Kind, has_begun: asyncio.Event) -> tuple[Operation, float]:
    """Let the worker carry out an operation on the runs of `nap`; return it, and how long that took, s."""
    query = RunQuery(functions=("bench-nap",), statuses=("waiting",) if kind == "cancel" else ("cancelled",))
    made = await operate(wire, kind, query, by="bench", seconds=0.0)
    while not (await operation(wire, made.id)).claimed:  # a worker looks every 5 s
        await asyncio.sleep(_LOOKED_EVERY_S)
    began = time.perf_counter()
    has_begun.set()
    while not (at := await operation(wire, made.id)).over:
        await asyncio.sleep(_LOOKED_EVERY_S)
    return at, time.perf_counter() - began


async def beside(wire: Wire, kind: Kind) -> tuple[Operation, float, list[float]]:
    """Return what an operation came to, how long that took, and how long starts of another function took meanwhile."""
    has_begun, is_over = asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(carried_out(wire, kind, has_begun))
    work.add_done_callback(lambda _: is_over.set())
    await has_begun.wait()
    took = await starts(wire, is_over)
    return *(await work), took


async def measure(url: str, scale: float) -> None:
    """Measure and print."""
    wire = Wire(Settings(redis_url=url), "bench")
    bench = Bench(wire, url)
    app.connect(wire)
    count = int(20_000 * scale)
    process = await bench.worker()
    with console.status("the floor") as status:
        adds, _ = await floor(bench, count)
        bench.row("floor: XADD, 1,000 in flight", adds)
        status.update("runs that wait")
        await bench.publish("bench/nap", count)
        while await wire.call("ZCARD", keys.runs("bench-nap", "waiting")) < count:
            await asyncio.sleep(_LOOKED_EVERY_S)
        status.update("quiet")
        quiet = asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, quiet.set)
        late = [("quiet", await starts(wire, quiet))]
        kinds: tuple[Kind, ...] = ("cancel", "rerun")
        for kind in kinds:
            status.update(kind)
            before = await cpu(wire, process.pid)
            over, took, meanwhile = await beside(wire, kind)
            server, worker = (now - then for now, then in zip(await cpu(wire, process.pid), before, strict=True))
            each = f"{server / over.done * 1e6:,.0f} µs, {worker / over.done * 1e6:,.0f} µs"
            bench.row(f"{kind}: {over.done:,} runs", over.done / took, adds, each)
            late.append((f"during {kind}", meanwhile))
    process.terminate()
    await process.wait()
    await wire.close()
    table = Table(
        "operations, one worker", "rate", "of the floor", "CPU a run: server, worker", box=None, pad_edge=False
    )
    for what, rate, ratio, each in bench.rows:
        table.add_row(what, rate, ratio, each)
    console.print(table)
    half = statistics.median(late[0][1])
    delays = Table("another function's start", "p50", "p95", "of quiet", box=None, pad_edge=False)
    for what, took in late:
        cuts = statistics.quantiles(took, n=20)
        delays.add_row(what, f"{cuts[9]:.1f} ms", f"{cuts[18]:.1f} ms", f"{cuts[9] / half:.1f} ×")
    console.print(delays)


if __name__ == "__main__":
    on_own_server(measure, __doc__)
