"""Types at publish: what does not fit the type of its name is refused to whoever sends it, and nothing is stored."""

import json
import sys
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from stepstream import Bus, Context, EventData, EventInvalid, On, Step, StepFailed, event
from stepstream.bus.event import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.schemas import schema_of
from stepstream.bus.wire import keys
from stepstream.bus.wire.types.declared import GONE_MS, OVERLAP_MS, versions_of
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.cli.functions import functions
from stepstream.checkpoint.cli.server.checking import doctor
from stepstream.checkpoint.types import declare_types, disagreements, tidy_types
from stepstream.consumers.upkeep.registration import Registration
from stepstream.producers.cli import send as cli_send
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
    assert await lab.admin.call("KEYS", keys.pattern()) == []


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
        (["a", "b"], "event 0: name: is missing: a str is not an event"),
        ([("a", {})], "name: is missing: a tuple is not an event"),
        (5, "name: is missing: a int is not an event"),
        ((one for one in ()), "name: is missing: a generator is not an event"),
        ([], "0 events; send a list of 1 to 5000"),
    ],
)
async def test_what_is_no_event_is_refused_with_what_to_write(lab: Lab, sent: Any, told: str) -> None:
    with pytest.raises(EventInvalid) as refused:
        await lab.app.send(sent)
    assert str(refused.value).startswith(told)
    assert await lab.admin.call("KEYS", keys.pattern()) == []


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


class Refund(EventData, name="order/refunded"):
    cents: int


def of_nobody(lab: Lab) -> Bus:
    """Return a bus that has no functions: of a process that has not the application."""
    bus = Bus("other")
    bus.connect(lab.wire)
    return bus


async def test_a_process_without_the_application_refuses_too(lab: Lab) -> None:
    listens(lab, EmailSend)
    await lab.work()
    other = of_nobody(lab)
    with pytest.raises(EventInvalid, match=r"^event 1: data\.userId: expected integer, got string$"):
        await other.send([{"name": "free"}, {"name": "email/send", "data": {"userId": "ada"}}])
    assert await lab.wire.call("EXISTS", keys.events("free")) == 0
    assert await lab.wire.call("XLEN", keys.events("email/send")) == 0
    await other.send("email/send", {"userId": 1, "more": True})
    assert (await lab.one()).status == "completed"


async def test_the_api_answers_with_field_error_and_position(lab: Lab, http: TestClient) -> None:
    listens(lab, EmailSend)
    await lab.work()

    def post(body: Any) -> Any:
        answer = http.post("/e/key", json=body)
        told = answer.json()
        return answer.status_code, told.get("event"), told.get("field"), told.get("error"), told["ids"]

    bad = {"name": "email/send", "data": {"userId": "ada"}}
    reason = "data.userId: expected integer, got string"
    assert await anyio.to_thread.run_sync(post, bad) == (400, None, "data.userId", reason, [])
    assert await anyio.to_thread.run_sync(post, [bad]) == (400, 0, "data.userId", f"event 0: {reason}", [])
    both = await anyio.to_thread.run_sync(post, [{"name": "a"}, bad])
    assert both == (400, 1, "data.userId", f"event 1: {reason}", [])
    assert await lab.wire.call("EXISTS", keys.events("a")) == 0


async def test_a_new_type_counts_at_once_and_the_old_one_while_its_workers_say_so(lab: Lab) -> None:
    old, new = app_with(EmailSend), app_with(EmailSendNew)
    other = of_nobody(lab)
    await other.send("email/send", {"free": True})
    await declare_types(lab.wire, list(old.functions.values()))
    await other.send("email/send", {"userId": 1})
    other = of_nobody(lab)
    with pytest.raises(EventInvalid):
        await other.send("email/send", {"to": "ada"})
    await declare_types(lab.wire, list(new.functions.values()))
    with pytest.raises(EventInvalid):  # it was read within the last second
        await other.send("email/send", {"to": "ada"})
    other = of_nobody(lab)
    for data in ({"to": "ada"}, {"userId": 1}):
        await other.send("email/send", data)
    await said_before(lab, OVERLAP_MS + 1_000, EmailSend)
    other = of_nobody(lab)
    await other.send("email/send", {"to": "ada"})
    with pytest.raises(EventInvalid):
        await other.send("email/send", {"userId": 1})


