"""Types at publish: what does not fit the type of its name is refused to whoever sends it, and nothing is stored."""

from dataclasses import dataclass
from typing import Any

import pytest

from stepstream import Context, EventData, EventInvalid, On, Step, event
from stepstream.bus.event import NewEvent
from stepstream.bus.wire import keys
from tests.support import Lab


class EmailSend(EventData, name="email/send", rename="camel"):
    user_id: int
    subject: str = ""


class EmailSendNew(EventData, name="email/send"):
    to: str


@event("email/sent")
@dataclass
class EmailSent:
    to: str


def listens(lab: Lab, on: Any, id: str = "email") -> None:
    @lab.app.function(id, on=on)
    async def email(ctx: Context[Any], step: Step) -> None:
        return None


MISFITS: list[tuple[Any, str]] = [
    (EmailSend("nobody"), "data.userId: Expected `int`, got `str`"),  # type: ignore[arg-type]
    (EmailSent(7), "data.to: Expected `str`, got `int`"),  # type: ignore[arg-type]
    (NewEvent("email/send", {"to": "nobody"}), "data.userId: is missing"),
    (NewEvent("email/send", EmailSent("ada")), "data.userId: is missing"),
    ({"name": "email/send", "data": {"userId": 1, "subject": None}}, "data.subject: Expected `str`, got `null`"),
]


@pytest.mark.parametrize(("sent", "told"), MISFITS)
async def test_what_does_not_fit_its_type_is_refused_with_the_field_and_nothing_is_stored(
    lab: Lab, sent: Any, told: str
) -> None:
    listens(lab, EmailSend)
    with pytest.raises(EventInvalid) as refused:
        await lab.app.send(sent)
    assert str(refused.value) == told
    with pytest.raises(EventInvalid) as refused:
        await lab.app.send([EmailSend(1), sent])
    assert (str(refused.value), refused.value.position) == (f"event 1: {told}", 1)
    assert await lab.wire.call("KEYS", keys.pattern()) == []


async def test_a_name_without_a_type_is_free(lab: Lab) -> None:
    listens(lab, On("email/send"))
    await lab.work()
    await lab.app.send("email/send", {"to": "nobody"})
    assert (await lab.one()).status == "completed"


async def test_what_fits_any_of_a_names_types_is_sent(lab: Lab) -> None:
    listens(lab, EmailSend, "old")
    listens(lab, EmailSendNew, "new")
    for data in ({"userId": 1}, {"to": "ada"}):
        await lab.app.send("email/send", data)
    with pytest.raises(EventInvalid):
        await lab.app.send("email/send", {"to": 7})


async def test_a_run_that_sends_what_does_not_fit_fails_and_names_the_field(lab: Lab) -> None:
    listens(lab, EmailSend)

    @lab.app.function("order", on="order/paid")
    async def order(ctx: Context, step: Step) -> None:
        await step.send_event("tell", [{"name": "email/send", "data": {"userId": 1}}, EmailSend("ada")])  # type: ignore[arg-type]

    await lab.work()
    await lab.app.send("order/paid", {})
    run = await lab.one()
    assert (run.status, run.error.message) == (
        "failed",
        "step 'tell': event 1: data.userId: Expected `int`, got `str`",
    )
    assert await lab.wire.call("XLEN", keys.events("email/send")) == 0


async def test_an_event_may_be_a_dict_like_the_body_of_a_request(lab: Lab) -> None:
    sent = {"name": "email/send", "data": {"userId": 1}, "id": "mine", "ts": 1_700_000_000_123, "v": "2"}
    assert await lab.app.send(sent) == "mine"
    assert await lab.app.send([sent, {"name": "order/paid"}]) == ["mine", await last_id(lab, "order/paid")]
    assert set(await lab.wire.call("ZRANGE", keys.event_names(), 0, -1)) == {b"email/send", b"order/paid"}


async def last_id(lab: Lab, name: str) -> str:
    return (await lab.wire.call("XREVRANGE", keys.events(name), "+", "-", "COUNT", 1))[0][1][1].decode()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"data": {"a": 1}}, "name: is missing: a dict is a whole event"),
        ({"a": 1}, "name: is missing: a dict is a whole event"),
        ({"name": 5}, "name: must be text, got int"),
        ({"name": "a", "dta": {}}, "dta: is no field of an event, which has name, data, id, ts, v"),
        ({"name": "a", "data": [1]}, "data: must be an object, got list"),
        ({"name": "a", "data": "x"}, "data: must be an object, got str"),
        ({"name": "a", "id": 7}, "id: must be text, got int"),
        ({"name": "a", "ts": "now"}, "ts: must be Unix milliseconds, got str"),
        (["a", "b"], "event 0: name: is none: a str is no event"),
        ([("a", {})], "name: is none: a tuple is no event"),
        (5, "name: is none: a int is no event"),
        ((one for one in ()), "name: is none: a generator is no event"),
        ([], "0 events; send a list of 1 to 5000"),
    ],
)
async def test_what_is_no_event_is_refused_with_what_to_write(lab: Lab, sent: Any, told: str) -> None:
    with pytest.raises(EventInvalid) as refused:
        await lab.app.send(sent)
    assert str(refused.value).startswith(told)
    assert await lab.wire.call("KEYS", keys.pattern()) == []


async def test_an_event_that_is_given_twice_is_refused(lab: Lab) -> None:
    send: Any = lab.app.send
    for arguments, more in (
        (({"name": "a"}, {"b": 1}), {}),
        ((EmailSend(1), {"b": 1}), {}),
        (([EmailSend(1)], {"b": 1}), {}),
        (([EmailSend(1)],), {"id": "x"}),
        (({"name": "a", "id": "x"},), {"id": "y"}),
    ):
        with pytest.raises(EventInvalid):
            await send(*arguments, **more)
    assert await send({"name": "a"}, id="x") == "x"
