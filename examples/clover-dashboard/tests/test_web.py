"""The web application, with a worker in a process of its own where a job has to run."""

import time
from pathlib import Path
from typing import TypedDict

import msgspec
import pytest
from fastapi.testclient import TestClient
from stand_ins import CRASHED, Supervised, calls, lose_redis, tell

APP = "clover_dashboard.functions:app"
WANTED = {"brand": "Clover", "queries": ["best oat milk"], "models": ["sonnet", "opus", "gpt"]}


class Row(msgspec.Struct):
    """A run in a list."""

    id: str
    status: str


class Rows(msgspec.Struct):
    """What GET /v1/runs answers."""

    data: list[Row]


class Shown(TypedDict):
    """A collection as the application's API shows it."""

    id: str
    done: bool
    mentions: dict[str, int]


def runs(http: TestClient) -> list[Row]:
    """Return the runs that the status page knows, which the application has mounted."""
    return msgspec.json.decode(http.get("/bus/v1/runs").content, type=Rows).data


def until_running(http: TestClient) -> Row:
    """Return the run once its worker has begun it."""
    until = time.monotonic() + 20
    while True:
        found = runs(http)
        if found and found[0].status == "running":
            return found[0]
        assert time.monotonic() < until, found
        time.sleep(0.02)


def latest(http: TestClient) -> Shown:
    """Return the collection that was asked for last."""
    found: list[Shown] = http.get("/api/collections").json()
    return found[0]


@pytest.mark.criterion("accepted", "never-itself", "status-page", "slow")
def test_the_route_answers_at_once_while_the_job_takes_its_time_and_shows_on_the_page(
    http: TestClient, redis_url: str, told: Path, tmp_path: Path
) -> None:
    tell(told, {"ask/gpt/*": {"slow": 2}})
    with Supervised(APP, redis_url, tmp_path):
        began = time.monotonic()
        answer = http.post("/api/collections", json=WANTED)
        took = time.monotonic() - began
        assert (answer.status_code, took < 0.5) == (202, True), (answer.text, took)
        run = until_running(http)
        assert latest(http) == {"id": answer.json()["id"], "brand": "Clover", "done": False, "mentions": {}}
        assert f'href="/bus/runs/{run.id}"' in http.get("/bus/runs").text
        ended = http.get(f"/bus/v1/runs/{run.id}?wait=20").json()["data"]
        assert ended["status"] == "completed"
        assert ended["ended"] - ended["started"] >= 2_000
        assert "ask gpt: best oat milk" in http.get(f"/bus/runs/{run.id}").text
        took_ms = {step["id"]: step["ended"] - step["started"] for step in steps(http, run)}
        assert took_ms["ask opus: best oat milk"] < 1_000 < took_ms["ask gpt: best oat milk"]
    assert latest(http)["done"]
    assert set(latest(http)["mentions"]) == {f"{model}: best oat milk" for model in WANTED["models"]}


class Step(TypedDict):
    """A step of a run."""

    id: str
    started: int
    ended: int


def steps(http: TestClient, run: Row) -> list[Step]:
    """Return the steps of a run."""
    found: list[Step] = http.get(f"/bus/v1/runs/{run.id}/steps").json()["data"]
    return found


@pytest.mark.criterion("crashes")
def test_a_job_goes_on_at_the_step_where_its_process_died(
    http: TestClient, redis_url: str, told: Path, tmp_path: Path
) -> None:
    tell(told, {"ask/opus/*": {"slow": 0.5, "crash": 1}})
    with Supervised(APP, redis_url, tmp_path) as worker:
        http.post("/api/collections", json=WANTED)
        run = until_running(http)
        ended = http.get(f"/bus/v1/runs/{run.id}?wait=30").json()["data"]
        assert (ended["status"], worker.exit_codes) == ("completed", [CRASHED])
    assert calls(told) == {
        "ask/sonnet/best oat milk": 1,
        "ask/opus/best oat milk": 2,
        "ask/gpt/best oat milk": 1,
    }
    assert latest(http)["done"]


@pytest.mark.criterion("refused")
@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"brand": ""}, ["body", "brand"], "at least 1 character"),
        ({"queries": []}, ["body", "queries"], "at least 1 item"),
        ({"queries": ["best oat milk", ""]}, ["body", "queries", 1], "at least 1 character"),
        ({"models": ["opus", "abacus"]}, ["body", "models", 1], "'sonnet', 'opus', 'gpt' or 'gemini'"),
        ({"brand": None}, ["body", "brand"], "valid string"),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_reason_and_publishes_nothing(
    http: TestClient, changed: dict[str, object], field: list[str | int], reason: str
) -> None:
    answer = http.post("/api/collections", json={**WANTED, **changed})
    assert answer.status_code == 422
    told = answer.json()["detail"][0]
    assert told["loc"] == field
    assert reason in told["msg"]
    assert runs(http) == []
    assert http.get("/api/collections").json() == []


@pytest.mark.criterion("no-store")
def test_without_its_redis_the_route_says_so_and_keeps_nothing(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_redis(monkeypatch)
    answer = http.post("/api/collections", json=WANTED)
    assert (answer.status_code, "127.0.0.1:1" in answer.text) == (503, True), answer.text
    assert http.get("/api/collections").json() == []


def test_the_page_is_there(http: TestClient) -> None:
    assert "What do models say of a brand?" in http.get("/").text
