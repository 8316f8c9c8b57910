"""The application that the chaos tests kill: every body writes a line to an O_APPEND journal before it acts."""

import asyncio
import json
import os
import time

from stepstream import Bus, Concurrency, Cron, Retry

app = Bus("chaos")
LARGE = "large " * 2_000
"""Larger than BUS_BLOBS_ABOVE of the tests that set it."""


def seconds() -> float:
    """How long a step takes."""
    return float(os.environ.get("CHAOS_STEP", "0.2"))


def note(run: str, step: str, what: str = "body") -> None:
    line = json.dumps({"run": run, "step": step, "what": what, "pid": os.getpid(), "at": time.time() * 1000})
    handle = os.open(os.environ["CHAOS_JOURNAL"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def lines(run: str, step: str) -> int:
    with open(os.environ["CHAOS_JOURNAL"]) as journal:
        return sum(f'"run": "{run}", "step": "{step}"' in line for line in journal)


@app.function("five", on="chaos/five")
async def five(ctx, step):
    async def body(name: str) -> str:
        note(ctx.run_id, name)
        await asyncio.sleep(seconds())
        return name

    done = [await step.run(f"s{n}", body, f"s{n}") for n in range(5)]
    note(ctx.run_id, "end", "end")
    return done


@app.function("once", on="chaos/once", retries=0)
async def once(ctx, step):
    """Each kind of command a run needs, and no retries: an error of the store that reaches it ends it."""

    async def body() -> str:
        note(ctx.run_id, "body")
        await asyncio.sleep(seconds())
        return "done"

    first = await step.run("body", body)
    await step.sleep("nap", 0.05)
    await step.send_event("tell", "chaos/told", {})
    return first


@app.function("mixed", on="chaos/mixed", retries=Retry(3, backoff=0.1))
async def mixed(ctx, step):
    async def body(name: str) -> str:
        note(ctx.run_id, name)
        return name

    async def flaky() -> str:
        note(ctx.run_id, "flaky")
        if lines(ctx.run_id, "flaky") == 1:
            raise ValueError("once")
        return "flaky"

    first = await step.run("first", body, "first")
    await step.sleep("nap", 0.2)
    both = await asyncio.gather(step.run("flaky", flaky), step.run("beside", body, "beside"))
    return [first, *both]


@app.function("lined", on="chaos/lined", concurrency=Concurrency(1, key="event.data.key"))
async def lined(ctx, step):
    """One at a time, with a nap that gives the place back."""

    async def body(name: str) -> str:
        note(ctx.run_id, name)
        return name

    first = await step.run("first", body, "first")
    await step.sleep("nap", 0.1)
    return [first, await step.run("last", body, "last")]


@app.function("ticked", on=Cron("* * * * *", catch_up=True))
async def ticked(ctx, step):
    return ctx.event.id


@app.function("child")
async def child(ctx, step):
    await step.sleep("nap", 0.1)
    return "child"


@app.function("cross", on="chaos/cross")
async def cross(ctx, step):
    """All that crosses slots: events out, an event back, a call."""

    async def body(name: str) -> str:
        note(ctx.run_id, name)
        return name

    ids = await step.send_event("tell", "chaos/reply", {"to": ctx.run_id})
    reply = await step.wait_for_event("reply", "chaos/reply", if_=f"async.data.to == '{ctx.run_id}'", timeout=30)
    called, _ = await asyncio.gather(step.invoke("call", child), step.run("beside", body, "beside"))
    return [len(ids), reply.data["to"] == ctx.run_id, called]


@app.function("large-child")
async def large_child(ctx, step):
    return f"child {LARGE}"


@app.function("large", on="chaos/large")
async def large(ctx, step):
    """Results that are kept in a store: of steps, of a call, of the run."""

    async def body(name: str) -> str:
        note(ctx.run_id, name)
        return f"{name} {LARGE}"

    done = [await step.run(name, body, name) for name in ("one", "two")]
    return [*done, await step.invoke("call", large_child)]


@app.function("blocking", on="chaos/blocking")
async def blocking(ctx, step):
    async def body() -> str:
        note(ctx.run_id, "block")
        until = time.monotonic() + float(ctx.event.data["seconds"])
        while time.monotonic() < until:  # pure Python that never awaits: the loop stands still
            pass
        return "blocked"

    return await step.run("block", body)


@app.function("long", on="chaos/long")
async def long(ctx, step):
    async def body(seconds: float) -> str:
        note(ctx.run_id, "long")
        await asyncio.sleep(seconds)
        return "long"

    return await step.run("long", body, float(ctx.event.data.get("seconds", 60)))


@app.function("poison", on="chaos/poison")
async def poison(ctx, step):
    async def body() -> None:
        note(ctx.run_id, "poison")
        os._exit(7)

    await step.run("poison", body)


@app.function("crowd", on="chaos/crowd")
async def crowd(ctx, step):
    """Half a second of work; the one whose event says so takes its whole process along."""

    async def body() -> str:
        note(ctx.run_id, "work")
        await asyncio.sleep(0.25)
        if ctx.event.data.get("poison"):
            os._exit(7)
        await asyncio.sleep(0.25)
        return "worked"

    return await step.run("work", body)
