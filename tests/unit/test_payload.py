"""Payload types without Redis: names, paths into models, what a handler is annotated with, handlers called plainly."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import msgspec
import pytest
from msgspec import Raw
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from stepstream import Bus, ConfigError, Context, Cron, Event, EventData, EventInvalid, FunctionFailed, On, Step, event
from stepstream.bus.bus import outgoing
from stepstream.bus.event import NewEvent, RawEvent
from stepstream.bus.system_events import INVOKED
from stepstream.bus.values import codec
from stepstream.bus.values.payload import wire_fields


class Inner(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    user_ids: list[int]


@event("shop/paid")
class Paid(BaseModel):
    order: str
    inner: Inner | None = None
    renamed: int = Field(default=0, alias="asNumber")


class Sent(EventData, name="shop/sent", rename="camel"):
    order_id: str
    inner: Inner | None = None


@event("shop/lost")
@dataclass
class Lost:
    order: str
    why: str = ""


@event("shop/noted")
class Noted(TypedDict):
    order: str


class Nightly(EventData, rename="camel"):
    scheduled_at: str = ""
    order: str = ""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_models_go_through_json_and_back_wherever_they_stand() -> None:
    model = Paid(order="o1", inner=Inner(userIds=[1]), asNumber=3)
    data = codec.encode({"all": [model]})
    assert data == b'{"all":[{"order":"o1","inner":{"userIds":[1]},"asNumber":3}]}'
    assert codec.decode_as(data, dict[str, list[Paid]]) == {"all": [model]}
    sent = Sent("o1", Inner(userIds=[2]))
    assert codec.decode_as(codec.encode(sent), Sent) == sent


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        (Paid, '{"order":7}', "data.order"),
        (Paid, '{"order":"o","inner":{"userIds":[1,"x"]}}', "data.inner.userIds[1]"),
        (Paid, "{}", "data.order"),
        (Paid, "7", "data"),
        (Sent, '{"orderId":"o","inner":{"userIds":[1,"x"]}}', "data.inner.userIds[1]"),
        (Sent, '{"orderId":"o","inner":{}}', "data.inner.userIds"),
        (Sent, '{"orderId":7}', "data.orderId"),
        (Lost, '{"order":7}', "data.order"),
        (Noted, "{}", "data.order"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_path_of_its_field(kind: Any, data: str, path: str) -> None:
    with pytest.raises(EventInvalid) as refused:
        RawEvent("e1", "x", Raw(data.encode()), 0).typed(kind)
    assert refused.value.field == path


def test_a_type_that_nothing_can_be_read_as_is_still_refused() -> None:
    class Unknown:
        pass

    with pytest.raises(msgspec.ValidationError, match="Expected `Unknown`, got `int`"):
        codec.decode_as(b"7", Unknown)


def test_events_are_sent_under_the_name_of_their_type() -> None:
    for data, name in ((Paid(order="o"), "shop/paid"), (Lost("o"), "shop/lost"), (Sent("o"), "shop/sent")):
        assert outgoing(NewEvent(data)).name == name
    named = outgoing(NewEvent("shop/other", Lost("o")))
    assert (named.name, named.data) == ("shop/other", b'{"order":"o","why":""}')
    with pytest.raises(EventInvalid, match="class Inner has no event name"):
        outgoing(NewEvent(Inner(userIds=[])))


def test_what_no_event_can_have_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ConfigError, match="is reserved"):
        event("bus/x")(Lost)
    with pytest.raises(ConfigError, match="a dataclass, a TypedDict or a Pydantic model"):
        event("shop/x")(int)
    with pytest.raises(ConfigError, match=r"class .*Inner.* has no event name"):
        Bus("b").function("f", on=Inner)
    with pytest.raises(ConfigError, match="Pydantic model"):
        Bus("b").function("f", on=int)


def test_conditions_know_the_fields_of_every_kind_of_payload() -> None:
    assert wire_fields(Inner) == {"userIds": list[int]}
    assert set(wire_fields(Paid) or ()) == {"order", "inner", "asNumber"}
    assert set(wire_fields(Lost) or ()) == {"order", "why"}
    assert set(wire_fields(Noted) or ()) == {"order"}
    assert wire_fields(Open) is None
    assert wire_fields(int) is None
    kinds: list[type[Any]] = [Paid, Lost, Noted]
    for kind in kinds:
        with pytest.raises(ConfigError, match="unknown field ordre; did you mean order"):
            Bus("b").function("f", on=On(kind, if_="event.data.ordre == 'x'"))


def _declared(on: Any, annotation: Any) -> Callable[[str, str], Any]:
    async def handler(ctx: Any, step: Step) -> None:
        return None

    handler.__annotations__["ctx"] = annotation
    function = Bus("b").function("f", on=on)(cast("Any", handler))
    return lambda name, data: function.typed(RawEvent("e1", name, Raw(data.encode()), 0)).data


LOST = '{"order":"o","why":"w"}'


@pytest.mark.parametrize(
    ("on", "annotation", "name", "kind"),
    [
        (Lost, Context[Any], "shop/lost", Lost),
        ([Lost, "shop/x"], Context[Any], "shop/lost", Lost),
        ([Lost, "shop/x"], Context[Lost], "shop/x", dict),
        ("shop/x", Context[Lost], "shop/x", Lost),
        ("shop/x", Context[dict[str, Any]], "shop/x", dict),
        ("shop/x", Context[Lost | Paid], "shop/x", dict),
        ("shop/lost", Context[Lost | Paid], "shop/lost", Lost),
        ("shop/lost", Context[Paid | Lost | None], "shop/lost", Lost),
        ("shop/x", Context, "shop/x", dict),
        ("shop/x", "Context[NotHere]", "shop/x", dict),
        ("shop/x", "Context[Paid, int]", "shop/x", Paid),
        (Cron("0 4 * * *"), Context[Nightly], "shop/x", Nightly),
        (None, Context[Paid], INVOKED, Paid),
        (None, Context[Any], INVOKED, dict),
        (Lost, Context[Lost], INVOKED, Lost),
        ([Sent, Lost], Context[Sent | Lost], INVOKED, Lost),
        ([Lost, Cron("0 4 * * *")], Context[Any], INVOKED, dict),
    ],
)
def test_data_is_what_on_gives_or_else_what_the_handler_is_annotated_with(
    on: Any, annotation: Any, name: str, kind: type[Any]
) -> None:
    assert type(_declared(on, annotation)(name, LOST)) is kind


def test_a_schedule_whose_events_cannot_fit_is_refused_when_it_is_declared() -> None:
    with pytest.raises(
        ConfigError, match=r"function 'f': what a schedule starts has cron, tz .*: data\.order: is missing"
    ):
        _declared(Cron("0 4 * * *"), Context[Lost])


def test_a_handler_is_called_as_plain_python() -> None:
    app = Bus("b")

    @app.function("f", on=Lost)
    async def f(ctx: Context[Lost], step: Step) -> str:
        ctx.progress(50)
        return f"{ctx.event.data.order} {len(ctx.events)}"

    context = Context(event=Event("e1", "shop/lost", Lost("o1"), 0))
    assert asyncio.run(f(context, cast("Step", None))) == "o1 1"


def test_the_end_of_a_run_has_a_type() -> None:
    told = b'{"function_id":"b-f","run_id":"r","status":"failed","event":{"id":"e","name":"x","data":{"a":1},"ts":1},"error":{"name":"E","message":"m"}}'
    failed = RawEvent("r", "bus/function.failed", Raw(told), 0).typed(FunctionFailed).data
    assert (failed.event.data, failed.error.name) == ({"a": 1}, "E")


@pytest.mark.process
def test_pydantic_is_not_imported() -> None:
    code = "import sys, stepstream, stepstream.consumers.worker; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
