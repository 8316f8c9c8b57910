"""cancel_on and timeouts: the shortest example of each, and what comes at the same time."""

import asyncio
import json
import time

import pytest

from stepstream import Bus, CancelOn, ConfigError, Context, EventData, NewEvent, Step, Timeouts
from stepstream.bus.wire import keys
from tests.patience import FOR_EVER_S, PATIENT_S
from tests.support import Lab, eventually


class Ordered(EventData, name="shop/ordered", rename="camel"):
    order_id: str


class Withdrawn(EventData, name="shop/withdrawn", rename="camel"):
    order_id: str


@pytest.mark.each_server
async def test_an_event_cancels_the_run_it_belongs_to(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered, cancel_on=CancelOn(Withdrawn, match="data.orderId"))
    async def order(ctx: Context[Ordered], step: Step) -> None:
        await step.sleep("until-it-is-sent", "1h")

    await lab.work()
    await lab.app.send([Ordered("o1"), Ordered("o2")])
    for run in await lab.some(2):
        await lab.status(run.id, "waiting")
    await lab.app.send(Withdrawn("o2"))

    async def cancelled() -> list[str]:
        return [
            json.loads(bytes(r.event or b""))["data"]["orderId"] for r in await lab.runs() if r.status == "cancelled"
        ]

    assert await eventually(cancelled, "one is cancelled") == ["o2"]
    told = next(run for run in await lab.runs() if run.status == "cancelled")
    assert told.error is not None
    assert told.error.message.startswith("cancelled by event shop/withdrawn")
    await lab.app.send(Withdrawn("o1"))
    await lab.ended(2)
    assert await lab.wire.call("EXISTS", keys.cancels("test-order")) == 0
    await lab.idle()


async def test_an_event_cancels_by_expression_and_stops_a_body_that_runs(lab: Lab) -> None:
    stopped = asyncio.Event()

    async def pack() -> None:
        try:
            await asyncio.sleep(FOR_EVER_S)
        finally:
            stopped.set()

    @lab.app.function(
        "order", on=Ordered, cancel_on=CancelOn("shop/stop", if_="async.data.orders == event.data.orderId")
    )
    async def order(ctx: Context[Ordered], step: Step) -> None:
        await step.run("pack", pack)

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "running")
    await lab.send("shop/stop", {"orders": "o2"})
    await lab.send("shop/stop", {"orders": "o1"})
    assert (await lab.one()).status == "cancelled"
    await asyncio.wait_for(stopped.wait(), PATIENT_S)


async def test_an_event_that_came_before_the_run_could_start_cancels_it_too(lab: Lab) -> None:
    """Both came while no worker was there."""

    @lab.app.function("order", on=Ordered, cancel_on=CancelOn(Withdrawn, match="data.orderId"))
    async def order(ctx: Context[Ordered], step: Step) -> None:
        await step.sleep("until-it-is-sent", "1h")

    worker = await lab.work()
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the worker has left")
    await lab.app.send(Withdrawn("o1"))  # another order of that name, before
    await asyncio.sleep(0.002)
    await lab.app.send(Ordered("o1"))
    await lab.app.send(Ordered("o2"))
    await lab.app.send(Withdrawn("o2"))
    await lab.work()

    async def two() -> bool:
        return sorted(run.status for run in await lab.runs()) == ["cancelled", "waiting"]

    await eventually(two, "o2 is cancelled, o1 waits")


async def test_a_newer_event_of_its_own_name_cancels_an_older_run(lab: Lab) -> None:
    @lab.app.function("search", on="search/typed", cancel_on=CancelOn("search/typed", match="data.user"))
    async def search(ctx: Context[dict], step: Step) -> str:
        await step.sleep("debounce", 0.4)
        return ctx.event.data["text"]

    await lab.work()
    for text in ("s", "st", "ste"):
        await lab.send("search/typed", {"user": "ann", "text": text})
        await asyncio.sleep(0.02)
    ended = await lab.ended(3)
    assert [json.loads(bytes(run.output)) for run in ended if run.output] == ["ste"]
    assert sorted(run.status for run in ended) == ["cancelled", "cancelled", "completed"]


async def test_a_run_that_takes_longer_than_its_timeout_is_cancelled(lab: Lab) -> None:
    @lab.app.function("nap", on="a", timeouts=Timeouts(finish=0.5))
    async def nap(ctx: Context[dict], step: Step) -> None:
        await step.sleep("long", "1h")

    @lab.app.function("busy", on="a", timeouts=Timeouts(finish=0.3))
    async def busy(ctx: Context[dict], step: Step) -> None:
        await step.run("work", asyncio.sleep, 30)

    @lab.app.function("quick", on="a", timeouts=Timeouts(finish="10s", start="10s"))
    async def quick(ctx: Context[dict], step: Step) -> None:
        await step.sleep("short", 0.05)

    await lab.work()
    await lab.send("a")
    ends = {run.function: (run.status, run.error and run.error.name) for run in await lab.ended(3)}
    assert ends == {
        "test-nap": ("cancelled", "timeout"),
        "test-busy": ("cancelled", "timeout"),
        "test-quick": ("completed", None),
    }
    await lab.idle()


async def test_a_run_that_starts_too_late_is_cancelled(lab: Lab) -> None:
    @lab.app.function("f", on="a", timeouts=Timeouts(start="30s"))
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    worker = await lab.work()
    worker._wire.now = str(round(time.time() * 1000) + 31_000)
    await lab.send("a")
    run = await lab.one()
    assert (run.status, run.error and run.error.message) == ("cancelled", "the run did not start within 30 s")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"cancel_on": CancelOn(Withdrawn, match="data.order_id")}, "unknown field order_id; did you mean orderId"),
        ({"cancel_on": CancelOn("shop/*")}, "cancel_on takes no wildcard"),
        ({"cancel_on": CancelOn("")}, "is empty"),
        ({"cancel_on": CancelOn("a", match="data.x", if_="true")}, "has match and if_"),
        ({"cancel_on": CancelOn("a", match="data[0]")}, "is not a path"),
        ({"cancel_on": CancelOn("a", if_="event.data.")}, "is not an expression"),
        ({"cancel_on": CancelOn("a", timeout="5 parsecs")}, "is not a duration"),
        ({"cancel_on": CancelOn("a", timeout=0)}, "must be at least 1 ms"),
        ({"cancel_on": ["a", "b", "c", "d", "e", "f"]}, "has 6 cancel_on"),
        ({"timeouts": Timeouts(start=-1)}, "must be between 0 and 366 days"),
        ({"timeouts": Timeouts(finish=0)}, "must be at least 1 ms"),
    ],
)
def test_what_makes_no_sense_fails_when_declared(option: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Bus("a").function("f", on=Ordered, **option)


async def test_an_event_of_a_time_to_come_can_be_cancelled(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered, cancel_on=CancelOn(Withdrawn, match="data.orderId"))
    async def order(ctx: Context[Ordered], step: Step) -> None:
        return None

    await lab.work()
    await lab.app.send(NewEvent(Ordered("o1"), ts=round(time.time() * 1000) + 60_000))
    await lab.status(await lab.first(), "waiting")
    await lab.app.send(Withdrawn("o1"))
    assert (await lab.one()).status == "cancelled"
