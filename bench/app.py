"""The functions the benchmarks run."""

import asyncio
import time

from bus import Bus, Context, Step

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


@app.function("latency", on="bench/latency")
async def latency(ctx: Context[dict[str, float]], step: Step) -> float:
    """Tell how many ms lie between app.send and the handler's first line; the monotonic clock is the machine's."""
    return (time.monotonic() - ctx.event.data["sent"]) * 1_000
