"""The function and the actions, under the harness."""

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from plushify.actions import MOST_BYTES, NotYours, retry, status, submit
from plushify.functions import GenerateRequested, Made, app, generate_plushie
from plushify.pictures import Look, photo
from plushify.studio import Refused, Status, Studio
from stand_ins import calls, tell

from stepstream import Concurrency, Exponential, Harness, Retry

PHOTO = photo("#88aadd")
STEPS = ["upload-original", "analyze-image", "generate-plushie", "upload-generated", "finalize"]


def blobs(folder: Path) -> list[str]:
    """Return the names of the blobs there are."""
    return sorted(path.name for path in (folder / "blobs").rglob("*") if path.is_file())


@pytest.mark.criterion("steps", "finalize", "submit")
async def test_a_photo_becomes_a_plushie_in_five_steps_for_one_credit(
    harness: Callable[..., Harness], studio: Studio, tmp_path: Path
) -> None:
    async with harness(app) as bus:
        asked = await submit(studio, "ada", "image/png", PHOTO)
        assert (asked.status, str(await studio.credits("ada"))) == (Status.PROCESSING, "9 available (1 in use)")
        await bus.idle()
        assert list(await bus.steps(generate_plushie)) == STEPS
        made = await bus.output(generate_plushie)
        assert made == Made(f"{asked.id}/{(await bus.run()).id}/plushie.png", 9)
    assert (await status(studio, "ada", asked.id)).status is Status.COMPLETED
    assert str(await studio.credits("ada")) == "9 available (0 in use)"
    with Image.open(BytesIO(await studio.plushie(asked.id))) as image:
        assert (image.format, image.size) == ("PNG", (320, 320))
    assert blobs(tmp_path) == ["original.png", "plushie.png"]


async def test_a_request_that_is_sent_twice_makes_one_plushie(harness: Callable[..., Harness], studio: Studio) -> None:
    asked = await studio.begin("g1", "ada", "image/png", PHOTO)
    request = GenerateRequested(asked.id, asked.user, base64.b64encode(PHOTO).decode(), asked.image_type)
    async with harness(app) as bus:
        for _ in range(2):
            await app.send(request, id=asked.asked_by)
        await bus.idle()
        assert [run.status for run in await bus.runs(generate_plushie)] == ["completed"]
    assert str(await studio.credits("ada")) == "9 available (0 in use)"


@pytest.mark.criterion("retries", "five-at-once")
def test_it_is_tried_three_times_more_and_five_of_a_user_run_at_once() -> None:
    assert generate_plushie.retry == Retry(3, backoff=Exponential("1s", 2, "1m"))
    assert generate_plushie.flow.concurrency == (Concurrency(5, key="event.data.userId"),)


@pytest.mark.criterion("five-at-once")
async def test_of_seven_of_a_users_five_run_and_another_users_do_not_wait(harness: Callable[..., Harness]) -> None:
    running, most, all_there = Counter[str](), Counter[str](), asyncio.Event()

    async def look(_original: Path, generation: str) -> Look:
        user = generation.partition("-")[0]
        running[user] += 1
        most[user] = max(most[user], running[user])
        if running == {"ada": 5, "ben": 2}:
            all_there.set()
        await all_there.wait()
        running[user] -= 1
        return Look(1, 1, "#000000")

    def asked(user: str, n: int) -> GenerateRequested:
        return GenerateRequested(f"{user}-{n}", user, base64.b64encode(PHOTO).decode(), "image/png")

    async with harness(app) as bus:
        bus.stub("analyze-image", call=look)
        bus.stub("finalize", 9)
        await app.send([*(asked("ada", n) for n in range(7)), *(asked("ben", n) for n in range(2))])
        await bus.idle()
        assert [run.status for run in await bus.runs(generate_plushie)] == ["completed"] * 9
    assert most == {"ada": 5, "ben": 2}


@pytest.mark.criterion("retries")
async def test_an_overloaded_model_is_asked_again_later_and_later(
    harness: Callable[..., Harness], studio: Studio, told: Path
) -> None:
    tell(told, {"model/draw/*": {"fail": 2}})
    async with harness(app) as bus:
        await submit(studio, "ada", "image/png", PHOTO)
        await bus.idle()
        first = bus.now
        await bus.finish()
        assert (await bus.steps())["generate-plushie"].attempts == 3
        assert 2_000 <= bus.now - first <= 4_500, "a second, then two"
        assert (await bus.run()).status == "completed"
    made = calls(told)
    assert sorted(made.values()) == [1, 1, 1, 1, 3]


