"""The functions whose pages the browser tests look at."""

import asyncio
import contextlib

from stepstream import Bus, Concurrency, Cron, NonRetriable, Retry, StepFailed, Throttle

app = Bus("shop")


@app.function("insure")
async def insure(ctx, step):
    """Take its time."""
    await step.sleep("ask-the-insurer", "2h")


@app.function(
    "resize-image",
    on="image/uploaded",
    concurrency=Concurrency(2, key="event.data.user"),
    throttle=Throttle(100, "1m", burst=20),
)
async def resize_image(ctx, step):
    """Take its time, two at once for each user."""
    await step.run("resize", asyncio.sleep, 8)


@app.function("yearly-report", on=Cron("30 9 1 1 *", tz="Europe/Paris"))
async def yearly_report(ctx, step):
    """Begin when somebody says so: its time does not come while the tests run."""
    return ctx.event.data["cron"]


@app.function("ship-order", on="order/paid", retries=Retry(3, backoff=3))
async def ship_order(ctx, step):
    """Complete, fail, or wait, as the event asks."""
    kind = ctx.event.data.get("kind")

    async def work(seconds: float) -> dict[str, object]:
        await asyncio.sleep(seconds)
        return {"done": True, "seconds": seconds}

    async def flaky() -> str:
        if kind == "retry":
            raise ConnectionError("the carrier's API answered 503")
        if kind == "fail":
            raise NonRetriable(
                "the address <b>does not exist</b>: 12 Nowhere Street, a very long line that has to wrap " * 2
            )
        return "label-0042"

    await step.run("reserve-stock", work, 0.15)
    await asyncio.gather(step.run("charge-card", work, 0.4), step.run("write-invoice", work, 0.25))
    label = await step.run("print-label", flaky)
    if kind == "wait":
        await step.sleep("cooling-off-period", "14d")
    if kind == "ask":
        ctx.progress(60, parcels=3)
        asked = await asyncio.gather(
            step.wait_for_event("customs", "order/cleared", match="data.order", timeout="3d"),
            step.invoke("insure", insure, {"order": ctx.event.data["order"]}, timeout="1h"),
        )
        return [bool(one) for one in asked]
    if kind == "late":
        order = ctx.event.data["order"]
        with contextlib.suppress(StepFailed):
            await step.invoke("insure", insure, {"order": order}, timeout=1)
        return await step.wait_for_event("customs", "order/cleared", match="data.order", timeout=1)
    if kind == "slow":
        await step.run("pack", work, 3)
    if kind == "big":
        return {"scan": "x" * 1024 * 1024}
    return {"label": label}
