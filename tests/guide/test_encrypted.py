"""The harness and replays with BUS_CODEC: what is stored is sealed, and a test sees what its functions saw."""

import pytest

from stepstream import Bus, Context, EventData, Step
from stepstream.bus.encryption import users_codec
from stepstream.bus.encryption.sealing import is_sealed
from stepstream.bus.values import codec
from stepstream.testing import Harness, Recording, replay


@pytest.fixture(autouse=True)
def encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process that has a codec, as its environment says."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    monkeypatch.setenv("BUS_CODEC", "tests.codecs:own")


class Ordered(EventData, name="shop/ordered"):
    order: str


def shop() -> Bus:
    app = Bus("shop")

    @app.function("ship", on=Ordered)
    async def ship(ctx: Context[Ordered], step: Step) -> str:
        label = await step.run("label", lambda: f"label of {ctx.event.data.order}")
        await step.sleep("nap", "1d")
        return label

    return app


async def recorded() -> Recording:
    async with Harness(shop()) as bus:
        await bus.send(Ordered("o1"))
        await bus.finish()
        run = await bus.run()
        step = (await bus.steps())["label"]
        assert (await bus.output(), step.result) == ("label of o1", "label of o1")
        assert (bytes(run.output or b""), bytes(step.data or b"")) == (b'"label of o1"', b'"label of o1"')
        assert codec.decode(run.event or b"")["data"] == {"order": "o1"}
        return codec.decode_as(codec.encode(await bus.record()), Recording)


async def test_a_test_sees_opened_data_and_a_recording_holds_it_sealed_and_is_replayed() -> None:
    found = await recorded()

    assert is_sealed(bytes(found.event))
    assert is_sealed(bytes(found.output))
    assert is_sealed(bytes(found.steps["label"].data))
    assert replay(shop(), found).told == "it completes with the output it had"


async def test_a_recording_is_replayed_in_a_process_that_has_met_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await recorded()
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)

    assert replay(shop(), found).verdict == "completed"


async def test_a_replay_says_what_it_cannot_open(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await recorded()
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    monkeypatch.delenv("BUS_CODEC")

    assert "set BUS_CODEC" in replay(shop(), found).told
