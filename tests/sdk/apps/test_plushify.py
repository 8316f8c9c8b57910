"""plushify, Express and SDK v3.46: five at once for each user, credits taken once, clean-up, cancel and retry."""

import base64

import httpx2
import pytest

from tests.patience import PATIENT_S
from tests.sdk.apps.conftest import Started
from tests.sdk.apps.project import AFTER_A_BROKEN_CALL_S, Project
from tests.support import until

pytestmark = pytest.mark.sdk
IMAGE = b"a photo"
PROCESS = ["upload-original", "analyze-image", "generate-plushie", "upload-generated", "finalize"]


@pytest.fixture
def plushify(started: Started) -> Project:
    return started("plushify")


def submit(plushify: Project, user: str, image: bytes = IMAGE, kind: str = "image/png") -> httpx2.Response:
    return plushify.web.post("/api/generations", content=image, headers={"x-user": user, "content-type": kind})


def asked(plushify: Project, user: str) -> str:
    """Submit a photo; return the generation's id."""
    answer = submit(plushify, user)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def status(plushify: Project, user: str, id: str, wanted: str) -> None:
    def look() -> bool:
        return plushify.web.get(f"/api/generations/{id}", headers={"x-user": user}).json()["status"] == wanted

    until(look, f"{id} is {wanted}; {plushify.of('generate-plushie', {'generationId': id})}")


def credits_of(plushify: Project, user: str) -> str:
    return plushify.web.get("/api/gallery", headers={"x-user": user}).json()["credits"]


def blobs(plushify: Project, id: str) -> set[str]:
    return {one.name for one in (plushify.folder / "data/blobs" / id).rglob("*") if one.is_file()}


@pytest.mark.criterion("steps", "submit", "credits-shown", "status", "finalize")
def test_five_steps_and_a_credit(plushify: Project) -> None:
    plushify.tell({"blob/original/*": {"hold": True}})
    id = asked(plushify, "ada")
    assert credits_of(plushify, "ada") == "9 available (1 in use)"
    plushify.tell({})
    run = plushify.ended("generate-plushie", {"generationId": id})[0]
    assert (run["status"], run["output"]["creditsLeft"]) == ("completed", 9)
    assert list(plushify.steps(run)) == PROCESS
    status(plushify, "ada", id, "completed")
    assert credits_of(plushify, "ada") == "9 available (0 in use)"
    assert blobs(plushify, id) == {"original.png", "plushie.png"}
    assert plushify.web.get(f"/api/generations/{id}", headers={"x-user": "eve"}).status_code == 404


@pytest.mark.criterion("submit")
def test_what_is_no_photo_is_refused(plushify: Project) -> None:
    for given in ({"kind": "image/gif"}, {"image": b""}, {"image": b"x" * (2 * 1024 * 1024 + 1)}):
        assert submit(plushify, "ada", **given).status_code == 409  # pyright: ignore[reportArgumentType]


@pytest.mark.criterion("five-at-once", "sixth")
def test_five_of_a_user_at_once_and_the_sixth_waits(plushify: Project) -> None:
    plushify.tell({"model/analyze/bob": {"hold": True}})
    ids = [asked(plushify, "bob") for _ in range(5)]
    plushify.wait_called("model/analyze/bob", 5)
    answer = submit(plushify, "bob")
    words = "You have 5 generations in progress. Please wait for one to complete."
    assert (answer.status_code, answer.json()["error"]) == (409, words)
    sixth = {
        "generationId": "sixth",
        "userId": "bob",
        "imageData": base64.b64encode(IMAGE).decode(),
        "imageType": "image/png",
    }
    plushify.send("plushie/generate.requested", sixth)
    other = asked(plushify, "carol")
    status(plushify, "carol", other, "completed")
    assert (plushify.called("model/analyze/bob"), plushify.called("blob/original/sixth")) == (5, 0)
    plushify.tell({})
    for id in ids:
        status(plushify, "bob", id, "completed")
    run = plushify.ended("generate-plushie", {"generationId": "sixth"})[0]
    assert run["error"]["message"] == "there is no generation sixth"
    assert plushify.called("blob/original/sixth") == 1
    assert credits_of(plushify, "bob") == "5 available (0 in use)"


