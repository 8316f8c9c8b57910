"""The admin API and the command, with a worker in a process of its own where a job has to run."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fastapi.testclient import TestClient
from poligraph import trigger
from poligraph.functions import Synced
from poligraph.jobs import Status, SyncJob
from poligraph.trigger import requested
from stand_ins import Supervised, calls, lose_redis, tell

APP = "poligraph.functions:app"


class Row(msgspec.Struct):
    """A run in a list."""

    id: str
    status: str
    function: str


class Rows(msgspec.Struct):
    """What GET /v1/runs answers."""

    data: list[Row]


def runs(http: TestClient) -> list[Row]:
    """Return the runs that the status page knows, which the application has mounted."""
    return msgspec.json.decode(http.get("/bus/v1/runs").content, type=Rows).data


def record(http: TestClient, id: str) -> SyncJob:
    """Return a job's record."""
    return msgspec.json.decode(http.get(f"/api/admin/jobs/{id}").content, type=SyncJob)


def until_called(told: Path, call: str) -> None:
    """Wait until a script has begun."""
    until = time.monotonic() + 20
    while not calls(told)[call]:
        assert time.monotonic() < until, calls(told)
        time.sleep(0.02)


def until_ended(http: TestClient, id: str) -> SyncJob:
    """Return a job's record once the job has ended."""
    until = time.monotonic() + 30
    while (found := record(http, id)).status is Status.RUNNING:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


@pytest.mark.criterion("admin", "job-record", "progress-bar", "slow", "crashes")
def test_a_job_goes_on_where_its_worker_was_killed_and_shows_how_far_it_is(
    http: TestClient, redis_url: str, told: Path, tmp_path: Path, scripts_left: Callable[[], list[str]]
) -> None:
    tell(told, {"script/press-analysis": {"slow": 60}})
    with Supervised(APP, redis_url, tmp_path) as worker:
        answer = http.post("/api/admin/jobs", json={"job": "sync:press", "flags": {"limit": 9}})
        assert answer.status_code == 202, answer.text
        id = answer.json()["id"]
        until_called(told, "script/press-analysis")
        half = record(http, id)
        assert (half.status, half.progress, half.completed) == (Status.RUNNING, 50, None)
        [run] = runs(http)
        page = http.get(f"/bus/runs/{run.id}").text
        assert '<progress max="100" value="50' in page, page
        assert "done parse-rss" in page
        quick = http.post("/api/admin/jobs", json={"job": "prominence"}).json()["id"]
        assert until_ended(http, quick).status is Status.COMPLETED
        assert record(http, id).status is Status.RUNNING, "the slow one holds up its own job only"
        tell(told, {})
        worker.kill()
        done = until_ended(http, id)
        assert (done.status, done.progress, worker.exit_codes) == (Status.COMPLETED, 100, [-9])
        assert msgspec.convert(done.result, Synced).steps["ai-analysis"] == 9
    made = calls(told)
    assert made == {"script/press-rss": 1, "script/press-analysis": 2, "script/prominence": 1}
    assert scripts_left() == [], "what the killed worker had begun is ended"


@pytest.mark.criterion("admin-503")
def test_without_its_redis_the_answer_is_503_and_the_record_has_failed(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_redis(monkeypatch)
    answer = http.post("/api/admin/jobs", json={"job": "sync:votes"})
    assert (answer.status_code, "127.0.0.1:1" in answer.text) == (503, True), answer.text
    [kept] = msgspec.json.decode(http.get("/api/admin/jobs").content, type=list[SyncJob])
    assert (kept.status, kept.error) == (Status.FAILED, answer.json()["detail"])


@pytest.mark.criterion("admin")
@pytest.mark.parametrize(
    ("asked", "status", "why"),
    [
        ({"job": "sync:nothing"}, 404, "sync/press"),
        ({"job": "sync:press", "flags": {"limit": "many"}}, 422, "Expected `int`, got `str`"),
        ({"job": "sync:press", "flags": {"limti": 5}}, 422, "limti"),
        ({"flags": {}}, 422, "Field required"),
    ],
)
def test_what_makes_no_job_is_refused_and_leaves_no_record(
    http: TestClient, asked: dict[str, object], status: int, why: str
) -> None:
    answer = http.post("/api/admin/jobs", json=asked)
    assert (answer.status_code, why in answer.text) == (status, True), answer.text
    assert http.get("/api/admin/jobs").json() == []
    assert runs(http) == []


@pytest.mark.criterion("cli", "cli-names")
@pytest.mark.parametrize(
    ("words", "event", "data"),
    [
        ("sync:press --limit=50", "sync/press", {"limit": 50}),
        ("sync/press --limit=50", "sync/press", {"limit": 50}),
        ("sync-press", "sync/press", {}),
        ("sync:daily", "sync/daily", {}),
        ("discover:affairs --limit=5", "discover/affairs", {"limit": 5}),
        ("maintenance", "sync/maintenance", {}),
        (
            "photos --force --since=2026-01-01 --ratio=0.5 --limit=-3",
            "sync/photos",
            {"flags": {"force": True, "since": "2026-01-01", "ratio": 0.5, "limit": -3}},
        ),
        ("sync:photos --force", "sync/photos", {"flags": {"force": True}}),
    ],
)
def test_the_command_is_an_event(words: str, event: str, data: dict[str, object]) -> None:
    job, *flags = words.split()
    made = requested(job, dict(map(trigger.flag, flags)))
    assert (made.event, made.data) == (event, data)


@pytest.mark.criterion("cli")
def test_the_command_publishes_or_says_what_is_wrong(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def called(words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["poligraph", *words.split()])
        code = trigger.main()
        told = capsys.readouterr()
        return code, told.out + told.err

    code, told = called("sync:press --limit=50")
    assert (code, told.startswith("sync:press is asked for")) == (0, True), told
    assert called("sync:nothing")[0] == called("sync:press limit")[0] == called("sync:press --limit=x")[0] == 2
    assert "sync/daily" in called("sync:nothing")[1]
    assert "data.limit" in called("sync:press --limit=x")[1]
    assert http.get("/bus/v1/functions/poligraph-sync-press").status_code == 200, "the command has registered it"
    lose_redis(monkeypatch)
    assert called("sync:daily")[0] == 1


def test_the_page_is_there(http: TestClient) -> None:
    assert "Jobs" in http.get("/").text
