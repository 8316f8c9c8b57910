"""Applications behind HTTP: what they register, what is refused, and that workers follow."""

import json
from typing import Any

import redis
from starlette.testclient import TestClient

from stepstream.bus.wire import keys
from stepstream.checkpoint.apps import App

URL = "http://127.0.0.1:4100/api/inngest"


def function(slug: str, *events: str, **options: Any) -> dict[str, Any]:
    runtime = {"type": "http", "url": f"{URL}?fnId={slug}&stepId=step"}
    return {
        "id": slug, "name": slug, "triggers": [{"event": one} for one in events],
        "steps": {"step": {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 3}}}, **options,
    }  # fmt: skip


def registration(*functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "url": URL, "deployType": "ping", "framework": "express", "appName": "shop", "sdk": "js:v4.24.0", "v": "0.1",
        "functions": list(functions), **more,
    }  # fmt: skip


def stored(store: "redis.Redis", name: str = "shop") -> App:
    import msgspec

    return msgspec.json.decode(store.hget(keys.apps(), name), type=App)


def test_an_app_is_registered_whole_and_once(http: TestClient, store: "redis.Redis") -> None:
    asked = registration(function("shop-ship", "order/paid"), function("shop-score", "order/paid", "order/lost"))
    answer = http.post("/fn/register", json=asked)
    assert answer.status_code == 200
    assert answer.headers["x-inngest-server-kind"] == "dev"
    told = answer.json()
    assert (told["ok"], told["modified"]) == (True, True)
    assert {"app_id", "sync_id"} <= told.keys()
    app = stored(store)
    assert (app.name, app.url, app.sdk, app.framework, app.version) == ("shop", URL, "js:v4.24.0", "express", 1)
    assert set(app.functions) == {"shop-ship", "shop-score"}
    known = {slug: json.loads(raw) for slug, raw in store.hgetall(keys.functions()).items()}
    assert known["shop-score"]["events"] == ["order/paid", "order/lost"]
    groups = {group["name"] for group in store.xinfo_groups(keys.events("order/paid"))}
    assert groups == {"shop-ship", "shop-score"}, "events wait for them from now on"
    again = http.post("/fn/register", json=asked).json()
    assert "modified" not in again
    assert again["app_id"] == told["app_id"]
    assert stored(store) == app


def test_names_count_whatever_their_case(http: TestClient, store: "redis.Redis") -> None:
    asked = registration(function("shop-a", "a/b"))
    asked["appname"], asked["deploy_type"] = asked.pop("appName"), asked.pop("deployType")
    assert http.post("/fn/register", json=asked).status_code == 200
    assert set(stored(store).functions) == {"shop-a"}


def test_a_refused_function_leaves_all_as_it_was(http: TestClient, store: "redis.Redis") -> None:
    http.post("/fn/register", json=registration(function("shop-a", "a/b")))
    before = store.hgetall(keys.functions())
    bad = function("shop-b", "a/c", throttle={"limit": 0, "period": "1m"})
    answer = http.post("/fn/register", json=registration(function("shop-c", "a/c"), bad))
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "At least one function is invalid: function 'shop-b': throttle limit must be a whole number, at least 1, got 0"
    )
    assert store.hgetall(keys.functions()) == before
    app = stored(store)
    assert set(app.functions) == {"shop-a"}
    assert (app.error_code, "throttle limit" in app.error) == ("invalid_function", True)
    http.post("/fn/register", json=registration(function("shop-a", "a/b")))
    assert (stored(store).error, stored(store).version) == ("", 1)
