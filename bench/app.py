"""The functions the benchmarks run."""

import asyncio
import os
import time

from stepstream import Batch, Bus, Concurrency, Context, Step, Throttle

app = Bus("bench")


async def _one() -> int:
    return 1


@app.function("noop", on="bench/noop")
async def noop(ctx: Context[dict[str, int]], step: Step) -> None:
    """Do nothing."""


@app.function("five", on="bench/five")
async def five(ctx: Context[dict[str, int]], step: Step) -> None:
    """Five steps, one after the other."""
    for name in ("a", "b", "c", "d", "e"):
        await step.run(name, _one)


@app.function("parallel", on="bench/parallel")
async def parallel(ctx: Context[dict[str, int]], step: Step) -> None:
    """Ten steps side by side."""
    await asyncio.gather(*(step.run(f"p{n}", _one) for n in range(10)))


@app.function("wait", on="bench/wait")
async def wait(ctx: Context[dict[str, int]], step: Step) -> None:
    """Await 10 ms, without a step."""
    await asyncio.sleep(0.01)


@app.function("nap", on="bench/nap")
async def nap(ctx: Context[dict[str, int]], step: Step) -> None:
    """Sleep longer than any benchmark takes."""
    await step.sleep("nap", "1h")


@app.function("latency", on="bench/latency")
async def latency(ctx: Context[dict[str, float]], step: Step) -> float:
    """Tell how many ms lie between app.send and the handler's first line; the monotonic clock is the machine's."""
    return (time.monotonic() - ctx.event.data["sent"]) * 1_000


@app.function("keyed", on="bench/keyed", concurrency=Concurrency(5, key="event.data.user"))
async def keyed(ctx: Context[dict[str, str]], step: Step) -> None:
    """Do nothing, five at once for each customer."""


@app.function("keyed_slow", on="bench/keyed_slow", concurrency=Concurrency(5, key="event.data.user"))
async def keyed_slow(ctx: Context[dict[str, str]], step: Step) -> None:
    """Take 20 ms, five at once for each customer."""
    await asyncio.sleep(0.02)


@app.function("throttled", on="bench/throttled", throttle=Throttle(1_000_000, "1s"))
async def throttled(ctx: Context[dict[str, str]], step: Step) -> None:
    """Do nothing, at a rate that is never reached."""


@app.function("batched", on="bench/batched", batch=Batch(50, "60s"))
async def batched(ctx: Context[dict[str, str]], step: Step) -> None:
    """Do nothing, for 50 events at once."""


@app.function("deep", on="bench/deep", concurrency=Concurrency(1, key="event.data.user"))
async def deep(ctx: Context[dict[str, str]], step: Step) -> None:
    """Do nothing, one at a time for each customer; while lines are filled, for as long as the worker lives."""
    if "BENCH_FILLS_LINES" in os.environ:
        await asyncio.sleep(3600)
