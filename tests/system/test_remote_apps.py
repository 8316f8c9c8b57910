"""Applications behind HTTP: what they register, what is refused, and that workers follow."""

import json
from typing import Any

import pytest
import redis
from msgspec import Raw
from starlette.testclient import TestClient

from stepstream import Bus, ConfigError, Context, Cron, Step
from stepstream.bus.event import RawEvent
from stepstream.bus.observe.signals import Signals
from stepstream.bus.retry import Retry
from stepstream.bus.values.ids import SLUG_PART
from stepstream.bus.wire import keys
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.functions import bus_of
from stepstream.consumers.remote.system import sdk_event, sdk_slug, stored_slug
from stepstream.producers.cron import tick
from stepstream.web.sdk.cli import SyncFailed, apps
from tests.support import Lab, free_port

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


@pytest.mark.parametrize(
    "theirs",
    [
        "send mail",
        "it's %$^&*(_+{|:<?☃️",
        " ",
        "U.20.",
        "a U.20.b",
        "UU.F",
        "☃.20.",
        "U.26☃",
        "MENU.Add",
        "plain/id.v_1-2",
    ],
)
def test_any_id_of_an_sdk_has_one_slug_and_is_shown_as_given(theirs: str) -> None:
    assert SLUG_PART.fullmatch(f"a{stored_slug(theirs)}")
    assert sdk_slug(stored_slug(theirs)) == theirs
    assert (stored_slug(theirs) == theirs) == (theirs in {"UU.F", "MENU.Add", "plain/id.v_1-2"})


def test_an_app_and_its_functions_may_have_any_name(http: TestClient, store: "redis.Redis") -> None:
    failed = function("my shop-it's ☃ (failure)")
    failed["triggers"] = [
        {"event": "inngest/function.failed", "expression": "event.data.function_id == 'my shop-it's ☃'"}
    ]
    asked = registration(function("my shop-it's ☃", "a/b"), failed, appName="my shop")
    assert http.post("/fn/register", json=asked).json()["ok"]
    bus = bus_of(stored(store, "myU.20.shop"))
    one, other = bus.functions.values()
    assert one.slug == "myU.20.shop-itU.27.sU.20.U.2603."
    assert bus.url_of(one) == f"{URL}?fnId=my+shop-it%27s+%E2%98%83"
    [declared] = other.triggers
    assert one.slug in declared.text
    about = {"function_id": one.slug, "run_id": "r", "status": "failed", "event": {"name": "a/b", "data": {}}}
    seen = sdk_event(RawEvent("e", "bus/function.failed", Raw(json.dumps(about).encode()), 1))
    assert json.loads(bytes(seen.data))["function_id"] == "my shop-it's ☃"


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
    assert cloud.json()["error"].startswith("Expected server kind cloud, got dev: set INNGEST_DEV")
    assert http.post("/fn/register", json=registration(), headers={"x-inngest-expected-server-kind": "dev"}).json()[
        "ok"
    ]


@pytest.mark.parametrize(("sdk", "is_unsafe"), [("js:v3.21.9", False), ("js:v3.22.0", True), ("js:v3.46.0", True), ("js:v3.53.1", True), ("js:v3.53.2", False), ("py:v0.5.19", False)])  # fmt: skip
def test_sdks_with_a_known_hole_are_told_of(http: TestClient, store: "redis.Redis", sdk: str, is_unsafe: bool) -> None:
    """Not refused: projects have them, and a refusal closes nothing."""
    assert http.post("/fn/register", json=registration(sdk=sdk)).json()["ok"]
    assert ("CVE-2026-42047" in stored(store).note) == is_unsafe


def native(name: str = "shop") -> Bus:
    app = Bus(name)

    @app.function("ship", on="order/paid")
    async def ship(ctx: Context[dict], step: Step) -> None: ...

    return app


