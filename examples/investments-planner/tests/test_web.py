"""The web application, and a worker that dies in the middle of a step."""

from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from investments_planner.web import web
from stand_ins import CRASHED, Supervised, calls, tell
from starlette.testclient import TestClient

SCORING = "investments-planner-overnight-scoring"
PATH = "/api/inngest"


class Run(msgspec.Struct):
    """A run as the API shows it."""

    id: str
    status: str


class Answer(msgspec.Struct):
    """A run in an answer."""

    data: Run


class Told(msgspec.Struct):
    """A function as the endpoint tells of it."""

    slug: str
    on: list[str]
    registered: str


class Endpoint(msgspec.Struct):
    """What the endpoint tells."""

    app: str
    functions: list[Told]


@pytest.fixture
def http(redis_url: str) -> Generator[TestClient]:
    """Yield a client of the web application."""
    with TestClient(web, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def told_by(http: TestClient) -> Endpoint:
    """Return what the endpoint tells."""
    return msgspec.json.decode(http.get(PATH).content, type=Endpoint)


@pytest.mark.criterion("get", "put", "post")
def test_the_endpoint_tells_and_registers(http: TestClient) -> None:
    told = told_by(http)
    assert told.app == "investments-planner"
    assert {one.slug: one.on[0] for one in told.functions} == {
        SCORING: "cron 0 4 * * *",
        f"{SCORING}-new-york": "cron 30 17 * * 1-5 America/New_York",
        f"{SCORING}-tokyo": "cron 30 16 * * 1-5 Asia/Tokyo",
        "investments-planner-cache-warmer": "cache/warming.started",
    }
    assert {one.registered for one in told.functions} == {"no"}
    assert http.put(PATH).json()["modified"] is True
    assert {one.registered for one in told_by(http).functions} == {"yes"}
    assert http.put(f"{PATH}/").json()["modified"] is False
    assert http.post(PATH, json={}).status_code == 501


@pytest.mark.criterion("crashes", "timing")
def test_a_job_goes_on_where_its_process_died_and_its_page_shows_what_took_how_long(
    http: TestClient, redis_url: str, told: Path, tmp_path: Path
) -> None:
    tell(told, {"prices/*": {"slow": 0.3, "crash": 1}})
    with Supervised("investments_planner.functions:app", redis_url, tmp_path) as worker:
        id = http.post(f"/bus/invoke/{SCORING}", json={}).json()["data"]["id"]
        run = msgspec.json.decode(http.get(f"/bus/v1/runs/{id}?wait=30").content, type=Answer).data
        assert (run.status, worker.exit_codes) == ("completed", [CRASHED])
    done = calls(told)
    assert (done["rates/all"], done["prices/all"], done["users/all"], done["score/all-ada"]) == (1, 2, 1, 1)
    page = http.get(f"/bus/runs/{id}").text
    steps = ["setup", "fetch-exchange-rates", "fetch-asset-prices", "get-active-users", "trigger-cache-warming"]
    assert [step for step in steps if f'class="mono">{step}<' in page] == steps
    assert page.count('class="bar completed') == 8
    assert page.count('class="took">') == 9  # the run's, and each step's
    assert "3 portfolios scored" in http.get("/").text
