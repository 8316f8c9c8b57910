"""Encryption where workers have different keys: what one run needs and cannot have keeps nothing from the others."""

import msgspec
import pytest

from stepstream import CancelOn, Context, Step
from stepstream.bus.encryption import users_codec
from stepstream.bus.settings import Settings
from stepstream.checkpoint.read.run.find import get
from tests import codecs
from tests.support import Lab
from tests.system.test_encryption import change_codec


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process of its own codec: one process has one, and the next test is to have another."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    return msgspec.structs.replace(settings, codec="tests.codecs:own")


async def two_waiting(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Let two runs wait, of which the first was begun with a key that this process lacks from now on."""
    await lab.work()
    change_codec(monkeypatch, codecs.new)
    await lab.send("begin", {"n": 1})
    unopened = await lab.first()
    await lab.status(unopened, "waiting")
    change_codec(monkeypatch, codecs.own)
    await lab.send("begin", {"n": 1})
    opened = next(run.id for run in await lab.some(2) if run.id != unopened)
    await lab.status(opened, "waiting")
    return unopened, opened


async def test_an_event_answers_the_runs_that_can_be_opened_and_stays_for_the_one_that_cannot(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("waits", on="begin", retries=0)
    async def waits(ctx: Context, step: Step) -> None:
        await step.wait_for_event("came", "later", if_="event.data.n == async.data.n", timeout="1d")

    unopened, opened = await two_waiting(lab, monkeypatch)
    await lab.send("later", {"n": 1})
    await lab.status(opened, "completed")
    assert (await get(lab.wire, unopened)).status == "waiting"
    assert any(unopened in str(one.fields) for one in lab.notices)
    change_codec(monkeypatch, codecs.both)
    await lab.status(unopened, "completed")


async def test_an_event_cancels_the_runs_that_can_be_opened_and_stays_for_the_one_that_cannot(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("waits", on="begin", retries=0, cancel_on=[CancelOn("stop", if_="event.data.n == async.data.n")])
    async def waits(ctx: Context, step: Step) -> None:
        await step.wait_for_signal("came", f"of {ctx.run_id}", timeout="1d")

    unopened, opened = await two_waiting(lab, monkeypatch)
    await lab.send("stop", {"n": 1})
    await lab.status(opened, "cancelled")
    assert (await get(lab.wire, unopened)).status == "waiting"
    assert any(unopened in str(one.fields) for one in lab.notices)
    change_codec(monkeypatch, codecs.both)
    await lab.status(unopened, "cancelled")