async def test_a_name_and_functions_of_a_python_application_are_refused(
    http: TestClient, store: "redis.Redis", lab: Lab
) -> None:
    await lab.work(app=native())
    before = store.hgetall(keys.functions())
    answer = http.post("/fn/register", json=registration(function("shop-a", "a/b")))
    assert answer.json()["code"] == "name_taken"
    assert "'shop' is that of a Python application, which has 'shop-ship'" in answer.json()["error"]
    assert not store.hexists(keys.apps(), "shop")
    longer = registration(function("shop-ship-ship", "a/b"), appName="shop-ship")
    assert http.post("/fn/register", json=longer).status_code == 200
    assert http.post("/fn/register", json=registration(function("sho-p-ship"), appName="sho")).status_code == 200
    assert {slug: raw for slug, raw in store.hgetall(keys.functions()).items() if slug == "shop-ship"} == before


def test_a_second_url_takes_the_name_and_that_is_told(http: TestClient, store: "redis.Redis") -> None:
    http.post("/fn/register", json=registration(function("shop-a", "a/b")))
    http.post("/fn/register", json=registration(function("shop-a", "a/b"), url="http://10.0.0.7/api/inngest"))
    app = stored(store)
    assert (app.url, app.version) == ("http://10.0.0.7/api/inngest", 2)
    assert app.note == f"was at {URL} before: should both run, give one another id"


def test_options_are_what_the_bus_has_for_them(http: TestClient, store: "redis.Redis") -> None:
    full = function(
        "shop-full", "t/full", idempotency="event.data.id", rateLimit={"limit": 5, "period": "1m"},
        throttle={"limit": 2, "period": "10s", "burst": 1, "key": "event.data.k"},
        concurrency=[{"limit": 3}, {"limit": 1, "key": "event.data.k", "scope": "account"}],
        debounce={"period": "5s", "key": "event.data.k", "timeout": "1m"}, priority={"run": "event.data.p || 0"},
        timeouts={"start": "10s", "finish": "1m"}, singleton={"key": "event.data.k", "mode": "skip"},
        cancel=[{"event": "t/cancel", "timeout": "1h", "if": "async.data.id == event.data.id"}, {"event": "t/all", "if": "async.data.x > 1"}],
    )  # fmt: skip
    full["triggers"] += [
        {"cron": "TZ=Europe/Paris */5 * ? * mon-fri", "jitter": "30s"},
        {"event": "t/*", "expression": "!event.data.off"},
    ]
    batch = function(
        "shop-batch", batchEvents={"maxSize": 10, "timeout": "5s", "key": "event.data.k", "if": "event.data.b"}
    )
    plain = function("shop-plain", concurrency=5, cancel=[], throttle=None)
    del plain["steps"]["step"]["retries"]
    off = function("shop-off", concurrency=[{"limit": 0}])
    off["steps"]["step"]["retries"] = {"attempts": 0}
    failure = function("shop-full-failure")
    failure["triggers"] = [{"event": "inngest/function.failed", "expression": "event.data.function_id == 'shop-full'"}]
    answer = http.post("/fn/register", json=registration(full, batch, plain, off, failure))
    assert answer.status_code == 200, answer.text
    bus = bus_of(stored(store))
    one = bus.functions["full"]
    assert [(trigger.name, trigger.text) for trigger in one.triggers] == [
        ("t/full", "t/full"), ("t/*", "t/* if !event.data.off"),
    ]  # fmt: skip
    assert one.crons == (Cron("*/5 * * * mon-fri", tz="Europe/Paris", jitter="30s"),)
    assert one.retry == Retry(3)
    assert one.flow.texts == (
        "3 at a time", "1 at a time per event.data.k, shared as inngest/account", "2 starts in 10s per event.data.k",
        "at most 1 in 86400 per event.data.id", "after 5s of quiet per event.data.k", "one at a time (skip) per event.data.k",
        "priority event.data.p || 0",
    )  # fmt: skip
    assert (one.flow.throttle and one.flow.throttle.burst, one.flow.debounce and one.flow.debounce.timeout) == (1, "1m")
    assert (one.timeouts.start_ms, one.timeouts.finish_ms) == (10_000, 60_000)
    assert [(rule.name, rule.match, rule.timeout_ms) for rule in one.cancel_on] == [
        ("t/cancel", "data.id", 3_600_000), ("t/all", None, 366 * 86_400_000),
    ]  # fmt: skip
    assert [rule.text for rule in one.cancel_on] == ["t/cancel with the same data.id", "t/all if async.data.x > 1"]
    assert bus.functions["batch"].flow.batch is not None
    assert [bus.functions[id].retry.retries for id in ("plain", "off", "batch")] == [4, 0, 3]
    assert (bus.functions["plain"].flow.texts, bus.functions["off"].flow.texts) == (("5 at a time",), ())
    assert bus.functions["full-failure"].triggers[0].name == "bus/function.failed"
    assert bus.url_of(one) == f"{URL}?fnId=shop-full"
    assert (one.code, len(one.code)) != (bus.functions["off"].code, 0)


