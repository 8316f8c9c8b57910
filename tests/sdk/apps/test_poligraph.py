"""poligraph, Next.js route handlers and SDK v3.54: scripts as steps, a daily round of sixteen, job records, a command."""

import os
import subprocess
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.sdk.apps.conftest import Started
from tests.sdk.apps.project import AFTER_A_BROKEN_CALL_S, Project
from tests.support import until

pytestmark = pytest.mark.sdk
GROUPS = {
    "sync-press": "sync/press", "sync-votes": "sync/votes", "sync-legislation": "sync/legislation",
    "discover-affairs": "discover/affairs", "sync-factchecks": "sync/factchecks", "generate-ai": "generate/ai",
    "index-embeddings": "index/embeddings", "sync-politicians": "sync/politicians", "maintenance": "sync/maintenance",
}  # fmt: skip
DAILY = [
    "votes-an", "votes-senat", "legislation", "legislation-content", "summaries-dossiers", "summaries-scrutins",
    "press-rss", "press-analysis", "judilibre", "reconcile-affairs", "factchecks", "classify-themes",
    "embeddings-factchecks", "embeddings-press", "prominence", "publication-status",
]  # fmt: skip


@pytest.fixture
def poligraph(started: Started) -> Project:
    return started("poligraph", app={"PHOTOS_MINUTES": "0.02"})


def start(poligraph: Project, job: str, **flags: Any) -> str:
    """Start a job by the admin API; return its id."""
    answer = poligraph.web.post("/api/admin/jobs", json={"job": job, "flags": flags})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def record(poligraph: Project, job: str) -> dict[str, Any]:
    return poligraph.web.get(f"/api/admin/jobs/{job}").json()


def over(poligraph: Project, job: str, status: str, within: float = PATIENT_S) -> dict[str, Any]:
    """Wait until a job's record has a status."""
    return until(
        lambda: one if (one := record(poligraph, job))["status"] == status else {}, f"{job} is {status}", within
    )


@pytest.mark.criterion("groups", "factory", "daily", "sync-press")
def test_all_functions_are_registered_with_their_options(poligraph: Project) -> None:
    found = poligraph.functions()
    for id, event in GROUPS.items():
        assert (found[id]["on"], found[id]["retries"]) == ([event], 2)
        assert f"'{id}'" in str(found[id]["flow"])
    assert found["sync-daily"]["on"] == ["sync/daily", "cron 0 5,11,19 * * *"]
    assert found["sync-daily"]["retries"] == 0
    for script in ("votes-an", "press-rss", "photos"):
        assert (found[script]["on"], found[script]["retries"]) == ([f"sync/{script}"], 2)
        assert found[script]["flow"] == found["sync-daily"]["flow"] != []


@pytest.mark.criterion("sync-press", "admin", "job-record")
def test_sync_press_tells_its_progress(poligraph: Project) -> None:
    poligraph.tell({"script/press-analysis": {"hold": True}})
    job = start(poligraph, "sync:press", limit=3)
    poligraph.wait_called("script/press-analysis")
    until(lambda: record(poligraph, job)["progress"] == 50, "half of it is told")
    assert record(poligraph, job)["status"] == "RUNNING"
    poligraph.tell({})
    done = over(poligraph, job, "COMPLETED")
    run = poligraph.ended("sync-press", {"jobId": job})[0]
    assert list(poligraph.steps(run)) == ["parse-rss", "ai-analysis"]
    assert (done["progress"], done["processed"], done["result"]) == (100, run["output"]["processed"], run["output"])
    assert run["output"]["steps"]["ai-analysis"] == 3
    assert done["started"] < done["completed"]


