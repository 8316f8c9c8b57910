"""What runs in the storm: three steps each, one after the other or side by side, with and without durable sleeps."""

import asyncio
import json
import os
import random
import time

from stepstream import Bus, Concurrency

app = Bus("storm")
_journal = -1


def note(run: str, step: str, what: str) -> None:
    """Write one line, whole or not at all."""
    global _journal
    if _journal < 0:
        _journal = os.open(os.environ["CHAOS_JOURNAL"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    line = json.dumps({"run": run, "step": step, "what": what, "pid": os.getpid(), "at": time.time() * 1000})
    os.write(_journal, line.encode() + b"\n")


@app.function("three", on="storm/three")
async def three(ctx, step):
    """n decides the shape: n % 3 = 0 sleeps between steps, 1 runs them side by side with a sleep, 2 does neither."""
    shape = ctx.event.data["n"] % 3
    run = ctx.run_id

    async def body(name: str) -> str:
        note(run, name, "body")
        await asyncio.sleep(random.uniform(0.002, 0.02))
        return f"{run}:{name}"

    if shape == 1:
        napped = [step.sleep("nap", 0.1)] if ctx.event.data["n"] % 2 else []
        found = (await asyncio.gather(*(step.run(name, body, name) for name in "abc"), *napped))[:3]
    else:
        found = [await step.run("a", body, "a")]
        if shape == 0:
            await step.sleep("nap", 0.05 + ctx.event.data["n"] % 5 / 20)
        found += [await step.run("b", body, "b"), await step.run("c", body, "c")]
    return found


@app.function("triple", on="storm/triple")
async def triple(ctx, step):
    """Waits for an event that comes about when its time is over."""
    event = await step.wait_for_event("w", "storm/answer", match="data.n", timeout=ctx.event.data["timeout"])
    return None if event is None else event.data["n"]


@app.function("race", on="storm/race")
async def race(ctx, step):
    """A step, a wait, a step: cancelled and run again meanwhile."""
    await step.run("one", asyncio.sleep, random.uniform(0, 0.01))
    await step.sleep("nap", 0.02)
    return await step.run("two", lambda: ctx.run_id)


@app.function("limited", on="storm/limited", concurrency=Concurrency(3))
async def limited(ctx, step):
    """Three at once; half of them sleep between, which gives their place back."""

    async def body(name: str) -> str:
        note(ctx.run_id, name, "body")
        await asyncio.sleep(random.uniform(0.005, 0.02))
        return name

    first = await step.run("a", body, "a")
    if ctx.event.data["n"] % 2:
        await step.sleep("nap", 0.05)
    return [first, await step.run("b", body, "b")]


@app.function("shared", on="storm/shared", concurrency=Concurrency(3, shared="three"))
async def shared(ctx, step):
    """Shares its limit with the next."""
    return await step.run("a", asyncio.sleep, random.uniform(0.005, 0.02))


@app.function("sharing", on="storm/shared", concurrency=Concurrency(3, shared="three"))
async def sharing(ctx, step):
    """Shares its limit with the one before."""
    return await step.run("a", asyncio.sleep, random.uniform(0.005, 0.02))


@app.function("alone", on="storm/alone", concurrency=Concurrency(1, shared="alone"))
async def alone(ctx, step):
    """One at a time among all workers; each body tells when it begins and when it ends."""

    async def body() -> None:
        note(ctx.run_id, "work", "begins")
        await asyncio.sleep(0.05)
        note(ctx.run_id, "work", "ends")

    await step.run("work", body)


@app.function("long", on="storm/long")
async def long(ctx, step):
    """A body that takes several leases."""
    return await step.run("work", asyncio.sleep, 2.0)


@app.function("crowd", on="storm/crowd")
async def crowd(ctx, step):
    """A tenth of a second of work; one whose event says so takes its whole process along, every time."""

    async def body() -> str:
        note(ctx.run_id, "work", "body")
        await asyncio.sleep(0.05)
        if ctx.event.data.get("poison"):
            os._exit(7)
        await asyncio.sleep(0.05)
        return "worked"

    return await step.run("work", body)
