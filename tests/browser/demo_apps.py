"""The applications of the demo store (tests/browser/demo.py): between them they have a run in every state."""

import asyncio
import contextlib
import os
from collections import Counter

from stepstream import (
    Batch,
    Bus,
    Concurrency,
    Cron,
    Debounce,
    NonRetriable,
    On,
    RateLimit,
    Retry,
    StepFailed,
    Throttle,
)

LONG_S = 86_400
"""As good as forever: what is at work stays at work."""

shop, press, mail, scan = Bus("shop"), Bus("press"), Bus("mail"), Bus("scan")
"""`shop` is at work; the worker of `press` is killed; `mail` has none; `scan` has a run that kills its worker."""
_failed = Counter[str]()
"""How often a label could not be printed, by order."""


class AddressUnknown(NonRetriable):
    """The carrier does not know where that is."""


async def _work(seconds: float) -> dict[str, object]:
    await asyncio.sleep(seconds)
    return {"done": True, "seconds": seconds}


@shop.function("ask-the-insurer", retries=0)
async def insure(ctx, step):
    """Wait for somebody who takes his time."""
    await step.sleep("office-hours", "2h")


async def tell_support(ctx, step):
    """Told of each order that failed."""
    return {"told": True}


@shop.function("ship-order", on="order/paid", retries=Retry(4, backoff=[0.4, 0.4, "2m"]), on_failure=tell_support)
async def ship_order(ctx, step):
    """Complete, fail, or wait, as the event asks."""
    order, how = ctx.event.data["order"], ctx.event.data.get("how")

    async def print_label() -> str:
        if how == "lost":
            raise AddressUnknown(f"the address of order {order} does not exist: 12 <b>Nowhere</b> Street")
        if how == "jammed" or (how == "flaky" and _failed[order] < 2):
            _failed[order] += 1
            await asyncio.sleep(0.15)
            raise ConnectionError("the carrier's API answered 503")
        return f"label-{order}.pdf"

    await step.run("reserve-stock", _work, 0.15)
    await asyncio.gather(step.run("charge-card", _work, 0.4), step.run("write-invoice", _work, 0.25))
    label = await step.run("print-label", print_label)
    match how:
        case "customs":
            return await step.wait_for_event("cleared", "order/cleared", match="data.order", timeout="3d")
        case "approval":
            return await step.wait_for_signal("approved", f"approve-{order}", timeout="7d")
        case "cooling-off":
            await step.sleep("cooling-off-period", "14d")
            return await step.run("ask-how-it-was", _work, 0.1)
        case "insured":
            ctx.progress(60, parcels=3)
            return await asyncio.gather(
                step.invoke("insure", insure, {"order": order}, timeout="1d"),
                step.wait_for_event("weighed", "parcel/weighed", match="data.order", timeout="2h"),
            )
        case "late":
            with contextlib.suppress(StepFailed):
                await step.invoke("insure", insure, {"order": order}, timeout=1)
            return await step.wait_for_event("cleared", "order/cleared", match="data.order", timeout=1)
        case "slow":
            ctx.progress(35, parcels=12)
            ctx.logger.info("packing", parcels=12)
            ctx.logger.warning("the printer is slow", pages=3)
            return await step.run("pack", _work, LONG_S)
    return {"label": label}


@shop.function("check-fraud", on=On("order/paid", if_="event.data.cents > 100000"), retries=0)
async def check_fraud(ctx, step):
    """Look at large orders only."""
    return {"score": await step.run("score", _work, 0.05)}


@shop.function("charge-customer", on="charge/due", retries=0, concurrency=Concurrency(2, key="event.data.customer"))
async def charge_customer(ctx, step):
    """Take its time, two at once for each customer."""
    await step.run("ask-the-bank", _work, LONG_S)


@shop.function("send-newsletter", on="news/written", retries=0, throttle=Throttle(1, "1h"))
async def send_newsletter(ctx, step):
    """Start once an hour."""


@shop.function("count-clicks", on="page/clicked", retries=0, batch=Batch(100, "1h", key="event.data.page"))
async def count_clicks(ctx, step):
    """Take a hundred at once."""


@shop.function("index-product", on="product/changed", retries=0, debounce=Debounce("1h", key="event.data.product"))
async def index_product(ctx, step):
    """Wait until nothing changes any more."""


@shop.function("greet-visitor", on="visitor/came", retries=0, rate_limit=RateLimit(1, "1h", key="event.data.who"))
async def greet_visitor(ctx, step):
    """Greet each once an hour."""


@shop.function("sync-stock", on="stock/changed", retries=0)
async def sync_stock(ctx, step):
    """Fail, in two ways."""
    if ctx.event.data["warehouse"] == "Lyon":
        raise ValueError("'twelve' is no number")
    raise TimeoutError(f"the warehouse {ctx.event.data['warehouse']} did not answer within 30 s")


@shop.function("tidy-up", on="day/ended", retries=0)
async def tidy_up(ctx, step):
    """Be paused, before anything of it begins."""


@shop.function("yearly-report", on=Cron("30 9 1 1 *", tz="Europe/Paris"))
async def yearly_report(ctx, step):
    """Begin when somebody says so: its time does not come while the tests run."""


@press.function("print-catalogue", on="catalogue/ready", retries=0)
async def print_catalogue(ctx, step):
    """Print until its worker is killed."""
    await step.run("print", _work, LONG_S)


@mail.function("send-invoice", on="invoice/due", retries=0)
async def send_invoice(ctx, step):
    """Be sent, once there is a worker."""
    return {"sent": True}


@scan.function("read-scan", on="scan/uploaded", retries=0)
async def read_scan(ctx, step):
    """Take its worker along when the scan is corrupt, as a native library does."""

    def read() -> int:
        if ctx.event.data["pages"] > 1_000:
            os._exit(9)
        return ctx.event.data["pages"]

    return {"pages": await step.run("read", read)}
