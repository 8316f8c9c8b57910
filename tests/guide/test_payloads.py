"""What the data of an event and the result of a step may be: dataclasses, TypedDicts, Pydantic models."""

import json
from dataclasses import dataclass
from typing import TypedDict

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from stepstream import Context, EventData, FunctionFailed, Step, StepFailed, event
from tests.support import Lab


class Ordered(EventData, name="shop/ordered", rename="camel"):
    order_id: str


@event("shop/quoted")
class Quoted(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: str
    cents: int


class Label(BaseModel):
    code: str


@event("shop/lost")
@dataclass
class Lost:
    order_id: str


@event("shop/noted")
class Noted(TypedDict):
    order_id: str


class Answer(BaseModel):
    approved: bool


async def test_pydantic_models(lab: Lab) -> None:
    kinds: list[type] = []

    def print_label(order_id: str) -> Label:
        return Label(code=f"L-{order_id}")

    @lab.app.function("order", on=Quoted)
    async def order(ctx: Context[Quoted], step: Step) -> Label:
        label = await step.run("print", print_label, ctx.event.data.order_id)
        kinds.append(type(label))  # a model the first time, and in a replay
        await step.sleep("nap", 0.05)
        return label

    await lab.work()
    await lab.app.send(Quoted(orderId="o1", cents=3))
    assert await lab.output() == {"code": "L-o1"}
    assert len(kinds) > 1
    assert set(kinds) == {Label}


async def test_what_a_model_refuses_fails_with_the_path_of_its_field_if_it_is_in_the_stream_already(lab: Lab) -> None:
    @lab.app.function("order", on=Quoted)
    async def order(ctx: Context[Quoted], step: Step) -> None:
        return None

    await lab.work()
    await lab.store("shop/quoted", {"orderId": "o1", "cents": "many"})
    run = await lab.one()
    assert (run.status, run.error.name) == ("failed", "event_invalid")
    assert run.error.message.startswith("data.cents: ")


async def test_dataclasses_and_typed_dicts(lab: Lab) -> None:
    @lab.app.function("order", on=[Lost, Noted])
    async def order(ctx: Context[Lost | Noted], step: Step) -> str:
        data = ctx.event.data
        return data.order_id if isinstance(data, Lost) else data["order_id"]

    await lab.work()
    await lab.app.send(Lost("o1"))
    await lab.app.send("shop/noted", Noted(order_id="o2"))
    assert {bytes(run.output or b"") for run in await lab.ended(2)} == {b'"o1"', b'"o2"'}


async def test_an_invoked_function_receives_what_its_handler_is_annotated_with(lab: Lab) -> None:
    @lab.app.function("print")
    async def print_label(ctx: Context[Quoted], step: Step) -> Label:
        return Label(code=f"L-{ctx.event.data.order_id}")

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        label = await step.invoke("label", print_label, Quoted(orderId=ctx.event.data.order_id, cents=3))
        try:
            await step.invoke("bad", print_label, {"orderId": "o2"})
        except StepFailed as error:
            return f"{label.code} {error.name} {error.message}"
        return ""

    await lab.work()
    await lab.app.send(Ordered("o1"))
    runs = await lab.ended(2)  # what does not fit makes no run
    told = next(json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-order")
    assert told.startswith("L-o1 event_invalid data.cents: ")


async def test_an_invoked_function_receives_the_type_of_its_event(lab: Lab) -> None:
    @lab.app.function("paid", on=[Lost, Ordered])
    async def paid(ctx: Context[Lost | Ordered], step: Step) -> str:
        return type(ctx.event.data).__name__

    @lab.app.function("order", on="shop/go")
    async def order(ctx: Context, step: Step) -> list[str]:
        return [await step.invoke("a", paid, Lost("o1")), await step.invoke("b", paid, Ordered("o1"))]

    await lab.work()
    await lab.send("shop/go", {})
    runs = await lab.ended(3)
    told = next(json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-order")
    assert told == ["Lost", "Ordered"]


async def test_on_failure_with_its_type(lab: Lab) -> None:
    async def refund(ctx: Context[FunctionFailed], step: Step) -> str:
        failed = ctx.event.data
        return f"{failed.function_id} {failed.event.data['orderId']} {failed.error.name}: {failed.error.message}"

    @lab.app.function("order", on=Ordered, retries=0, on_failure=refund)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        raise ValueError("sold out")

    await lab.work()
    await lab.app.send(Ordered("o1"))
    runs = await lab.ended(2)
    told = next(run for run in runs if run.function == "test-order-failure")
    assert json.loads(bytes(told.output or b"")) == "test-order o1 ValueError: sold out"


async def test_a_signal_with_a_type(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        answer = await step.wait_for_signal("asked", f"approve/{ctx.event.data.order_id}", type=Answer, timeout="1d")
        return "too late" if answer is None else f"approved: {answer.approved}"

    @lab.app.function("speak", on="shop/spoken")
    async def speak(ctx: Context, step: Step) -> bool:
        return await step.send_signal("tell", ctx.event.data["to"], ctx.event.data["say"])

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "waiting")
    await lab.send("shop/spoken", {"to": "approve/o1", "say": {"approved": True}})
    runs = await lab.ended(2)
    outputs = {run.function: json.loads(bytes(run.output or b"")) for run in runs}
    assert outputs == {"test-order": "approved: True", "test-speak": True}
