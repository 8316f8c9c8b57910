"""The web front, with a worker in a process of its own where a plushie has to be made."""

import time
from pathlib import Path

import msgspec
import pytest
from plushify.pictures import photo
from plushify.studio import Generation, Status
from stand_ins import CRASHED, Supervised, calls, lose_redis, tell
from starlette.testclient import TestClient

APP = "plushify.functions:app"
PHOTO = photo("#88aadd")
PNG = {"content-type": "image/png"}


class Shown(msgspec.Struct):
    """What GET /api/gallery answers."""

    credits: str
    generations: list[Generation]


def shown(http: TestClient) -> Shown:
    """Return what the gallery shows."""
    return msgspec.json.decode(http.get("/api/gallery").content, type=Shown)


def until(http: TestClient, id: str, wanted: Status) -> Generation:
    """Wait until a generation has a status."""
    latest = time.monotonic() + 30
    while True:
        found = msgspec.json.decode(http.get(f"/api/generations/{id}").content, type=Generation)
        if found.status is wanted:
            return found
        assert time.monotonic() < latest, found
        time.sleep(0.05)


@pytest.mark.criterion("submit", "status", "retry", "gallery", "credits-shown", "slow", "crashes")
def test_from_the_photo_to_the_gallery_through_a_crash(
    http: TestClient, redis_url: str, told: Path, tmp_path: Path
) -> None:
    with Supervised(APP, redis_url, tmp_path) as worker:
        tell(told, {"blob/original.jpeg": {"slow": 60}})
        slow = http.post("/api/generations", content=PHOTO, headers={"content-type": "image/jpeg"}).json()["id"]
        began = time.monotonic()
        answer = http.post("/api/generations", content=PHOTO, headers=PNG)
        assert (answer.status_code, time.monotonic() - began < 0.5) == (202, True), answer.text
        quick = answer.json()["id"]
        until(http, quick, Status.COMPLETED)
        assert http.get(f"/images/{quick}/plushie").content.startswith(b"\x89PNG")
        assert shown(http).credits == "8 available (1 in use)", "the slow one holds up itself only"

        tell(told, {"model/draw/*": {"crash": 1}})
        crashed = http.post("/api/generations", content=PHOTO, headers=PNG).json()["id"]
        until(http, crashed, Status.COMPLETED)
        until(http, slow, Status.COMPLETED)
        assert worker.exit_codes == [CRASHED]
        made = calls(told)
        assert (made[f"model/look/{crashed}"], made[f"model/draw/{crashed}"]) == (1, 2)

        broken = http.post("/api/generations", content=b"no image", headers=PNG).json()["id"]
        failed = until(http, broken, Status.FAILED)
        assert "not an image" in failed.error
        assert http.post(f"/api/generations/{quick}/retry").status_code == 409
        assert http.post(f"/api/generations/{broken}/retry").status_code == 202
        assert until(http, broken, Status.FAILED).tries == 2
        assert http.get(f"/images/{broken}/original").content == b"no image", "the photo is kept"
    gallery = shown(http)
    assert gallery.credits == "7 available (0 in use)"
    assert [one.status for one in gallery.generations] == ["failed", "completed", "completed", "completed"]


@pytest.mark.criterion("status", "retry")
def test_nobody_but_the_owner_is_told_anything(http: TestClient) -> None:
    id = http.post("/api/generations", content=PHOTO, headers=PNG).json()["id"]
    assert http.get(f"/api/generations/{id}").json()["status"] == "processing"
    assert http.get(f"/images/{id}/plushie").status_code == 404, "it is not made yet"
    http.cookies.set("plushify-user", "ben")
    nothing = {"error": "There is no such generation of yours."}
    for path in (f"/api/generations/{id}", f"/images/{id}/original", f"/images/{id}/plushie", "/api/generations/none"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()) == (404, nothing), path
    assert http.post(f"/api/generations/{id}/retry").status_code == 404
    assert shown(http).generations == []


@pytest.mark.criterion("sixth", "submit")
def test_what_is_refused_says_why(http: TestClient) -> None:
    for _ in range(5):
        assert http.post("/api/generations", content=PHOTO, headers=PNG).status_code == 202
    sixth = http.post("/api/generations", content=PHOTO, headers=PNG)
    told = "You have 5 generations in progress. Please wait for one to complete."
    assert (sixth.status_code, sixth.json()) == (409, {"error": told})
    large = http.post("/api/generations", content=bytes(3_000_000), headers=PNG)
    assert (large.status_code, "at most 2 MB" in large.text) == (409, True)
    assert shown(http).credits == "5 available (5 in use)"


def test_without_its_redis_nothing_stays_in_process(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_redis(monkeypatch)
    answer = http.post("/api/generations", content=PHOTO, headers=PNG)
    assert (answer.status_code, "in a minute" in answer.text) == (503, True), answer.text
    assert shown(http).generations == []


@pytest.mark.criterion("polling", "gallery")
def test_the_page_asks_every_three_seconds_for_five_minutes(http: TestClient) -> None:
    answer = http.get("/api/gallery").json()
    assert (answer["pollEveryS"], answer["giveUpAfterS"]) == (3, 300)
    page = http.get("/").text
    assert "watch(one.id, found.pollEveryS, found.giveUpAfterS)" in page
    assert "Try again" in page
