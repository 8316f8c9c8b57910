"""Alerts on the page, by the API and by commands: what they show, trying it, and thresholds that are set for all."""

from collections.abc import Generator
from typing import Any, cast

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from tests.hook import SECRET, Hook
from tests.support import fields
from tests.system.test_commands import bus

HTML = {"accept": "text/html"}


@pytest.fixture
def hook() -> Generator[Hook]:
    with Hook() as started:
        yield started


def test_the_page_the_api_and_the_command_try_it_and_say_what_was_answered(
    settings: Settings, url: str, hook: Hook, store: "redis.Redis"
) -> None:
    with TestClient(create_app(configured=msgspec.structs.replace(settings, alert_webhook=hook.url))) as http:
        page = http.get("/alerts", headers=HTML).text
        assert f"{hook.origin}/…" in page
        answer = http.post("/alerts/test", data=fields(page), headers=HTML)
        assert (answer.status_code, f"{hook.origin}/… answered 200" in answer.text) == (200, True)
        assert http.post("/v1/alerts/test").json()["data"] == {"answered": f"{hook.origin}/… answered 200"}
        assert "answered 200" in bus("alerts", "test", url=url, BUS_ALERT_WEBHOOK=hook.url)
        assert [(body["test"], body["alerts"]) for body in hook.bodies] == [(True, [])] * 3
        hook.status = 404
        assert http.post("/alerts/test", data=fields(page), headers=HTML).status_code == 502
        refused = http.post("/v1/alerts/test")
        assert (refused.status_code, refused.json()["code"]) == (502, "alert_not_sent")
        assert refused.json()["error"] == f"{hook.origin}/… answered 404: no: /…/…/…/…"
        assert "answered 404" in bus("alerts", "test", url=url, code=1, BUS_ALERT_WEBHOOK=hook.url)
        told = page + http.get("/system", headers=HTML).text + http.get("/v1/system").text + refused.text
    assert not [part for part in SECRET.split("/") if part in told + repr(settings)]
    outcomes = [one["outcome"] for _, one in cast("Any", store.xrange(keys.audit()))]
    assert outcomes.count("done") == 3
    assert len(outcomes) == 6


def test_who_has_nowhere_to_send_is_told_so(http: TestClient, url: str) -> None:
    page = http.get("/alerts", headers=HTML).text
    assert "nowhere: BUS_ALERT_WEBHOOK is not set for this site" in page
    assert {one["state"] for one in http.get("/v1/alerts").json()["data"]["rules"]} == {"unwatched"}, "and not quiet"
    refused = http.post("/v1/alerts/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_alert_destination")
    assert "set BUS_ALERT_WEBHOOK" in http.post("/alerts/test", data=fields(page), headers=HTML).text
    assert "set BUS_ALERT_WEBHOOK" in bus("alerts", "test", url=url, code=1)


def test_a_threshold_is_set_for_all_by_page_api_command_or_hand_and_taken_back(
    http: TestClient, url: str, store: "redis.Redis"
) -> None:
    def told(rule: str) -> tuple[str, str]:
        [one] = [one for one in http.get("/v1/alerts").json()["data"]["rules"] if one["rule"] == rule]
        return one["threshold"], one["by"]

    page = http.get("/alerts", headers=HTML).text
    assert told("waiting") == ("10m", "default")
    http.post("/alerts/rules/waiting/set", data={**fields(page), "threshold": "30m"}, headers=HTML)
    assert told("waiting") == ("30m", "set")
    assert http.put("/v1/alerts/rules/line", json={"threshold": "off"}).json()["data"] == {"rule": "line", "threshold": "off"}  # fmt: skip
    bus("alerts", "set", "failures", "5/10m", url=url)
    assert store.hget(keys.alerts(), "set failures") == "5/10m"
    store.hset(keys.alerts(), "set memory", "much")
    assert told("memory") == ("85%", "default")
    assert "The field <code>set memory</code> of <code>bus:alerts</code> says nothing" in http.get("/alerts", headers=HTML).text  # fmt: skip
    assert "line off (set) off" in " ".join(bus("alerts", url=url).split())
    assert http.delete("/v1/alerts/rules/waiting").json()["data"] == {"rule": "waiting", "was_set": True}
    http.post("/alerts/rules/line/reset", data=fields(page), headers=HTML)
    bus("alerts", "reset", "failures", url=url)
    assert [told(rule)[1] for rule in ("waiting", "line", "failures")] == ["default"] * 3


