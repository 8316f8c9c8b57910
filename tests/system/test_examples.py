"""The examples run as they say."""

import base64
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from redis.asyncio import Redis

from examples import demo, plushify
from stepstream.bus.bus import NewEvent
from tests.support import Lab


@pytest.fixture
async def studio(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """plushify with its blobs in a folder of the test's, ten credits each, and a quick model."""
    monkeypatch.setattr(plushify, "BLOBS", tmp_path / "blobs")
    monkeypatch.setattr(plushify, "MODEL_SECONDS", 0.01)
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    lab.app = plushify.app
    plushify.app.connect(lab.wire)
    redis = Redis.from_url(lab.settings.redis_url)
    for user in demo.USERS:
        await redis.set(plushify.credits_key(user), 10)
    await lab.work(app=plushify.app)
    yield redis
    await redis.aclose()


async def test_plushify_makes_plushies_takes_a_credit_each_and_refuses_what_is_no_image(
    lab: Lab, studio: Redis, tmp_path: Path
) -> None:
    events = demo.requests()
    await plushify.app.publish([NewEvent(event["name"], event["data"], event["id"]) for event in events])
    runs = await lab.ended(9, within=15)
    by_event = {msgspec.json.decode(run.event)["id"]: run for run in runs}
    failure = next(run for run in runs if run.function == "plushify-generate-plushie-failure")
    broken = events[6]["data"]["generationId"]
    assert msgspec.json.decode(failure.output) == ["original.png"], "the blob that existed is deleted"
    assert await studio.hget(f"plushify:generation:{broken}", "status") == b"failed"
    assert list((tmp_path / "blobs" / broken).iterdir()) == []
    statuses = [by_event[event["id"]].status for event in events]
    assert statuses == ["completed"] * 6 + ["failed", "completed"]
    steps = await lab.steps(by_event[events[2]["id"]])
    assert list(steps) == ["upload-original", "analyze-image", "generate-plushie", "upload-generated", "finalize"]
    assert steps["generate-plushie"].attempts == 2, "this one met an overloaded model"
    assert [int(await studio.get(plushify.credits_key(user))) for user in demo.USERS] == [7, 6]
    with Image.open(tmp_path / "blobs" / events[0]["data"]["generationId"] / "plushie.png") as plushie:
        assert plushie.size == (256, 256)


async def test_a_request_sent_twice_makes_one_plushie(lab: Lab, studio: Redis) -> None:
    data = {
        "generationId": "g1",
        "userId": "ada",
        "imageData": base64.b64encode(plushify.photo("#88aadd")).decode(),
        "imageType": "image/png",
    }
    for _ in range(2):
        await plushify.app.send("plushie/generate.requested", data, id="g1")
    await lab.ended(1)
    assert int(await studio.get(plushify.credits_key("ada"))) == 9