def test_two_triggers_for_one_event_are_one(http: TestClient, store: "redis.Redis") -> None:
    both = function("shop-both")
    both["triggers"] = [
        {"event": "a/b", "expression": "event.data.x == 1"},
        {"event": "a/b", "expression": "event.data.y"},
    ]
    assert http.post("/fn/register", json=registration(both)).status_code == 200
    [trigger] = bus_of(stored(store)).functions["both"].triggers
    assert trigger.condition is not None
    assert [trigger.condition.matches({"data": data}) for data in ({"x": 1}, {"y": "yes"}, {"x": 2})] == [
        True,
        True,
        False,
    ]


def test_a_tick_and_an_end_are_told_as_sdks_know_them() -> None:
    at = "2026-11-22T00:56:00Z"
    tick = RawEvent(
        at, "bus/cron.tick", Raw(json.dumps({"cron": "* * * * *", "tz": "Europe/Paris", "scheduledAt": at}).encode()), 5
    )
    told = sdk_event(tick)
    assert (told.name, json.loads(bytes(told.data))) == (
        "inngest/scheduled.timer", {"cron": "TZ=Europe/Paris * * * * *", "scheduledAt": at, "fireAt": at},
    )  # fmt: skip
    own = {"id": "e1", "name": "order/paid", "data": {"order": 1}, "ts": 4}
    data = {
        "function_id": "shop-a",
        "run_id": "r1",
        "status": "failed",
        "event": own,
        "error": {"name": "E", "message": "m", "stack": "s"},
    }
    failed = sdk_event(RawEvent("r1", "bus/function.failed", Raw(json.dumps(data).encode()), 5))
    assert (failed.id, failed.name) == ("r1", "inngest/function.failed")
    assert json.loads(bytes(failed.data)) == {
        "_inngest": {"status": "Failed"}, "function_id": "shop-a", "run_id": "r1",
        "event": {**own, "user": {}}, "events": [{**own, "user": {}}],
        "error": {"error": "E: m", "name": "E", "message": "m", "stack": "s"},
    }  # fmt: skip
    invoked = {**data, "event": {"id": "r1", "name": "bus/function.invoked", "data": {"order": 1}, "ts": 4}}
    inner = json.loads(
        bytes(sdk_event(RawEvent("r1", "bus/function.failed", Raw(json.dumps(invoked).encode()), 5)).data)
    )["event"]
    assert (inner["name"], inner["data"]["_inngest"]) == ("inngest/function.invoked", {"fn_id": "shop-a"})
    mine = RawEvent("e1", "order/paid", Raw(b'{"order":1}'), 4)
    assert sdk_event(mine) == mine


