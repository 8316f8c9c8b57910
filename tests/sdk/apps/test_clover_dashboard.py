"""clover-dashboard, Next.js route handlers and SDK v3.54: a route that answers at once, and a job with many steps."""

from typing import Any

import pytest

from tests.sdk.apps.conftest import Started
from tests.sdk.apps.project import AFTER_A_BROKEN_CALL_S, Project
from tests.support import until

pytestmark = pytest.mark.sdk


@pytest.fixture
def clover(started: Started) -> Project:
    return started("clover-dashboard")


def ask(clover: Project, brand: str, queries: list[str], models: list[str]) -> dict[str, Any]:
    """Ask for a collection; return what its run's event has."""
    answer = clover.web.post("/api/collections", json={"brand": brand, "queries": queries, "models": models})
    assert answer.status_code == 202, answer.text
    return {"collection_id": answer.json()["id"]}


@pytest.mark.criterion("accepted", "never-itself", "status-page", "slow")
def test_the_route_answers_while_the_job_goes_on(clover: Project) -> None:
    clover.tell({"ask/opus/slow": {"hold": True}})
    asked = ask(clover, "clover", ["slow"], ["opus", "gpt"])
    run = until(lambda: clover.of("collection", asked), "the job has begun")[0]
    clover.step(run, "ask gpt: slow", "completed")
    assert clover.of("collection", asked)[0]["status"] not in {"completed", "failed"}
    assert run["id"] in clover.http.get("/runs").text
    assert (
        next(one for one in clover.web.get("/api/collections").json() if one["id"] == asked["collection_id"])["answers"]
        is None
    )
    clover.tell({})
    assert clover.output("collection", asked)["answers"] == 2


@pytest.mark.criterion("steps")
def test_a_step_for_each_pair_then_one_that_stores(clover: Project) -> None:
    asked = ask(clover, "clover", ["q1", "q2", "q3"], ["sonnet", "gemini"])
    run = clover.ended("collection", asked)[0]
    assert (run["status"], run["output"]["answers"]) == ("completed", 6)
    pairs = {f"ask {model}: {query}" for query in ("q1", "q2", "q3") for model in ("sonnet", "gemini")}
    steps = clover.steps(run)
    assert set(steps) == pairs | {"store"}
    assert all(steps["store"]["started"] >= steps[one]["ended"] for one in pairs)
    stored = next(one for one in clover.web.get("/api/collections").json() if one["id"] == asked["collection_id"])
    assert sum(one["mentions"] for one in stored["answers"]) == run["output"]["mentions"]


@pytest.mark.criterion("refused")
def test_bad_input_is_refused_and_nothing_is_published(clover: Project) -> None:
    body = {"brand": "", "queries": ["q"], "models": ["opus", "bard"]}
    before = len(clover.runs("collection"))
    answer = clover.web.post("/api/collections", json=body)
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, ["brand", "models"])
    asked = ask(clover, "marker", ["q"], ["opus"])
    clover.output("collection", asked)
    assert len(clover.runs("collection")) == before + 1


@pytest.mark.criterion("no-store")
def test_what_cannot_be_published_leaves_no_collection(clover: Project) -> None:
    assert clover.site is not None
    clover.site.kill()
    clover.site.wait(10)
    answer = clover.web.post("/api/collections", json={"brand": "unheard", "queries": ["q"], "models": ["opus"]})
    clover.start_site()
    assert answer.status_code == 503
    assert "unheard" not in {one["brand"] for one in clover.web.get("/api/collections").json()}


@pytest.mark.criterion("fails")
def test_a_model_that_fails_twice_is_asked_again_alone(clover: Project) -> None:
    clover.tell({"ask/opus/flaky": {"fail": 2}})
    asked = ask(clover, "clover", ["flaky"], ["opus", "gpt", "gemini"])
    assert clover.output("collection", asked)["answers"] == 3
    assert [clover.called(f"ask/{model}/flaky") for model in ("opus", "gpt", "gemini")] == [3, 1, 1]


@pytest.mark.criterion("worker-killed")
def test_the_worker_is_killed_while_steps_run_side_by_side(clover: Project) -> None:
    clover.tell({"ask/gpt/killed": {"hold": True}})
    asked = ask(clover, "clover", ["killed"], ["opus", "gpt", "gemini"])
    run = until(lambda: clover.of("collection", asked), "the job has begun")[0]
    for model in ("opus", "gemini"):
        clover.step(run, f"ask {model}: killed", "completed")
    clover.wait_called("ask/gpt/killed")
    clover.kill_worker()
    clover.wait_called("ask/gpt/killed", 2)
    clover.tell({})
    assert clover.output("collection", asked)["answers"] == 3
    assert [clover.called(f"ask/{model}/killed") for model in ("opus", "gemini")] == [1, 1]


@pytest.mark.criterion("app-killed")
def test_the_application_is_killed_in_the_middle_of_a_step(clover: Project) -> None:
    clover.tell({"ask/gpt/crash": {"hold": True}})
    asked = ask(clover, "clover", ["crash"], ["opus", "gpt", "gemini"])
    run = until(lambda: clover.of("collection", asked), "the job has begun")[0]
    for model in ("opus", "gemini"):
        clover.step(run, f"ask {model}: crash", "completed")
    clover.wait_called("ask/gpt/crash")
    clover.app.kill()
    clover.tell({})
    clover.restart_app()
    done = clover.ended("collection", asked, within=AFTER_A_BROKEN_CALL_S)[0]
    assert (done["status"], done["output"]["answers"]) == ("completed", 3)
    assert [clover.called(f"ask/{model}/crash") for model in ("opus", "gpt", "gemini")] == [1, 2, 1]
