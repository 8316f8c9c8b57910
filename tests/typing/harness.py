"""A strict test of functions: stubs with lambdas, outputs and events of their types."""

from typing import assert_type

from stepstream import Bus, Context, Event, EventData, Step
from stepstream.testing import Harness, replay

app = Bus("shop")


class OrderPaid(EventData, name="order/paid"):
    order_id: str


@app.function("ship", on=OrderPaid)
async def ship(ctx: Context[OrderPaid], step: Step) -> int:
    return await step.run("count", len, ctx.event.data.order_id)


async def test_ship() -> None:
    async with Harness(app) as bus:
        bus.stub("count", call=lambda order: len(order) + 1)
        bus.stub("pair", call=lambda one, other: one + other)
        bus.stub("none", call=lambda: None)
        bus.stub("named", call=len)
        bus.stub("label", {"n": 1}, raises=ValueError(), times=2)
        await bus.send(OrderPaid("o1"))
        assert_type(await bus.output(ship), int)
        assert_type(await bus.event(OrderPaid), Event[OrderPaid])
        assert_type(await bus.events(OrderPaid), list[Event[OrderPaid]])


def test_recorded() -> None:
    replay(app, "runs/one.json").check()