@pytest.mark.criterion("on-failure", "retry")
async def test_a_failed_one_is_cleaned_up_costs_nothing_and_can_be_tried_again(
    harness: Callable[..., Harness], studio: Studio, told: Path, tmp_path: Path
) -> None:
    tell(told, {"blob/plushie.png": {"fail": 4}})
    async with harness(app) as bus:
        asked = await submit(studio, "ada", "image/png", PHOTO)
        await bus.idle()
        assert blobs(tmp_path) == ["original.png"]
        with pytest.raises(Refused, match="Only a generation that has failed"):
            await retry(studio, "ada", asked.id)
        await bus.finish()
        assert (await bus.run(generate_plushie)).status == "failed"
        failed = await status(studio, "ada", asked.id)
        assert (failed.status, "does not answer" in failed.error) == (Status.FAILED, True)
        assert await bus.output("plushify-generate-plushie-failure") == ["original.png"]
        assert blobs(tmp_path) == []
        assert str(await studio.credits("ada")) == "10 available (0 in use)"
        with pytest.raises(NotYours):
            await retry(studio, "ben", asked.id)
        again = await retry(studio, "ada", asked.id)
        assert (again.id, again.tries) == (asked.id, 2)
        await bus.finish()
        assert [run.status for run in await bus.runs(generate_plushie)] == ["failed", "completed"]
    assert (await status(studio, "ada", asked.id)).status is Status.COMPLETED
    assert str(await studio.credits("ada")) == "9 available (0 in use)"
    with pytest.raises(Refused):
        await retry(studio, "ada", asked.id)


@pytest.mark.criterion("on-failure")
async def test_what_is_no_image_fails_at_once_and_what_is_cancelled_too(
    harness: Callable[..., Harness], studio: Studio, told: Path, tmp_path: Path
) -> None:
    tell(told, {"model/look/*": {"fail": 1}})
    async with harness(app) as bus:
        cancelled = await submit(studio, "ada", "image/png", PHOTO)
        await bus.idle()
        await bus.cancel((await bus.run(generate_plushie)).id)
        broken = await submit(studio, "ada", "image/jpeg", b"this is no image")
        await bus.idle()
    assert (await status(studio, "ada", cancelled.id)).error == "cancelled by a test"
    assert (await status(studio, "ada", broken.id)).error == "this is not an image that can be read"
    assert str(await studio.credits("ada")) == "10 available (0 in use)"
    assert blobs(tmp_path) == []


@pytest.mark.criterion("finalize")
async def test_one_credit_is_taken_however_often_the_step_is_done(studio: Studio) -> None:
    every = [(await studio.begin(f"g{n}", "ada", "image/png", PHOTO)).id for n in range(3)]
    left = await asyncio.gather(*(studio.complete(id, "ada", "x.png") for id in every * 4))
    assert min(left) == 7
    assert str(await studio.credits("ada")) == "7 available (0 in use)"


@pytest.mark.criterion("on-failure")
async def test_a_clean_up_that_comes_late_does_not_touch_the_retry(studio: Studio) -> None:
    first = await studio.begin("g1", "ada", "image/png", PHOTO)
    await studio.fail("g1", first.asked_by, "no")
    second = await studio.begin_again("g1", "ada")
    await studio.fail("g1", first.asked_by, "no, once more")
    assert await studio.get("g1") == second


@pytest.mark.criterion("sixth", "credits-checked")
async def test_the_sixth_is_refused_also_when_all_come_at_once(harness: Callable[..., Harness], studio: Studio) -> None:
    async with harness(app) as bus:
        bus.stub("analyze-image", raises=ConnectionError("busy"))
        answers = await asyncio.gather(
            *(submit(studio, "ada", "image/png", PHOTO) for _ in range(7)), return_exceptions=True
        )
        refused = [str(answer) for answer in answers if isinstance(answer, Refused)]
        assert refused == ["You have 5 generations in progress. Please wait for one to complete."] * 2
        await submit(studio, "ben", "image/png", PHOTO)
        assert len(await bus.runs()) <= 6


@pytest.mark.criterion("credits-checked")
async def test_a_credit_that_is_in_use_cannot_be_spent_twice(harness: Callable[..., Harness], studio: Studio) -> None:
    await studio.grant("ada", 2)
    async with harness(app) as bus:
        bus.stub("analyze-image", raises=ConnectionError("busy"))
        answers = await asyncio.gather(
            *(submit(studio, "ada", "image/png", PHOTO) for _ in range(3)), return_exceptions=True
        )
        assert [str(answer) for answer in answers if isinstance(answer, Refused)] == ["You have no credit left."]
        assert str(await studio.credits("ada")) == "0 available (2 in use)"
        await bus.idle()


@pytest.mark.criterion("submit")
@pytest.mark.parametrize(
    ("image_type", "image", "why"),
    [
        ("image/gif", PHOTO, "PNG, JPEG or WebP image, not image/gif"),
        ("", PHOTO, "unknown type"),
        ("image/png", b"", "at most 2 MB"),
        ("image/png", bytes(MOST_BYTES + 1), "at most 2 MB"),
    ],
)
async def test_a_file_of_another_type_or_size_is_refused(
    studio: Studio, image_type: str, image: bytes, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        await submit(studio, "ada", image_type, image)
    assert await studio.of("ada") == []