def test_a_function_has_a_threshold_of_its_own_by_all_these_ways(
    settings: Settings, url: str, store: "redis.Redis"
) -> None:
    configured = msgspec.structs.replace(settings, alert_rules=("line=5", "line:shop-a/b=9"))
    with TestClient(create_app(configured=configured)) as http:

        def told() -> dict[str, list[tuple[str, str, str]]]:
            rules = http.get("/v1/alerts").json()["data"]["rules"]
            return {
                one["rule"]: [(own["function"], own["threshold"], own["by"]) for own in one["functions"]]
                for one in rules
                if one["functions"]
            }

        assert told() == {"line": [("shop-a/b", "9", "settings")]}
        assert http.put("/v1/alerts/rules/line:shop-a/b", json={"threshold": "off"}).status_code == 200
        assert store.hget(keys.alerts(), "set line:shop-a/b") == "off"
        page = http.get("/alerts", headers=HTML).text
        form = {**fields(page), "threshold": "2h", "function": " shop-c "}
        assert http.post("/alerts/rules/waiting/set", data=form, headers=HTML).status_code == 200
        assert told() == {"line": [("shop-a/b", "off", "set")], "waiting": [("shop-c", "2h", "set")]}
        assert "waiting 10m unwatched shop-c: 2h (set)" in " ".join(bus("alerts", url=url).split())
        bus("alerts", "reset", "waiting:shop-c", url=url)
        assert http.delete("/v1/alerts/rules/line:shop-a/b").json()["data"]["was_set"]
        assert told() == {"line": [("shop-a/b", "9", "settings")]}


@pytest.mark.parametrize(
    ("rule", "threshold", "status", "words"),
    [
        ("waiting", "soon", 400, "the threshold: waiting='soon': expected a duration, as 10m, or off"),
        ("waiting", "0s", 400, "expected a duration"),
        ("line", "0", 400, "expected a whole number from 1"),
        ("line", "1.5", 400, "expected a whole number from 1"),
        ("line", "\u0661\u0662", 400, "expected a whole number from 1"),
        ("memory", "101%", 400, "expected a percentage from 1% to 100%"),
        ("failures", "20%/2h", 400, "in a window from 1m to 1h"),
        ("failures", "20%/", 400, "in a window from 1m to 1h"),
        ("failures", "120%", 400, "in a window from 1m to 1h"),
        ("unfit", "yes", 400, "expected on, or off"),
        ("unfit:shop-f", "off", 404, "unfit is not about a function; write unfit"),
        ("waiting:", "1h", 404, "'waiting:' names no function"),
        ("waiting:a b", "1h", 404, "'waiting:a b' names no function"),
        ("waiting:shop-f", "x", 400, "expected a duration"),
        ("wating", "1h", 404, "'wating' is no rule; did you mean waiting?"),
    ],
)
def test_what_is_no_threshold_is_refused_wherever_it_is_set(
    http: TestClient, url: str, rule: str, threshold: str, status: int, words: str
) -> None:
    refused = http.put(f"/v1/alerts/rules/{rule}", json={"threshold": threshold})
    assert (refused.status_code, words in refused.json()["error"]) == (status, True), refused.text
    form = {**fields(http.get("/alerts", headers=HTML).text), "threshold": threshold}
    assert http.post(f"/alerts/rules/{rule}/set", data=form, headers=HTML).status_code == status
    assert words in bus("alerts", "set", rule, threshold, url=url, code=1)
    with pytest.raises(ConfigError, match="BUS_ALERT_RULES"):
        Settings(alert_rules=(f"{rule}={threshold}",))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("alert_webhook", f"ftp://x/{SECRET}", "BUS_ALERT_WEBHOOK must be an address"),
        ("alert_webhook", f"https:///{SECRET}", "BUS_ALERT_WEBHOOK must be an address"),
        ("alert_webhook", f"https://x:99999/{SECRET}", "BUS_ALERT_WEBHOOK must be an address"),
        ("alert_webhook", f"https://x:0/{SECRET}", "BUS_ALERT_WEBHOOK must be an address"),
        ("alert_command", f"say '{SECRET}", "BUS_ALERT_COMMAND is no command: No closing quotation"),
        ("alert_format", "xml", "BUS_ALERT_FORMAT must be auto, json or slack, got 'xml'"),
        ("alert_every_ms", 100, "BUS_ALERT_EVERY must be at least 0.5 s"),
        ("alert_rules", ("waiting",), "BUS_ALERT_RULES: 'waiting' is no rule with its threshold"),
        ("alert_rules", ("line=1", "line=2"), "BUS_ALERT_RULES: line is there twice"),
        ("public_url", "bus.example", "BUS_PUBLIC_URL must be an address"),
    ],
)
def test_a_setting_of_alerts_that_cannot_work_is_refused_and_no_secret_is_shown(
    field: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**{field: value})  # type: ignore[arg-type]
    assert words in str(refused.value)
    assert not [part for part in SECRET.split("/") if part in str(refused.value)]