@pytest.mark.criterion("retries", "on-failure", "retry")
def test_a_model_that_fails_for_good_then_a_retry(plushify: Project) -> None:
    plushify.tell({"model/draw/*": {"fail": 4}})
    id = asked(plushify, "dora")
    run = plushify.ended("generate-plushie", {"generationId": id}, within=PATIENT_S)[0]
    assert (run["status"], run["error"]["message"]) == ("failed", f"model/draw/{id} does not answer")
    assert plushify.called(f"model/draw/{id}") == 4
    assert plushify.steps(run)["generate-plushie"]["attempts"] == 4
    assert run["ended"] - run["started"] >= 7_000, "1 s, 2 s and 4 s between the attempts"
    assert [plushify.called(f"blob/original/{id}"), plushify.called(f"blob/plushie/{id}")] == [1, 0]
    cleaned = until(lambda: plushify.ended("generate-plushie-failure", {"run_id": run["id"]}), "it is cleaned up")[0]
    assert cleaned["output"] == ["original.png"]
    assert blobs(plushify, id) == set()
    status(plushify, "dora", id, "failed")
    assert f'"failed":"{id}"' in plushify.app.log.read_text()
    assert credits_of(plushify, "dora") == "10 available (0 in use)"
    for user, code in ("eve", 404), ("dora", 202), ("dora", 409):
        answer = plushify.web.post(f"/api/generations/{id}/retry", headers={"x-user": user})
        assert answer.status_code == code, answer.text
    status(plushify, "dora", id, "completed")
    assert blobs(plushify, id) == {"original.png", "plushie.png"}
    assert credits_of(plushify, "dora") == "9 available (0 in use)"


@pytest.mark.criterion("cancelled")
def test_an_event_cancels_one_generation(plushify: Project) -> None:
    plushify.tell({"model/draw/*": {"hold": True}})
    first, second = asked(plushify, "fred"), asked(plushify, "fred")
    for id in (first, second):
        plushify.wait_called(f"model/draw/{id}")
    answer = plushify.web.delete(f"/api/generations/{first}", headers={"x-user": "fred"})
    assert answer.status_code == 202
    run = plushify.ended("generate-plushie", {"generationId": first})[0]
    assert run["status"] == "cancelled"
    status(plushify, "fred", first, "failed")
    plushify.ended("generation-cancelled", {"run_id": run["id"]})
    plushify.tell({})
    status(plushify, "fred", second, "completed")
    assert (blobs(plushify, first), credits_of(plushify, "fred")) == (set(), "9 available (0 in use)")


@pytest.mark.criterion("worker-killed", "finalize")
def test_the_worker_is_killed_in_the_middle_of_finalize(plushify: Project) -> None:
    """The application goes on alone and takes the credit; the step is done again by another call, and takes none."""
    plushify.tell({"credits/*": {"hold": True}})
    id = asked(plushify, "gina")
    plushify.wait_called(f"credits/{id}")
    plushify.kill_worker()
    plushify.wait_called(f"credits/{id}", 2)
    plushify.tell({})
    run = plushify.ended("generate-plushie", {"generationId": id})[0]
    assert (run["status"], run["output"]["creditsLeft"]) == ("completed", 9)
    assert credits_of(plushify, "gina") == "9 available (0 in use)"
    assert [plushify.called(f"{one}/{id}") for one in ("blob/original", "model/draw", "blob/plushie")] == [1, 1, 1]


@pytest.mark.criterion("app-killed", "finalize")
def test_the_application_is_killed_in_the_middle_of_a_step(plushify: Project) -> None:
    plushify.tell({"blob/plushie/*": {"crash": 1}})
    id = asked(plushify, "hal")
    plushify.restart_app()
    run = plushify.ended("generate-plushie", {"generationId": id}, within=AFTER_A_BROKEN_CALL_S)[0]
    assert (run["status"], run["output"]["creditsLeft"]) == ("completed", 9)
    assert [plushify.called(f"{one}/{id}") for one in ("blob/original", "model/draw", "blob/plushie")] == [1, 1, 2]
    assert credits_of(plushify, "hal") == "9 available (0 in use)"
