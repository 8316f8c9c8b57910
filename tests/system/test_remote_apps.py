"""Applications behind HTTP: what they register, what is refused, and that workers follow."""

import json
from typing import Any

import pytest
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


SAYS = "At least one function is invalid: function 'shop-a': "


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"concurrency": [{"limit": 1, "scope": "env"}]}, "concurrency: scope 'env' needs a key, whose values share the limit"),
        ({"concurrency": [{"limit": 1}] * 3}, "has 3 concurrency limits; give at most two"),
        ({"concurrency": {"fn": [{"limit": 1}]}}, "concurrency.fn: a limit on whole runs is not there"),
        ({"concurrency": [{"limit": "many"}]}, "concurrency[0].limit: Expected `int`, got `str`"),
        ({"throttle": {"limit": 1, "period": "often"}}, "throttle period 'often' is not a duration"),
        ({"rateLimit": {"limit": 1, "period": "2d"}}, "rate limit period must be from 1 s to 86400 s, got '2d'"),
        ({"batchEvents": {"maxSize": 1, "timeout": "1s"}}, "batch size must be a whole number, at least 2, got 1"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}, "priority": {"run": "1"}}, "has batch and priority; they do not go together"),
        ({"singleton": {"mode": "queue"}}, "singleton.mode: Invalid enum value 'queue'"),
        ({"debounce": {"period": "8d"}}, "debounce period must be from 1 s to 604800 s"),
        ({"priority": {"run": "events[0].x"}}, "priority: 'events[0].x' names 'events'"),
        ({"cancel": [{"event": "a/b", "if": "event.data.x =="}]}, "cancel_on 'a/b': 'event.data.x ==' is not an expression"),
        ({"cancel": [{"event": "a/b", "timeout": "2030-01-01T00:00:00Z"}]}, "cancel, timeout '2030-01-01T00:00:00Z': must be a duration"),
        ({"triggers": [{"event": "a/b", "expression": "foo(event.data.x)"}]}, "if_: 'foo(event.data.x)' calls 'foo', which is no function"),
        ({"triggers": [{"cron": "@hourly"}]}, "cron '@hourly' has not five fields"),
        ({"triggers": [{"cron": "TZ=Mars/Base * * * * *"}]}, "'Mars/Base' is not a time zone"),
        ({"triggers": [{"event": "a/*b"}]}, "'a/*b': a wildcard stands at the end"),
        ({"triggers": [{"event": "a/b"}, {"event": "a/b"}]}, "triggers: one of them is there twice"),
        ({"triggers": [{}]}, "triggers: each has an event or a cron"),
        ({"triggers": [{"event": "inngest/other"}]}, "'inngest/other' is reserved"),
        ({"triggers": [{"event": "inngest/deferred.schedule"}]}, "triggers: deferred functions are not there yet"),
        ({"steps": {}}, "steps: there must be a step 'step'"),
        ({"steps": {"step": {"runtime": {"type": "ws", "url": URL}}}}, "steps.step.runtime.type: must be http, got 'ws'"),
        ({"steps": {"step": {"runtime": {"type": "http", "url": "file:///etc/passwd"}}}}, "must be an http or https URL"),
        ({"id": "other-a"}, "function 'other-a': id: must begin with the application's name and a dash, shop-"),
        ({"id": ""}, "a function without an id"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_with_the_function_the_field_and_the_reason(
    http: TestClient, store: "redis.Redis", options: dict[str, Any], reason: str
) -> None:
    answer = http.post("/fn/register", json=registration(function("shop-a", "a/b") | options))
    assert answer.status_code == 400
    told = answer.json()
    assert reason in told["error"]
    assert told["error"].startswith("At least one function is invalid: ")
    if "id" not in options:
        assert told["error"].startswith(SAYS.removesuffix(": "))
    assert not store.exists(keys.functions())
    assert stored(store).error == told["error"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (registration(appName=""), "App ID required"),
        (registration(appName="a b"), "appName: app id 'a b' must be 1 to 128 letters"),
        (registration(url="nowhere"), "url: must say where the application is called"),
        (registration(function("shop-a"), function("shop-a")), "there are two functions 'shop-a'"),
        (registration(functions={}), "functions: must be a list"),
        ([], "Invalid request"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(http: TestClient, body: Any, error: str) -> None:
    answer = http.post("/fn/register", json=body)
    assert answer.status_code == 400
    assert error in answer.json()["error"]


def test_what_is_no_json_and_another_kind_of_server_are_refused(http: TestClient) -> None:
    assert http.post("/fn/register", content=b"{").json()["error"].startswith("Invalid request: ")
    cloud = http.post("/fn/register", json=registration(), headers={"x-inngest-expected-server-kind": "cloud"})
    assert cloud.json()["error"] == "Expected server kind cloud, got dev"
    assert http.post("/fn/register", json=registration(), headers={"x-inngest-expected-server-kind": "dev"}).json()[
        "ok"
    ]


@pytest.mark.parametrize(("sdk", "is_denied"), [("js:v3.21.9", False), ("js:v3.22.0", True), ("js:v3.46.0", True), ("js:v3.53.1", True), ("js:v3.53.2", False), ("py:v0.5.19", False)])  # fmt: skip
def test_sdks_with_a_known_hole_are_refused(http: TestClient, sdk: str, is_denied: bool) -> None:
    answer = http.post("/fn/register", json=registration(sdk=sdk))
    assert answer.json().get("code") == ("sdk_version_denied" if is_denied else None)
