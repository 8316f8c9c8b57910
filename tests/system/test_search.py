"""Search: one way of asking for runs, for the API, the command line and the page."""

import json
import time
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.search import RunQuery, query_of

SLUGS = ("t-a", "t-b")


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    for slug in SLUGS:
        declared = {"bus": "t", "id": slug[2:], "name": slug, "slug": slug, "on": [], "events": [], "retries": 4}
        store.hset(keys.functions(), slug, json.dumps({**declared, "code": "x"}))
    return store


def put(store: "redis.Redis", slug: str, queued: int, status: str, **more: str) -> str:
    run = run_id(slug, "test", f"{queued} {status}", queued)
    store.hset(keys.run(slug, run), mapping={"status": status, "queued": str(queued), **more})
    store.pexpire(keys.run(slug, run), 60_000)
    store.zadd(keys.runs(slug, status), {run: queued})
    return run


def found(http: TestClient, query: str) -> list[str]:
    answer = http.get(f"/v1/runs{query}")
    assert answer.status_code == 200, answer.json()
    return [run["id"] for run in answer.json()["data"]]


def test_runs_are_found_by_statuses_functions_and_time(http: TestClient, store: "redis.Redis") -> None:
    now = time.time_ns() // 1_000_000
    old, failed = put(store, "t-a", now - 7_200_000, "failed"), put(store, "t-a", now - 60_000, "failed")
    waiting, other = put(store, "t-b", now - 50_000, "waiting"), put(store, "t-b", now - 40_000, "completed")
    assert found(http, "") == found(http, "?status=&function=&since=") == [other, waiting, failed, old]
    assert found(http, "?status=failed") == [failed, old]
    assert found(http, "?status=failed,waiting") == found(http, "?status=waiting&status=failed")
    assert found(http, "?status=failed,waiting") == [waiting, failed, old]
    assert found(http, "?function=t-a,t-b&since=1h") == [other, waiting, failed]
    assert found(http, "?function=t-a&until=1h") == [old]
    assert found(http, f"?since={now - 50_000}&until={now - 50_000}") == [waiting]
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1_000 - 3_600))
    assert found(http, f"?until={moment}") == [old]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?colour=red", "'colour' is no filter of runs; there are status, function"),
        ("?status=failed&status=faild", "status 'faild' is none; there are queued"),
        ("?since=yesterday", "since is no time: 'yesterday'; write 2026-12-01T09:00:00Z, Unix ms, or how long ago"),
        ("?since=9999d", "since is no time: '9999d'"),
        ("?since=1h&since=2h", "since is given 2 times, '1h' and '2h'; give one"),
        ("?since=1h&until=2h", "since '1h' is later than until '2h'"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_its_name_its_value_and_what_would_do(
    http: TestClient, store: "redis.Redis", query: str, told: str
) -> None:
    answer = http.get(f"/v1/runs{query}")
    assert (answer.status_code, told in answer.json()["error"]) == (400, True), answer.json()


def test_a_function_that_there_is_not_is_told_with_those_that_there_are(http: TestClient, store: "redis.Redis") -> None:
    answer = http.get("/v1/runs?function=t-a,t-c")
    assert (answer.status_code, "t-a, t-b" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize("given", [{}, {"statuses": ("failed", "queued"), "functions": SLUGS, "since": 5, "until": 9}])
async def test_a_query_is_read_again_from_its_own_parameters(
    wire: Wire, store: "redis.Redis", given: dict[str, Any]
) -> None:
    query = RunQuery(**given)
    assert await query_of(wire, query.pairs()) == query
    with pytest.raises(BadRequest, match="no filter"):
        await query_of(wire, [*query.pairs(), ("x", "y")])
