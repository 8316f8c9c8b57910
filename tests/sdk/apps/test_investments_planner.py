"""investments-planner, Express and SDK v4: schedules with zones, six steps in one call, and a fan-out."""

import json
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.sdk.apps.conftest import Started
from tests.sdk.apps.project import AFTER_A_BROKEN_CALL_S, Project
from tests.support import until

pytestmark = pytest.mark.sdk
USERS = ("ada", "ben", "cleo")


@pytest.fixture
def planner(started: Started) -> Project:
    """Each minute instead of each night: the schedule is to be seen."""
    return started("investments-planner", app={"OVERNIGHT_JOB_CRON": "* * * * *"})


def invoke(planner: Project, market: str) -> dict[str, Any]:
    """Start the scoring of a market by hand; return its run."""
    known = {run["id"] for run in planner.runs(f"overnight-scoring-{market}")}
    answer = planner.http.post(f"/invoke/investments-planner-overnight-scoring-{market}", json={"data": {}})
    assert answer.status_code == 200, answer.text
    runs = until(
        lambda: [run for run in planner.runs(f"overnight-scoring-{market}") if run["id"] not in known], "it has begun"
    )
    return runs[0]


def done(planner: Project, run: dict[str, Any], within: float = PATIENT_S) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = planner.http.get(f"/v1/runs/{run['id']}").json()["data"]
        return found if found["status"] in {"completed", "failed", "cancelled"} else None

    found = until(look, f"{run['id']} ends", within)
    assert found is not None
    assert found["status"] == "completed", (found, planner.tail())
    return found


@pytest.mark.criterion("markets", "cron", "events", "put")
def test_its_schedules_are_registered_with_their_zones(planner: Project, started: Started) -> None:
    found = {id: one["on"] for id, one in planner.functions().items()}
    assert found == {
        "overnight-scoring": ["cron * * * * *"], "cache-warmer": ["cache/warming.started"],
        "overnight-scoring-new-york": ["cron 30 17 * * 1-5 America/New_York"],
        "overnight-scoring-tokyo": ["cron 30 16 * * 1-5 Asia/Tokyo"],
    }  # fmt: skip


@pytest.mark.criterion("six-steps", "setup", "warmer", "events", "logs", "timing")
def test_six_steps_then_the_caches_are_warmed(planner: Project) -> None:
    run = done(planner, invoke(planner, "tokyo"))
    steps = planner.steps(run)
    scored = ["score-portfolios", "score-portfolios:1", "score-portfolios:2"]
    before = ["setup", "fetch-exchange-rates", "fetch-asset-prices", "get-active-users"]
    assert list(steps)[:4] == before
    assert sorted(list(steps)[4:7]) == scored
    assert list(steps)[7:] == ["trigger-cache-warming"]
    id = run["output"]["correlationId"]
    assert run["output"] == {"correlationId": id, "scored": 3}
    assert [job["scored"] for job in planner.web.get("/api/jobs").json() if job["correlationId"] == id] == [3]
    warmed = planner.ended("cache-warmer", {"correlationId": id})[0]
    assert warmed["output"] == 2
    warming = ["get-users-for-warming", "warm-recommendations-cache", "warm-dashboard-cache", "completed"]
    assert list(planner.steps(warmed)) == warming
    for name in ("overnight/scoring.started", "overnight/scoring.completed", "cache/warming.completed"):
        told = planner.http.get("/v1/events", params={"name": name, "fields": "data"}).json()["data"]
        assert [one["data"]["correlationId"] for one in told].count(id) == 1, name
    lines = [json.loads(line) for line in planner.app.log.read_text().splitlines() if '"correlationId"' in line]
    said = [line["event"] for line in lines if line["correlationId"] == id]
    assert sorted(said) == ["scored", "scored", "scored", "scoring has started", "warming has started"]
    page = planner.http.get(f"/runs/{run['id']}").text
    assert all(step in page for step in steps)
    assert all(one["ended"] >= one["started"] for one in steps.values())


