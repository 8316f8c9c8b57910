"""What a function's body calls: run, invoke, waits, sends."""

import functools
from typing import Any, reveal_type

from pydantic import BaseModel

from stepstream import Bus, Context, EventData, Step

app = Bus("shop")


class Paid(EventData, name="order/paid"):
    order_id: str


class Sent(EventData, name="order/sent"):
    parcel: int


class Label(BaseModel):
    code: str


def label(order: str, copies: int = 1, *, colour: bool = False) -> Label:
    return Label(code=order)


async def mail(to: str, subject: str) -> bytes:
    return b""


async def nothing() -> None: ...


async def keyword(to: str, *, subject: str) -> list[int]:
    return []


class Printer:
    async def print(self, text: Label) -> int:
        return 1


@app.function("ship", on=Paid)
async def ship(ctx: Context[Paid], step: Step) -> Label:
    return Label(code="x")


@app.function("either", on=[Paid, Sent])
async def either(ctx: Context[Paid | Sent], step: Step) -> int:
    return 1


@app.function("loose", on="order/paid")
async def loose(ctx: Context[Any], step: Step) -> int:
    return 1


async def runs(step: Step) -> None:
    reveal_type(await step.run("a", label, "o1"))  # R: Label
    reveal_type(await step.run("a", label, "o1", 2, timeout="3s", retries=2))  # R: Label
    reveal_type(await step.run("a", mail, "o1", "hello"))  # R: bytes
    reveal_type(await step.run("a", functools.partial(keyword, subject="x"), "o1"))  # R: list[int]
    reveal_type(await step.run("a", functools.partial(label, "o1", colour=True)))  # R: Label
    reveal_type(await step.run("a", Printer().print, Label(code="x")))  # R: int
    reveal_type(await step.run("a", lambda: 7))  # R: int
    await step.run("a", nothing)
    await step.run("a", label, 1)  # E
    await step.run("a", label)  # E
    await step.run("a", label, "o1", 2, 3)  # E
    await step.run("a", mail, "o1")  # E
    await step.run("a", mail, "o1", 2)  # E
    await step.run("a", keyword, "o1")  # E
    await step.run("a", Printer().print, "o1")  # E
    await step.run("a", nothing, subject="x")  # E


async def invokes(step: Step) -> None:
    reveal_type(await step.invoke("a", ship, Paid("o1")))  # R: Label
    reveal_type(await step.invoke("a", ship, {"order_id": "o1"}, timeout="1h"))  # R: Label
    reveal_type(await step.invoke("a", either, Sent(1)))  # R: int
    reveal_type(await step.invoke("a", loose, {"x": 1}))  # R: int
    reveal_type(await step.invoke("a", "other-bus-f", {"x": 1}))  # R: Any
    await step.invoke("a", ship, Sent(1))  # E
    wrong: str = await step.invoke("a", ship, Paid("o1"))  # E
    print(wrong)


async def waits(step: Step) -> None:
    reveal_type(await step.wait_for_event("a", Paid, match="data.order_id"))  # R: Event[Paid] | None
    reveal_type(await step.wait_for_event("a", "order/paid", timeout="3d"))  # R: Event[Any] | None
    reveal_type(await step.wait_for_signal("a", "go"))  # R: Any
    reveal_type(await step.wait_for_signal("a", "go", type=Label))  # R: Label | None
    reveal_type(await step.send_signal("a", "go", Label(code="x")))  # R: bool
    found = await step.wait_for_event("a", Paid)
    print(found.data)  # E
    await step.wait_for_event("a", 7)  # E


async def sends(step: Step) -> None:
    reveal_type(await step.send_event("a", [Paid("o1"), Sent(1)]))  # R: list[str]
    await step.send_event("a", "order/paid", {"order_id": "o1"})
    await step.send_event("a", 7)  # E
    reveal_type((await step.fetch("a", "http://127.0.0.1")).status)  # R: int
