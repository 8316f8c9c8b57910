"""The functions under the harness, and what is refused before it is stored."""

from collections.abc import Callable
from pathlib import Path

import pytest
from advert_01.events import EmailSend, ExportPdf, HelloWorld, StrategyGenerate, WebhookDeliver
from advert_01.functions import app
from advert_01.keys import Keys, keys_of
from advert_01.outside import signature
from stand_ins import calls, tell
from structlog.testing import capture_logs

from stepstream import ConfigError, EventInvalid, Harness

Made = Callable[..., Harness]


@pytest.mark.criterion("id", "typed")
def test_the_app_and_its_events_have_their_names() -> None:
    assert app.id == "advert-01"
    kinds = (HelloWorld, EmailSend, StrategyGenerate, ExportPdf, WebhookDeliver)
    assert {kind.event_name for kind in kinds} == {
        "test/hello.world", "email/send", "strategy/generate", "export/pdf", "webhook/deliver",
    }  # fmt: skip


@pytest.mark.criterion("hello")
async def test_hello_world_logs_waits_a_second_and_greets(harness: Made) -> None:
    async with harness(app) as bus:
        with capture_logs() as logged:
            await bus.send(HelloWorld("Ada"))
        assert [line["message"] for line in logged if line["event"] == "hello"] == ["Ada"]
        assert {id: step.state for id, step in (await bus.steps()).items()} == {
            "log-message": "completed", "wait-a-moment": "waiting",
        }  # fmt: skip
        await bus.advance(0.9)
        assert (await bus.run()).status == "waiting"
        with capture_logs() as logged:
            await bus.advance(0.1)
        assert await bus.output() == {"greeting": "Hello, Ada!"}
        assert not [line for line in logged if line["event"] == "hello"], "logged once"


@pytest.mark.criterion("refused")
@pytest.mark.parametrize(
    ("name", "data", "field"),
    [
        ("test/hello.world", {}, "data.message"),
        ("email/send", {"to": 5, "subject": "s", "body": "b"}, "data.to"),
        ("strategy/generate", {"clientId": "c", "goal": "g", "budgetCents": "much"}, "data.budgetCents"),
        ("export/pdf", {"documentId": "d", "paper": "papyrus"}, "data.paper"),
        ("webhook/deliver", {"url": "http://localhost", "payload": {"n": 1}}, "data.payload[...]"),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused_with_its_field_and_not_stored(
    harness: Made, name: str, data: dict[str, object], field: str
) -> None:
    async with harness(app) as bus:
        with pytest.raises(EventInvalid) as refused:
            await bus.send(name, data)
        assert refused.value.field == field
        assert await bus.events(name) == []
        assert await bus.runs() == []


@pytest.mark.criterion("static")
async def test_a_payload_that_does_not_fit_is_an_error_of_the_type_checker(harness: Made) -> None:
    """mypy, strict, reports an ignore that is not needed: so each of these lines is an error without it."""
    async with harness(app) as bus:
        with pytest.raises(EventInvalid):
            await bus.send(EmailSend(5, "subject", "body"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError):
            HelloWorld()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        with pytest.raises(EventInvalid):
            await bus.send(ExportPdf("d", "papyrus"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.criterion("fails")
async def test_a_model_that_fails_is_asked_again_for_that_paragraph_only(harness: Made, told: Path) -> None:
    tell(told, {"model/write/Why more": {"fail": 2}})
    async with harness(app) as bus:
        await bus.send(StrategyGenerate("c1", "more", 50_000))
        await bus.finish()
        assert (await bus.output())["paragraphs"][0] == "Why more: it depends."
    assert dict(calls(told)) == {
        "model/outline": 1, "model/write/Why more": 3, "model/write/How, for 500.00": 1, "model/write/By when": 1,
    }  # fmt: skip


@pytest.mark.criterion("slow")
async def test_a_mail_server_that_hangs_is_given_up_and_tried_again(
    harness: Made, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advert_01.functions.MAIL_WITHIN", "100ms")
    tell(told, {"mail": {"slow": 5}})
    async with harness(app) as bus:
        await bus.send(EmailSend("ada@shop.example", "Hello", "…"))
        step = (await bus.steps())["send"]
        assert (step.state, step.attempts) == ("retrying", 1)
        tell(told, {})
        await bus.finish()
        assert (await bus.run()).status == "completed"
        assert (await bus.steps())["send"].attempts == 2


async def test_a_webhook_is_signed_where_there_is_a_key(harness: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVERT_SIGNING_KEY", "secret")
    async with harness(app) as bus:
        await bus.send(WebhookDeliver("https://shop.example/hook", {"order": "o1"}))
        assert await bus.output() == 202
    assert signature({"order": "o1"}, "secret") == signature({"order": "o1"}, "secret") != ""
    assert signature({"order": "o1"}, None) == ""


@pytest.mark.criterion("no-keys", "keys")
def test_keys_may_be_absent_in_development_and_not_in_production() -> None:
    assert keys_of({}) == Keys(None, None)
    both = {"BUS_EVENT_KEYS": "e", "ADVERT_SIGNING_KEY": "s"}
    assert keys_of({**both, "ADVERT_ENV": "production"}) == Keys("e", "s")
    for missing in both:
        left = {name: value for name, value in both.items() if name != missing}
        with pytest.raises(ConfigError, match=f"{missing} is not set"):
            keys_of({**left, "ADVERT_ENV": "production"})
