"""Pages of lists: one by one they tell what one page tells, whatever stands at the same moment, and goes meanwhile."""

import json
from collections.abc import Generator
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys


@pytest.fixture
def http(settings: Settings, store: "redis.Redis") -> Generator[TestClient]:
    for slug, on, flow in (("t-a", ["cron 0 9 * * *"], []), ("t-b", [], ["1 at a time"]), ("t-c", [], ["2 at a time"])):
        told = {
            "bus": "t",
            "id": slug[2:],
            "name": slug,
            "slug": slug,
            "on": on,
            "events": [],
            "retries": 0,
            "code": "",
        }
        store.hset(keys.functions(), slug, json.dumps({**told, "flow": flow}))
    with TestClient(create_app(configured=settings), base_url="http://localhost") as client:
        yield client


def cursor_of(page: dict[str, Any]) -> str | None:
    return page["metadata"]["cursor"] if "metadata" in page else page["cursor"]


def pages(http: TestClient, path: str, limit: int = 1, **query: str) -> list[dict[str, Any]]:
    """Return the rows of a list, taken page by page."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {"limit": limit, **query, **({"cursor": cursor} if cursor else {})}
        answer = http.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) <= limit
        rows += answer.json()["data"]
        cursor = cursor_of(answer.json())
    return rows


def delay(store: "redis.Redis", name: str, id: str, due: int) -> None:
    store.zadd(keys.delayed(name), {keys.coded(id): due})
    store.hset(keys.delayed_event(name, id), mapping={"id": id, "data": json.dumps({"big": id})})
    store.zadd(keys.delayed_names(), {name: due})


def test_lists_are_told_page_by_page(http: TestClient, store: "redis.Redis", settings: Settings) -> None:
    now = now_ms()
    for n in range(5):
        store.zadd(keys.workers(), {f"w{n}": now + 5 * settings.lease_ms if n % 2 else now - 60_000})
        store.hset(keys.worker(f"w{n}"), mapping={"since": n // 3, "seen": now})
        store.expire(keys.worker(f"w{n}"), 60)
    for path, count in (
        ("/v1/functions", 3), ("/v1/schedules", 1), ("/v1/limits", 2), ("/v1/workers", 5), ("/v1/event-names", 0),
    ):  # fmt: skip
        whole = http.get(path).json()
        assert (len(whole["data"]), cursor_of(whole)) == (count, None), path
        for limit in (1, 2):
            assert pages(http, path, limit) == whole["data"], path
    assert pages(http, "/v1/limits", function="t-c", fields="function") == [{"function": "t-c"}]


def test_operations_and_cancellations_are_told_page_by_page(http: TestClient) -> None:
    for _ in range(3):
        assert http.post("/v1/operations", json={"kind": "cancel", "query": {"function": "t-a"}}).status_code == 201
        wanted = {"function_id": "t-a", "started_before": 1_000}
        assert http.post("/v1/cancellations", json=wanted).status_code == 201
    for path in ("/v1/operations", "/v1/cancellations"):
        whole = [one["id"] for one in http.get(path).json()["data"]]
        assert len(set(whole)) == 3
        assert [one["id"] for one in pages(http, path)] == whole


def test_events_of_one_moment_are_told_once_each_also_when_the_last_one_told_is_gone(
    http: TestClient, store: "redis.Redis"
) -> None:
    """A thousand may be due at nine o'clock."""
    due = now_ms() + 3_600_000
    ids = ["B", "a", "a b", "Z|1", "é", *(f"o{n}" for n in range(40))]
    for name in ("n/1", "n/2", "n/3"):
        for id in ids:
            delay(store, name, id, due)
        delay(store, name, "later", due + 1)
    whole = [(one["name"], one["id"]) for one in http.get("/v1/delayed?limit=1000").json()["data"]]
    assert len(set(whole)) == len(whole) == 3 * (len(ids) + 1)
    for limit in (1, 7):
        assert [(one["name"], one["id"]) for one in pages(http, "/v1/delayed", limit)] == whole
    assert [one["id"] for one in pages(http, "/v1/delayed", 9, name="n/2")] == [
        id for name, id in whole if name == "n/2"
    ]
    page = http.get("/v1/delayed?limit=60").json()
    gone, id = page["data"][-1]["name"], page["data"][-1]["id"]
    store.zrem(keys.delayed(gone), keys.coded(id))
    rest = http.get("/v1/delayed", params={"limit": 1_000, "cursor": page["cursor"]}).json()["data"]
    assert [(one["name"], one["id"]) for one in rest] == whole[60:]
    assert "data" not in rest[0]
    assert http.get("/v1/delayed?limit=1&fields=data").json()["data"] == [{"data": {"big": "é"}}]