def test_the_page_of_apps_teaches_while_it_is_empty_and_tells_what_is_wrong(http: TestClient) -> None:
    empty = http.get("/apps", headers={"accept": "text/html"}).text
    assert "INNGEST_DEV=http://testserver" in empty
    assert "bus apps sync" in empty
    http.post("/fn/register", json=registration(function("shop-<b>", "a/b"), appName="shop"))
    http.post("/fn/register", json=registration(function("shop-a", "a/b"), appName="shop"))
    http.post(
        "/fn/register", json=registration(function("shop-a", "a/b"), appName="shop", url="http://10.0.0.7/api/inngest")
    )
    http.post("/fn/register", json=registration(function("bad-a", "<i>*"), appName="bad"))
    page = http.get("/apps", headers={"accept": "text/html"}).text
    assert page.index("bad") < page.index("http://10.0.0.7/api/inngest"), "what is in trouble comes first"
    assert "TypeScript 4.24.0" in page
    assert f"was at {URL} before" in page
    assert "a wildcard stands at the end" in page
    assert "<i>*" not in page
    assert 'href="/functions/shop-a"' in page


@pytest.mark.usefixtures("in_environment")
def test_apps_are_listed_synced_and_forgotten_from_the_command_line(
    http: TestClient, store: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    apps()
    assert capsys.readouterr().out == "no applications behind HTTP yet; let one register: bus apps sync URL\n"
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(SyncFailed, match=f"{nowhere} could not be synced: cannot be reached .* is it started"):
        apps("sync", nowhere)
    http.post("/fn/register", json=registration(function("shop-a", "a/b")))
    apps()
    listed = capsys.readouterr().out
    assert "shop" in listed
    assert "TypeScript 4.24.0" in listed
    assert f"http://{nowhere}/api/inngest: cannot be reached" in listed
    apps(as_json=True)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [f"http://{nowhere}/api/inngest", "shop"]
    with pytest.raises(SyncFailed, match="shop could not be synced"):
        apps("sync", "shop")
    assert (stored(store).error_code, set(stored(store).functions)) == ("unreachable", {"shop-a"})
    apps("forget", "shop")
    assert capsys.readouterr().out == "shop is forgotten; its functions were: shop-a\n"
    apps("forget", f"http://{nowhere}/api/inngest")
    assert not store.exists(keys.apps(), keys.functions(), keys.triggers())
    for words in (("sync",), ("wait", "shop"), ("forget",)):
        with pytest.raises(ConfigError, match="write: bus apps, bus apps sync URL, or bus apps forget NAME"):
            apps(*words)


async def test_a_tick_runs_later_by_its_jitter_which_is_less_than_a_period(lab: Lab) -> None:
    minute, cron = 60_000, Cron("* * * * *", jitter="5m")
    start = 1_700_000_040_000
    delays = [cron.delay(start + n * minute, "shop-a") for n in range(50)]
    assert 0 <= min(delays) < max(delays) < minute, "less than a period, whatever the jitter"
    assert delays == [cron.delay(start + n * minute, "shop-a") for n in range(50)]
    assert delays != [cron.delay(start + n * minute, "shop-b") for n in range(50)]
    assert Cron("* * * * *").delay(start, "shop-a") == 0
    with pytest.raises(ConfigError, match="cron jitter '6m' is longer than 5 min"):
        Cron("* * * * *", jitter="6m").check("function 'a'")
    ran: list[int] = []
    signals, lab.wire.now = Signals(), str(start - minute)
    await tick(lab.wire, "shop-a", cron, signals)
    lab.wire.now = str(start - minute + 1)
    for _ in range(8):
        moment = int(lab.wire.now)
        wait = await tick(lab.wire, "shop-a", cron, signals)
        ran.append(int(await lab.wire.call("XLEN", keys.queue("shop-a"))))
        lab.wire.now = str(moment + wait)
    assert ran == sorted(ran)
    ticks = await lab.wire.call("XRANGE", keys.queue("shop-a"), "-", "+")
    assert len(ticks) >= 6, "each ran once"
    await lab.wire.call("DEL", keys.queue("shop-a"))
    lab.wire.now = ""