def app_with(on: Any, bus: str = "test") -> Bus:
    app = Bus(bus)

    @app.function("email", on=on)
    async def email(ctx: Context[Any], step: Step) -> None:
        return None

    return app


async def test_a_publisher_registers_types_before_the_first_worker_so_that_others_check(
    lab: Lab, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web application is deployed first: `bus send` published what its type refuses."""
    monkeypatch.setenv("BUS_REDIS_URL", settings.redis_url)
    web = app_with(EmailSend)
    await web.send("email/send", {"userId": 1})
    await web.close()
    with pytest.raises(EventInvalid):
        await of_nobody(lab).send("email/send", {"userId": "ada"})
    stands = await lab.wire.call("HGET", keys.types(), "email/send")
    old = app_with(EmailSendNew)
    await old.send("other")
    await old.close()
    assert await lab.wire.call("HGET", keys.types(), "email/send") == stands, "it adds, and replaces nothing"
    await declare_types(lab.wire, list(app_with(EmailSendNew).functions.values()))
    await said_before(lab, OVERLAP_MS + 1_000, EmailSend)
    await of_nobody(lab).send("email/send", {"to": "ada"})


async def said_before(lab: Lab, ms: int, kind: Any = None) -> None:
    """Let declarations be older than they are: of one type, or all."""
    raw = await lab.wire.call("HGET", keys.types(), "email/send")
    versions = versions_of(raw)
    for name, version in versions.items():
        if kind is None or name == schema_of(kind).hash:
            version.buses = {bus: said - ms for bus, said in version.buses.items()}
    await lab.wire.call("HSET", keys.types(), "email/send", codec.encode(versions))


async def test_a_type_that_is_given_up_goes_and_one_that_is_gone_too(lab: Lab) -> None:
    async def names() -> set[bytes]:
        return {name for name in await lab.wire.call("HKEYS", keys.types()) if not name.startswith(b"bus/")}

    await declare_types(lab.wire, list(app_with(EmailSend).functions.values()))
    assert await names() == {b"email/send"}
    await declare_types(lab.wire, list(app_with("email/send").functions.values()))
    await said_before(lab, OVERLAP_MS + 1_000, EmailSend)
    await of_nobody(lab).send("email/send", {"free": True})
    await declare_types(lab.wire, list(app_with(EmailSend).functions.values()))
    with pytest.raises(EventInvalid):
        await of_nobody(lab).send("email/send", {"free": True})
    await said_before(lab, GONE_MS + 1_000)
    await of_nobody(lab).send("email/send", {"free": True})
    await tidy_types(lab.wire, 0)
    assert await names() == set()


@pytest.mark.leaves_behind("no worker comes")
async def test_a_type_of_a_function_that_was_removed_refuses_nothing_when_its_bus_has_gone_on(lab: Lab) -> None:
    """Such events were refused for seven days, though nobody was there to take them."""
    with_it, without = app_with(EmailSend), Bus("test")

    @without.function("another", on="another")
    async def another(ctx: Context[Any], step: Step) -> None: ...

    await declare_types(lab.wire, list(with_it.functions.values()))
    registration = Registration(lab.wire, list(without.functions.values()))
    await registration.once()
    with pytest.raises(EventInvalid):  # workers of the version before may be there still
        await of_nobody(lab).send("email/send", {"free": True})
    await said_before(lab, OVERLAP_MS + 1_000, EmailSend)
    await of_nobody(lab).send("email/send", {"free": True})
    await declare_types(lab.wire, list(with_it.functions.values()))
    await said_before(lab, 40_000)
    await registration.once()
    with pytest.raises(EventInvalid):  # another worker of the bus has the function
        await of_nobody(lab).send("email/send", {"free": True})


async def test_what_fits_the_type_of_any_bus_is_sent_and_that_they_differ_is_told(lab: Lab) -> None:
    listens(lab, EmailSend)
    worker = await lab.work()
    await declare_types(lab.wire, list(app_with(EmailSendNew, "mail").functions.values()))
    for bus in (lab.app, of_nobody(lab)):
        await bus.send("email/send", {"to": "ada"})
        with pytest.raises(EventInvalid, match=r"data\.userId"):
            await bus.send("email/send", {"to": 1})
    assert [one.words for one in await disagreements(lab.wire)] == [
        "mail and test disagree about the type of email/send in subject, to, userId"
    ]
    registration = Registration(lab.wire, worker._assembly.functions, worker.signals)
    for _ in range(2):
        await registration.once()
    told = [one.event for one in lab.notices]
    assert told == [
        "mail and test disagree about the type of email/send in subject, to, userId: what fits either is sent"
    ]
    await lab.ended(2)


async def test_two_buses_with_one_type_agree_whatever_their_classes_are_called(lab: Lab) -> None:
    class Email(EventData, name="email/send", rename="camel"):
        """Another docstring."""

        user_id: int
        subject: str = "hello"

    await declare_types(lab.wire, list(app_with(EmailSend).functions.values()))
    assert await declare_types(lab.wire, list(app_with(Email, "mail").functions.values())) == []
    assert await disagreements(lab.wire) == []


@pytest.mark.parametrize("spoilt", ["gone", "of another kind", "by hand"])
@pytest.mark.leaves_behind("its key is spoilt")
async def test_events_are_published_when_their_types_cannot_be_read(lab: Lab, spoilt: str) -> None:
    listens(lab, EmailSend)
    await lab.work()
    await lab.wire.call("DEL", keys.types())
    if spoilt == "of another kind":
        await lab.wire.call("SET", keys.types(), "x")
    elif spoilt == "by hand":
        await lab.wire.call("HSET", keys.types(), "email/send", "{oops")
    await of_nobody(lab).send("email/send", {"userId": "ada"})
    assert await disagreements(lab.wire) == []
    run = await lab.one()
    assert (run.status, run.error.name) == ("failed", "event_invalid")
    with pytest.raises(EventInvalid):  # who has the type, knows
        await lab.app.send("email/send", {"userId": "ada"})


async def test_types_cost_a_publisher_one_question_for_each_name(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    listens(lab, EmailSend)
    await lab.work()
    asked: list[str] = []
    ask = lab.wire.ask

    async def counted(right: Any, *arguments: Any) -> Any:
        asked.extend(right.command)
        return await ask(right, *arguments)

    monkeypatch.setattr(lab.wire, "ask", counted)
    other = of_nobody(lab)
    for _ in range(5):
        await other.send([NewEvent("email/send", {"userId": 1}), NewEvent("free")])
    assert asked.count("HMGET") == 1
    asked.clear()
    for _ in range(5):
        await lab.app.send(EmailSend(1))
    assert "HMGET" not in asked
    await lab.ended(10)


@pytest.mark.process
async def test_who_sends_types_of_its_own_loads_no_validator() -> None:
    code = (
        "import sys, stepstream, stepstream.consumers.worker, stepstream.web.app, stepstream.producers.cli;"
        "sys.exit('jsonschema_rs' in sys.modules)"
    )
    assert (await anyio.run_process([sys.executable, "-c", code], check=False)).returncode == 0


async def test_what_is_invoked_with_the_wrong_data_fails_at_the_call(lab: Lab, http: TestClient) -> None:
    @lab.app.function("refund", on=Refund)
    async def refund(ctx: Context[Refund], step: Step) -> int:
        return ctx.event.data.cents

    @lab.app.function("plain")
    async def plain(ctx: Context[Refund], step: Step) -> int:
        return ctx.event.data.cents

    @lab.app.function("order", on="order/paid")
    async def order(ctx: Context, step: Step) -> list[Any]:
        answers: list[Any] = [
            await step.invoke("good", refund, {"cents": 2}),
            await step.invoke("too", plain, Refund(3)),
        ]
        for callee, data in (
            (refund, {"cents": "x"}),
            (plain, {}),
            ("test-refund", {"cents": "x"}),
            ("test-plain", {}),
        ):
            try:
                answers.append(await step.invoke("bad", callee, data))
            except StepFailed as error:
                answers.append(f"{error.name} {error.message}")
        await step.sleep("nap", 0.01)
        return answers

    await lab.work()
    await lab.app.send("order/paid", {})
    runs = await lab.ended(3)
    told = next(json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-order")
    assert told == [
        2, 3,
        "event_invalid data.cents: Expected `int`, got `str`", "event_invalid data.cents: is missing",
        "event_invalid data.cents: expected integer, got string", "event_invalid data.cents: is missing",
    ]  # fmt: skip
    for slug in ("test-refund", "test-plain"):
        with pytest.raises(EventInvalid, match=r"data\.cents: expected integer, got string"):
            await invoke(lab.wire, slug, {"cents": "x"})
    answer = await anyio.to_thread.run_sync(lambda: http.post("/invoke/test-refund", json={"data": {"cents": "x"}}))
    assert (answer.status_code, answer.json()["field"]) == (400, "data.cents")
    assert len(await lab.runs()) == 3


class Image:
    """What JSON does not have."""


class Label(BaseModel):
    code: str


@dataclass
class Box:
    labels: list[Label]
    size: tuple[int, int] = (1, 2)


async def test_a_step_that_returns_what_is_not_json_is_refused_before_its_body_runs(lab: Lab) -> None:
    ran: list[str] = []

    def draw() -> Image:
        ran.append("draw")
        return Image()

    async def draw_several() -> dict[str, list[Image]]:
        ran.append("several")
        return {}

    def maybe() -> Image | None:
        ran.append("maybe")
        return None

    @lab.app.function("f", on="a")
    async def f(ctx: Context, step: Step) -> list[str]:
        told: list[str] = []
        for target in (draw, draw_several, maybe, Image, partial(draw)):
            try:
                await step.run("draw", target)
            except StepFailed as error:
                told.append(error.message)
        return told

    await lab.work()
    await lab.app.send("a")
    told = await lab.output()
    assert len(told) == 5
    assert ran == []
    assert told[0] == (
        "step 'draw' was not run: it returns a Image, which is not JSON; "
        "return plain values, a dataclass or a Pydantic model; or store it, and return where it is"
    )


async def test_what_a_step_returns_is_what_its_callable_says_also_of_a_class_and_of_what_is_awaited(lab: Lab) -> None:
    seen: list[Any] = []

    def awaited() -> Awaitable[Box]:
        async def later() -> Box:
            return Box([Label(code="a")])

        return later()

    class Maker:
        def __call__(self, code: str) -> Label:
            return Label(code=code)

    def rows() -> Iterable[Label]:
        return [Label(code="b")]

    def several() -> dict[str, Label | None]:
        return {"a": Label(code="c"), "b": None}

    @lab.app.function("f", on="a")
    async def f(ctx: Context, step: Step) -> None:
        found = [
            await step.run("awaited", awaited),
            await step.run("class", Box, [Label(code="d")]),
            await step.run("object", Maker(), "e"),
            await step.run("several", several),
            await step.run("rows", rows),
        ]
        await step.sleep("nap", 0.01)
        seen.append(found)

    await lab.work()
    await lab.app.send("a")
    assert (await lab.one()).status == "completed"
    label = {"code": "b"}  # an iterable does not say what of it is kept
    expected = [
        Box([Label(code="a")]),
        Box([Label(code="d")]),
        Label(code="e"),
        {"a": Label(code="c"), "b": None},
        [label],
    ]
    assert seen[-1] == expected


async def test_buses_that_disagree_are_shown_wherever_functions_are(
    lab: Lab, http: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listens(lab, EmailSend)
    await lab.work()
    await declare_types(lab.wire, list(app_with(EmailSendNew, "mail").functions.values()))
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    words = "mail and test disagree about the type of email/send in subject, to, userId"

    def look() -> None:
        listed = http.get("/v1/functions").json()["disagreements"]
        assert listed == [{"event": "email/send", "buses": ["mail", "test"], "fields": ["subject", "to", "userId"]}]
        assert http.get("/v1/functions/test-email").json()["data"]["disagreements"] == listed
        assert words in http.get("/functions/test-email", headers={"accept": "text/html"}).text
        functions()
        assert words in capsys.readouterr().out
        doctor(as_json=True)
        found = [one for one in json.loads(capsys.readouterr().out) if one["check"] == "types"]
        assert [(one["verdict"], one["found"]) for one in found] == [("advice", words)]

    await anyio.to_thread.run_sync(look)


async def test_bus_send_says_the_field(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    listens(lab, Refund)
    await lab.work()
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)

    def typed(*words: str) -> None:
        with pytest.raises(EventInvalid, match=r"^data\.cents: expected integer, got string$"):
            cli_send("order/refunded", list(words))

    await anyio.to_thread.run_sync(typed, "cents=abc")
    await anyio.to_thread.run_sync(typed, '{"cents": "5"}')
    assert await lab.wire.call("XLEN", keys.events("order/refunded")) == 0