@pytest.mark.criterion("cli", "cli-names", "factory")
@pytest.mark.parametrize(
    ("words", "function", "data"),
    [
        (["sync:press", "--limit=50"], "sync-press", {"limit": 50}),
        (["discover/affairs", "--force"], "discover-affairs", {"force": True}),
        (["judilibre", "--since=2026", "--deep"], "judilibre", {"flags": {"since": 2026, "deep": True}}),
    ],
)
def test_the_command_line_starts_a_job(
    poligraph: Project, words: list[str], function: str, data: dict[str, Any]
) -> None:
    environ = {**os.environ, "INNGEST_DEV": poligraph.url}
    command = ["node", "--import", "tsx", "src/trigger.ts", *words]
    done = subprocess.run(command, cwd=poligraph.app.cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert poligraph.ended(function, data)[0]["status"] == "completed"


@pytest.mark.criterion("daily", "goes-on")
def test_the_daily_round_goes_on_where_steps_fail(poligraph: Project) -> None:
    poligraph.tell({"script/judilibre": {"fail": 1}, "script/prominence": {"fail": 1}})
    job = start(poligraph, "sync:daily")
    run = poligraph.ended("sync-daily", {"jobId": job}, within=PATIENT_S)[0]
    assert run["status"] == "completed", run
    assert run["output"] == {"total": 16, "succeeded": 14, "failed": 2, "failures": ["judilibre", "prominence"]}
    assert list(poligraph.steps(run)) == DAILY
    assert over(poligraph, job, "COMPLETED")["result"] == run["output"]


@pytest.mark.criterion("killed-at-its-limit", "job-record")
def test_a_script_is_killed_at_its_limit(poligraph: Project) -> None:
    """It has 1.2 s, and is held up outside: each of three attempts is killed."""
    poligraph.tell({"script/photos": {"hold": True}})
    job = start(poligraph, "photos")
    failed = over(poligraph, job, "FAILED")
    assert failed["error"] == "photos was killed at its limit of 0.02 minutes"
    run = poligraph.ended("photos", {"jobId": job})[0]
    assert poligraph.steps(run)["photos"]["attempts"] == 3


@pytest.mark.criterion("admin-503")
def test_what_cannot_be_published_has_failed(poligraph: Project) -> None:
    assert poligraph.site is not None
    poligraph.site.kill()
    poligraph.site.wait(10)
    answer = poligraph.web.post("/api/admin/jobs", json={"job": "sync:votes"})
    poligraph.start_site()
    assert answer.status_code == 503
    assert record(poligraph, answer.json()["id"])["status"] == "FAILED"


@pytest.mark.criterion("one-at-a-time", "worker-killed")
def test_the_worker_is_killed_while_a_script_runs_and_another_job_waits(poligraph: Project) -> None:
    poligraph.tell({"script/votes-senat": {"hold": True}})
    before = poligraph.called("script/votes-an"), poligraph.called("script/votes-senat")
    first = start(poligraph, "sync:votes")
    poligraph.wait_called("script/votes-senat", before[1] + 1)
    second = start(poligraph, "sync:votes")
    until(lambda: poligraph.of("sync-votes", {"jobId": second}), "the second is there")
    marker = start(poligraph, "votes-an")  # of another function: it is not held up
    over(poligraph, marker, "COMPLETED")
    assert poligraph.called("script/votes-an") == before[0] + 2
    poligraph.kill_worker()
    poligraph.wait_called("script/votes-senat", before[1] + 2)
    poligraph.tell({})
    for job in (first, second):
        over(poligraph, job, "COMPLETED")
    assert poligraph.called("script/votes-an") == before[0] + 3


@pytest.mark.criterion("app-killed")
def test_the_application_is_killed_while_a_script_runs(poligraph: Project) -> None:
    poligraph.tell({"script/reconcile-affairs": {"hold": True}})
    before = poligraph.called("script/judilibre")
    again = poligraph.called("script/reconcile-affairs") + 1
    job = start(poligraph, "discover:affairs")
    poligraph.wait_called("script/reconcile-affairs", again)
    poligraph.app.kill()
    poligraph.tell({})
    poligraph.restart_app()
    over(poligraph, job, "COMPLETED", AFTER_A_BROKEN_CALL_S)
    assert poligraph.called("script/judilibre") == before + 1
    assert poligraph.called("script/reconcile-affairs") == again + 1
