"""What runs while everything fails at once: functions of every kind, so that each kind of key is there under load.

Every step body writes a line to the journal before it acts, so a body that begins after its memo is seen.
"""

import asyncio
import random

from stepstream import Batch, Bus, CancelOn, Concurrency, Cron, Debounce, NonRetriable, Retry, Singleton, Throttle
from tests.chaos.storm_app import note

app = Bus("gale")
PATIENCE_S = 900
"""Longer than the worst storm: whatever is lost does not come late, it never comes."""
"""How long runs wait for each other: longer than anything that is done to the bus lasts."""


class Work:
    """Step bodies of one run."""

    def __init__(self, ctx) -> None:
        self.run = f"{ctx.function}|{ctx.run_id}"

    async def __call__(self, name: str) -> str:
        note(self.run, name, "body")
        await asyncio.sleep(random.uniform(0.002, 0.02))
        return name


@app.function("three", on="gale/three")
async def three(ctx, step):
    """Three steps one after the other or side by side, with and without durable sleeps."""
    n, body = ctx.event.data["n"], Work(ctx)
    if n % 3 == 1:
        napped = [step.sleep("nap", 0.1)] if n % 2 else []
        return (await asyncio.gather(*(step.run(name, body, name) for name in "abc"), *napped))[:3]
    found = [await step.run("a", body, "a")]
    if n % 3 == 0:
        await step.sleep("nap", 0.05 + n % 5 / 20)
    return [*found, await step.run("b", body, "b"), await step.run("c", body, "c")]


@app.function("child")
async def child(ctx, step):
    """Is called."""
    await step.sleep("nap", 0.05)
    return await step.run("a", Work(ctx), "a")


@app.function("crossing", on="gale/crossing")
async def crossing(ctx, step):
    """All that crosses slots: an event out and back, by equal value or by expression, and a call."""
    n, body = ctx.event.data["n"], Work(ctx)
    how = {"match": "data.n"} if n % 2 else {"if_": "async.data.n == event.data.n"}
    await step.send_event("tell", "gale/reply", {"n": n})
    reply, called, mine = await asyncio.gather(
        step.wait_for_event("reply", "gale/reply", timeout=PATIENCE_S, **how),
        step.invoke("call", child, {"n": n}),
        step.run("a", body, "a"),
    )
    return [reply.data["n"] == n if reply else None, called, mine]


@app.function("hearing", on="gale/signal")
async def hearing(ctx, step):
    """Waits for a signal that the next function sends."""
    return await step.wait_for_signal("heard", f"gale-{ctx.event.data['n']}", timeout=PATIENCE_S)


@app.function("saying", on="gale/signal")
async def saying(ctx, step):
    """Sends a signal until it is heard; a try that was heard and then killed is known as such by the next.

    Not where the name's key is deleted meanwhile: then it gives up, after longer than its hearer may begin late.
    """
    for tries in range(70):
        if await step.send_signal(f"say-{tries}", f"gale-{ctx.event.data['n']}", tries):
            return True
        await step.sleep(f"nap-{tries}", 0.3 if tries < 20 else 2.0)
    return False


@app.function(
    "lined", on="gale/limited", concurrency=Concurrency(2, key="string(event.data.n % 3)"), priority="event.data.n % 2"
)
async def lined(ctx, step):
    """Two at a time for each of three keys; half of them sleep between, which gives their place back."""
    body = Work(ctx)
    first = await step.run("a", body, "a")
    if ctx.event.data["n"] % 2:
        await step.sleep("nap", 0.05)
    return [first, await step.run("b", body, "b")]


@app.function("sharing", on="gale/limited", concurrency=Concurrency(3, shared="gale"), throttle=Throttle(50, "1s"))
async def sharing(ctx, step):
    """Shares its limit with the next."""
    return await step.run("a", Work(ctx), "a")


@app.function("shared", on="gale/limited", concurrency=Concurrency(3, shared="gale"))
async def shared(ctx, step):
    """Shares its limit with the one before."""
    await step.sleep("nap", 0.05)
    return await step.run("a", Work(ctx), "a")


@app.function("batched", on="gale/gathered", batch=Batch(5, "1s", key="string(event.data.n % 2)"))
async def batched(ctx, step):
    """Once for several events; tells which."""
    await step.run("a", Work(ctx), "a")
    return [event.id for event in ctx.events]


@app.function("debounced", on="gale/gathered", debounce=Debounce("1s", timeout="2s", key="string(event.data.n % 2)"))
async def debounced(ctx, step):
    """Once for the last of several events."""
    return await step.run("a", Work(ctx), "a")


async def tell_failure(ctx, step):
    """Hears of a failure, once; tells of which run."""
    await step.run("a", Work(ctx), "a")
    return ctx.event.data["run_id"]


@app.function("failing", on="gale/failing", retries=Retry(2, backoff=0.1), on_failure=tell_failure)
async def failing(ctx, step):
    """Fails at once, may fail, or does not, by n."""
    n, body = ctx.event.data["n"], Work(ctx)

    async def bad() -> str:
        note(body.run, "bad", "body")
        if n % 3 == 0:
            raise NonRetriable("never")
        if n % 3 == 1 and random.random() < 0.5:
            raise ValueError("half of the time")
        return "good"

    first = await step.run("a", body, "a")
    return [first, await step.run("bad", bad)]


@app.function("listening", on="bus/function.failed")
async def listening(ctx, step):
    """Hears of every run that failed, once; tells of which."""
    return ctx.event.data["run_id"]


@app.function("stopped", on="gale/stopped", cancel_on=CancelOn("gale/stop", match="data.n"))
async def stopped(ctx, step):
    """Is cancelled while it sleeps, or not."""
    first = await step.run("a", Work(ctx), "a")
    await step.sleep("nap", 0.4)
    return first


@app.function("single", on="gale/single", singleton=Singleton("cancel", key="string(event.data.n % 2)"))
async def single(ctx, step):
    """One at a time; a newer one cancels it."""
    await step.sleep("nap", 0.1)
    return await step.run("a", Work(ctx), "a")


@app.function("ticked", on=Cron("* * * * *"))
async def ticked(ctx, step):
    """Once a minute; tells its tick."""
    return ctx.event.id


NAMES = tuple(
    f"gale/{one}" for one in ("three", "crossing", "signal", "limited", "gathered", "failing", "stopped", "single")
)
"""The events that are published, and `gale/stop` after some of `gale/stopped`."""
