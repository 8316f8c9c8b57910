"""Alerts: what fires and what is over is sent, once, to a webhook that listens here."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Context, Step, create_app
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.alerts.evaluator import Evaluator
from stepstream.consumers.alerts.turning import CALM_ROUNDS
from stepstream.consumers.worker import Worker, running
from tests.forks import Forked
from tests.hook import SECRET, Hook
from tests.patience import PATIENT_S
from tests.support import Lab, WorkerProcess, fields, free_port, until
from tests.system.test_commands import bus

HTML = {"accept": "text/html"}


@pytest.fixture
def hook() -> Generator[Hook]:
    with Hook() as started:
        yield started


class Looking:
    """A process that looks for alerts; the test says when."""

    def __init__(self, settings: Settings, hook: Hook, *rules: str, by: str = "one", **more: object) -> None:
        given = {"alert_webhook": hook.url, "alert_rules": rules, **more}
        self.settings = msgspec.structs.replace(settings, **given)
        self.wire = Wire(self.settings, by)
        self.notices: list[str] = []
        self.evaluator = Evaluator(self.wire, by, lambda event, **fields: self.notices.append(f"{event} {fields}"))

    async def __aenter__(self) -> "Looking":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.wire.close()

    async def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            await self.evaluator.once()


async def test_work_that_no_worker_serves_is_told_once_and_so_is_that_one_does(
    lab: Lab, hook: Hook, settings: Settings
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with running(Worker(lab.app, settings=settings)):
        pass
    lab.app.connect(lab.wire)
    await lab.send("a")
    async with Looking(settings, hook, "no_worker=1ms", public_url="https://bus.example/here/") as looking:
        await looking.rounds(5)
        assert hook.told == [("no_worker", "test-f", "firing")]
        [one] = hook.bodies[0]["alerts"]
        assert one["text"].startswith("FIRING no_worker test-f: no worker serves test-f: 1 event cannot go on (for ")
        assert (one["value"], one["threshold"]) == ("0 workers", "1ms")
        assert one["link"] == "https://bus.example/here/functions/test-f"
        await lab.work()
        await lab.ended(1)
        await looking.rounds(CALM_ROUNDS - 1)
        assert len(hook.told) == 1, "what comes and goes is not told each time"
        await looking.rounds(3)
        assert hook.told[1:] == [("no_worker", "test-f", "resolved")]


def told_of_itself(store: "redis.Redis") -> bool:
    names = cast("list[str]", store.zrange(keys.workers(), 0, -1))  # pyright: ignore[reportUnknownMemberType]
    return any(store.hget(keys.worker(name), "functions") for name in names)


@pytest.mark.process
def test_a_worker_that_is_killed_is_told_by_the_site_once_and_that_it_is_back(
    url: str, store: "redis.Redis", hook: Hook, tmp_path: Path
) -> None:
    given = {"BUS_LEASE": "1", "BUS_ALERT_EVERY": "0.5", "BUS_ALERT_RULES": "no_worker=100ms", "BUS_ALERT_WEBHOOK": hook.url}  # fmt: skip
    environ = {**os.environ, "BUS_REDIS_URL": url, **given}
    site = Forked("serve", "--port", str(free_port()), env=environ, err=tmp_path / "site.log")
    try:
        with WorkerProcess("tests.chaos.app:app", url, log=tmp_path / "worker.log", environ=given) as worker:
            worker.wait_ready()
            until(lambda: store.hget(keys.alerts(), "by"), "somebody looks")
            until(lambda: told_of_itself(store), "it has told what it serves")
            assert hook.told == []
        slugs = sorted(cast("list[str]", store.hkeys(keys.functions())))
        hook.heard(*(("no_worker", slug, "firing") for slug in slugs))
        with WorkerProcess("tests.chaos.app:app", url, log=tmp_path / "worker.log", environ=given):
            hook.heard(*(("no_worker", slug, "resolved") for slug in slugs))
        assert len(hook.told) == 2 * len(slugs), "once each"
        assert len(hook.bodies) <= 4, "many at once are one message"
    finally:
        site.terminate()
        assert site.wait(PATIENT_S) == 0
    logs = (tmp_path / "site.log").read_text() + (tmp_path / "worker.log").read_text()
    assert not any(part in logs for part in SECRET.split("/"))


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


@pytest.mark.parametrize(
    ("rule", "threshold", "status", "words"),
    [
        ("waiting", "soon", 400, "the threshold: waiting='soon': expected a duration, as 10m, or off"),
        ("waiting", "0s", 400, "expected a duration"),
        ("line", "0", 400, "expected a whole number from 1"),
        ("line", "1.5", 400, "expected a whole number from 1"),
        ("memory", "101%", 400, "expected a percentage from 1% to 100%"),
        ("failures", "20%/2h", 400, "in a window from 1m to 1h"),
        ("failures", "20%/", 400, "in a window from 1m to 1h"),
        ("failures", "120%", 400, "in a window from 1m to 1h"),
        ("unfit", "yes", 400, "expected on, or off"),
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
