"""What users declare and call: events, functions, contexts."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypedDict, reveal_type

from pydantic import BaseModel

from stepstream import Bus, Context, Cron, Event, EventData, Function, FunctionFailed, On, Step, event


class Paid(EventData, name="order/paid"):
    order_id: str


class Sent(EventData, name="order/sent"):
    parcel: int


@event("order/refund")
class Refund(BaseModel):
    order_id: str


@event("order/lost")
@dataclass
class Lost:
    order_id: str


@event("order/noted")
class Noted(TypedDict):
    order_id: str


class Shop:
    async def save(self, order: str) -> int:
        return len(order)


@contextlib.asynccontextmanager
async def shop() -> AsyncGenerator[Shop]:
    yield Shop()


app = Bus("shop")
with_state = Bus("with-state", lifespan=shop)


@app.function("one", on=Paid, retries=3)
async def one(ctx: Context[Paid], step: Step) -> int:
    reveal_type(ctx.event)  # R: Event[Paid]
    reveal_type(ctx.event.data.order_id)  # R: str
    reveal_type(ctx.events)  # R: Sequence[Event[Paid]]
    return 1


reveal_type(one)  # R: Function[Paid, int]


@app.function("another", on=Paid)  # E
async def another(ctx: Context[Sent], step: Step) -> int:
    return 1


@app.function("conditional", on=On(Paid, if_="event.data.order_id != ''"))
async def conditional(ctx: Context[Paid], step: Step) -> int:
    return 1


@app.function("conditional-other", on=On(Paid, if_="true"))  # E
async def conditional_other(ctx: Context[Sent], step: Step) -> int:
    return 1


@app.function("several", on=[Paid, On(Sent)])
async def several(ctx: Context[Paid | Sent], step: Step) -> str:
    return ctx.event.data.order_id if isinstance(ctx.event.data, Paid) else ""


declared: Function[Paid | Sent, str] = several


@app.function("several-narrow", on=[Paid, Sent])  # E pyright
async def several_narrow(ctx: Context[Paid], step: Step) -> str:
    return ""


@app.function("wide", on=Paid)
async def wide(ctx: Context[Paid | Sent], step: Step) -> str:
    return ""


@app.function("by-name", on="order/paid")
async def by_name(ctx: Context[dict[str, Any]], step: Step) -> str:
    return str(ctx.event.data["orderId"])


@app.function("bare", on=["order/paid", Cron("0 4 * * *")])
async def bare(ctx: Context, step: Step) -> str:
    return str(ctx.event.data["orderId"])


@app.function("model", on=Refund)
async def model(ctx: Context[Refund], step: Step) -> Refund:
    return ctx.event.data


@app.function("dataclass", on=Lost)
async def data_class(ctx: Context[Lost], step: Step) -> Lost:
    return ctx.event.data


@app.function("typed-dict", on=Noted)
async def typed_dict(ctx: Context[Noted], step: Step) -> str:
    return ctx.event.data["order_id"]


@app.function("invoked")
async def invoked(ctx: Context[Refund], step: Step) -> Refund:
    return ctx.event.data


reveal_type(invoked)  # R: Function[Refund, Refund]


@app.function("unknown-option", on=Paid, retry=3)  # E
async def unknown_option(ctx: Context[Paid], step: Step) -> int:
    return 1


async def failed(ctx: Context[FunctionFailed], step: Step) -> str:
    reveal_type(ctx.event.data.error.message)  # R: str
    reveal_type(ctx.event.data.event)  # R: Event[Any]
    return ctx.event.data.error.message


async def failed_dict(ctx: Context[dict[str, Any]], step: Step) -> None: ...


async def failed_other(ctx: Context[Paid], step: Step) -> None: ...


@app.function("with-failure", on=Paid, on_failure=failed)
async def with_failure(ctx: Context[Paid], step: Step) -> int:
    return 1


@app.function("with-failure-dict", on=Paid, on_failure=failed_dict)
async def with_failure_dict(ctx: Context[Paid], step: Step) -> int:
    return 1


@app.function("with-failure-other", on=Paid, on_failure=failed_other)  # E
async def with_failure_other(ctx: Context[Paid], step: Step) -> int:
    return 1


@app.function("ends", on=FunctionFailed)
async def ends(ctx: Context[FunctionFailed], step: Step) -> str:
    return ctx.event.data.function_id


@with_state.function("state", on=Paid)
async def state(ctx: Context[Paid, Shop], step: Step) -> int:
    reveal_type(ctx.state)  # R: Shop
    return await step.run("save", ctx.state.save, ctx.event.data.order_id)


@with_state.function("other-state", on=Paid)  # E
async def other_state(ctx: Context[Paid, int], step: Step) -> int:
    return 1


@with_state.function("any-state", on=Paid)
async def any_state(ctx: Context[Paid], step: Step) -> int:
    reveal_type(ctx.state)  # R: Any
    return 1


async def plain_call(step: Step) -> None:
    context = Context(event=Event("e1", "order/paid", Paid("o1"), 0))
    reveal_type(await one(context, step))  # R: int
    await one(Context(event=Event("e1", "order/sent", Sent(1), 0)), step)  # E


async def sending() -> None:
    reveal_type(await app.send(Paid("o1")))  # R: Sent
    reveal_type(await app.send(Refund(order_id="o1")))  # R: Sent
    reveal_type(await app.send([Paid("o1"), Lost("o2")]))  # R: list[Sent]
    await app.send("order/paid", {"order_id": "o1"})
    await app.send("order/paid", Refund(order_id="o1"))
    await app.send(7)  # E
