"""Alerts: what fires and what is over is sent, once, to a webhook that listens here."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from stepstream import Context, Step
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.consumers.alerts.turning import CALM_ROUNDS
from stepstream.consumers.worker import Worker, running
from tests.forks import Forked
from tests.hook import SECRET, Hook, Looking
from tests.patience import PATIENT_S
from tests.support import Lab, WorkerProcess, free_port, until

HTML = {"accept": "text/html"}


@pytest.fixture
def hook() -> Generator[Hook]:
    with Hook() as started:
        yield started


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