@pytest.mark.criterion("retries")
def test_each_step_is_tried_again_on_its_own(planner: Project) -> None:
    planner.tell({"prices/new-york": {"fail": 1}, "score/new-york-ben": {"fail": 2}})
    before = [planner.called(f"{one}/new-york") for one in ("rates", "users")]
    done(planner, invoke(planner, "new-york"))
    assert planner.called("prices/new-york") == 2
    assert [planner.called(f"score/new-york-{user}") for user in USERS] == [1, 3, 1]
    assert [planner.called(f"{one}/new-york") for one in ("rates", "users")] == [one + 1 for one in before]


@pytest.mark.criterion("worker-killed")
def test_the_worker_is_killed_while_a_call_is_open(planner: Project) -> None:
    """SDK v4 does the first four steps in one call, and saves each: what it saves for the dead worker's call is refused."""
    planner.tell({"users/new-york": {"hold": True}})
    rates, users = planner.called("rates/new-york"), planner.called("users/new-york")
    run = invoke(planner, "new-york")
    planner.step(run, "fetch-asset-prices", "completed")
    planner.wait_called("users/new-york", users + 1)
    planner.kill_worker()
    planner.wait_called("users/new-york", users + 2)
    planner.tell({})
    found = done(planner, run)
    assert planner.called("rates/new-york") == rates + 1
    assert len([one for one in planner.steps(found) if one.startswith("score")]) == 3


@pytest.mark.criterion("serve-killed")
def test_the_server_is_killed_while_a_call_is_open(planner: Project) -> None:
    """What the SDK cannot save meanwhile, it answers to the call: the step that was under way is not done again."""
    assert planner.site is not None
    planner.tell({"users/tokyo": {"hold": True}})
    users = planner.called("users/tokyo")
    run = invoke(planner, "tokyo")
    planner.wait_called("users/tokyo", users + 1)
    planner.site.kill()
    planner.site.wait(10)
    planner.tell({})
    planner.step(run, "get-active-users", "completed")
    planner.start_site()
    done(planner, run, AFTER_A_BROKEN_CALL_S)
    assert planner.called("users/tokyo") == users + 1


@pytest.mark.criterion("app-killed", "setup")
def test_the_application_is_killed_in_the_middle_of_a_step(planner: Project) -> None:
    planner.tell({"users/tokyo": {"hold": True}})
    rates, users = planner.called("rates/tokyo"), planner.called("users/tokyo")
    run = invoke(planner, "tokyo")
    planner.step(run, "fetch-asset-prices", "completed")
    planner.wait_called("users/tokyo", users + 1)
    planner.app.kill()
    planner.tell({})
    planner.restart_app()
    found = done(planner, run, within=AFTER_A_BROKEN_CALL_S)
    assert (planner.called("rates/tokyo"), planner.called("users/tokyo")) == (rates + 1, users + 2)
    jobs = [job for job in planner.web.get("/api/jobs").json() if job["runId"] == run["id"]]
    assert [job["correlationId"] for job in jobs] == [found["output"]["correlationId"]]


@pytest.mark.criterion("get", "put", "post")
def test_its_endpoint_answers_all_three_methods(planner: Project) -> None:
    told = planner.web.get("/api/inngest").json()
    assert (told["function_count"], told["mode"]) == (4, "dev")
    assert planner.web.put("/api/inngest").json()["message"] == "Successfully registered"
    body = {"ctx": {"run_id": "01M80C274S00000000000000AA", "attempt": 0, "stack": {"stack": [], "current": 0}},
            "event": {"name": "inngest/function.invoked", "data": {}}, "events": [], "steps": {}, "version": -1}  # fmt: skip
    params = {"fnId": "investments-planner-overnight-scoring-tokyo", "stepId": "step"}
    answer = planner.web.post("/api/inngest", params=params, json=body)
    assert (answer.status_code, answer.json()[0]["id"] != "") == (206, True)


@pytest.mark.criterion("cron")
def test_a_tick_starts_a_scoring(planner: Project) -> None:
    """The last of all: a minute has often begun by then."""
    ticks = until(lambda: [one for one in planner.runs("overnight-scoring") if one["status"] == "completed"], "a tick")
    assert ticks[0]["output"]["scored"] == 3
