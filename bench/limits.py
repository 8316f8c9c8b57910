"""What limits cost, and whom a burst delays: `make bench`'s table of limits, all in one run beside the plain path.

Keyed: concurrency 5 for each of 1,000 customers. Throttle: one that never refuses. Batch: 50 events a run, counted in
events. Deep: 100,000 customers with ten runs each in line, of which the first 40,000 are worked off.
"""

import asyncio
import time

from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.spine import Bench, on_own_server
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

console = Console()
CUSTOMERS = 1_000
SLOTS = 100


async def publish(name: str, count: int, customers: int) -> None:
    """Publish events of customers in turn."""
    for start in range(0, count, 1_000):
        await app.publish(
            [NewEvent(name, {"n": n, "user": f"u{n % customers}"}) for n in range(start, min(count, start + 1_000))]
        )


async def used(wire: Wire) -> int:
    """Return the bytes of the data set."""
    info: bytes = await wire.call("INFO", "memory")
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return int(fields["used_memory_dataset"])


async def rate(bench: Bench, function: str, count: int, events_a_run: int = 1) -> float:
    """Return events a second, once a fresh worker is up to speed."""
    await publish(f"bench/{function}", count, CUSTOMERS)
    return await bench.runs(function, count // events_a_run) * events_a_run


async def one_more(wire: Wire) -> float:
    """Publish for a customer of its own; return ms until its run has ended."""
    entry = (await app.publish([NewEvent("bench/keyed", {"n": -1, "user": f"other-{time.monotonic()}"})]))[0].entry
    index, began = keys.runs("bench-keyed", "completed"), int(entry.partition("-")[0])
    while not await wire.call("ZCOUNT", index, began, "+inf"):
        await asyncio.sleep(0.001)
    rows = await wire.call("ZRANGEBYSCORE", index, began, "+inf", "LIMIT", 0, 1)
    return int(await wire.call("HGET", keys.run("bench-keyed", rows[0].decode()), "ended")) - began


async def fairness(bench: Bench, burst: int) -> tuple[float, float]:
    """Return how long another customer's run takes, ms: on an idle worker, and behind a customer's burst."""
    process = await bench.worker()
    idle = sorted([await one_more(bench.wire) for _ in range(21)])[10]
    await app.publish([NewEvent("bench/keyed_slow", {"n": n, "user": "burst"}) for n in range(min(burst, 5_000))])
    await app.publish([NewEvent("bench/keyed_slow", {"n": n, "user": "burst"}) for n in range(max(0, burst - 5_000))])
    statuses = [keys.runs("bench-keyed_slow", status) for status in ("queued", "running", "completed")]
    while sum([await bench.wire.call("ZCARD", index) for index in statuses]) < burst:  # all of it stands in line
        await asyncio.sleep(0.01)
    entry = (await app.publish([NewEvent("bench/keyed_slow", {"n": 1, "user": "other"})]))[0].entry
    began, behind = int(entry.partition("-")[0]), 0.0
    while not behind:
        for run in await bench.wire.call("ZRANGEBYSCORE", keys.runs("bench-keyed_slow", "completed"), began, "+inf"):
            behind = int(await bench.wire.call("HGET", keys.run("bench-keyed_slow", run.decode()), "ended")) - began
        await asyncio.sleep(0.002)
    process.kill()
    await process.wait()
    return idle, behind


async def deep(bench: Bench, customers: int, each: int, work_off: int) -> tuple[float, float, float]:
    """Return runs a second admitted to 100,000 lines, bytes a waiting run takes, and runs a second worked off them."""
    wire, name, slug = bench.wire, "bench/deep", "bench-deep"
    process = await bench.worker("BENCH_FILLS_LINES=1")
    before, total = await used(wire), customers * each
    began = time.perf_counter()
    await publish(name, total, customers)
    while await wire.call("ZCARD", keys.runs(slug, "queued")) < total - SLOTS:  # the others fill the worker
        await asyncio.sleep(0.1)
    admitted = total / (time.perf_counter() - began)
    process.kill()
    await process.wait()
    await wire.call("DEL", keys.events(name))
    kept = (await used(wire) - before) / total
    return admitted, kept, await bench.runs("deep", work_off)


async def measure(url: str, scale: float) -> None:
    """Measure and print."""
    wire = Wire(Settings(redis_url=url), "bench")
    bench = Bench(wire, url)
    app.connect(wire)
    n = int(40_000 * scale)
    registered = await bench.worker()
    registered.terminate()
    await registered.wait()
    with console.status("plain") as status:
        plain = await rate(bench, "noop", n)
        bench.row("no limit", plain)
        for function, label, events in (
            ("keyed", "concurrency 5 per customer, 1,000 customers", 1),
            ("throttled", "throttle that never refuses", 1),
            ("batched", "batches of 50: events", 50),
        ):
            status.update(label)
            bench.row(label, await rate(bench, function, n, events), plain)
        status.update("fairness")
        idle, behind = await fairness(bench, 10_000)
        status.update("deep lines")
        customers, each = int(100_000 * min(1, scale)), 10
        admitted, kept, worked = await deep(bench, customers, each, n)
    await wire.close()
    table = Table("limits, one worker", "rate", "of no limit", box=None, pad_edge=False)
    for what, speed, ratio, _ in bench.rows:
        table.add_row(what, speed, ratio)
    table.add_row(f"{customers:,} customers, {customers * each:,} runs in line: admitted", f"{admitted:,.0f}/s", "")
    table.add_row("… and worked off", f"{worked:,.0f}/s", f"{worked / plain:.2f} ×")
    console.print(table)
    console.print(f"a run in line takes {kept:,.0f} B (a 30 B event)")
    console.print(f"another customer's run: {idle:.0f} ms when idle, {behind:.0f} ms behind 10,000 in line (limit 5)")


if __name__ == "__main__":
    on_own_server(measure, __doc__)
