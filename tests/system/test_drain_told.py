"""A worker that people tell to drain reads no more, finishes what it has in hand, and ends; others go on."""

import asyncio
from collections.abc import Generator

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Context, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.serverclock import FAR
from stepstream.checkpoint.actions.drain import NotDrained, WorkerNotFound, drain
from stepstream.checkpoint.facts.workers import workers_told
from stepstream.consumers.worker import Worker
from tests.support import Lab, eventually
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form


async def told_of(lab: Lab, worker: Worker) -> None:
    async def look() -> bool:
        return any(one.name == worker.name and one.drains for one in await workers_told(lab.wire))

    await eventually(look, "it has told of itself")


async def gone(lab: Lab, worker: Worker) -> None:
    async def look() -> bool:
        return worker.name not in [one.name for one in await workers_told(lab.wire)]

    await eventually(look, "it has left")


async def test_a_worker_that_is_told_to_drain_finishes_what_it_has_and_another_goes_on(lab: Lab) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        async def work() -> None:
            begun.set()
            await go_on.wait()

        if ctx.event.data["n"] == 0:
            await step.run("work", work)
        return "done"

    first = await lab.work()
    await told_of(lab, first)
    await lab.send("a", {"n": 0})
    await begun.wait()
    second = await lab.work()
    asked = await drain(lab.wire, first.name, "Ada")
    assert await drain(lab.wire, first.name, "Bob") == asked, "who was first stands"
    await first.drains.wait()
    for n in range(1, 5):
        await lab.send("a", {"n": n})

    async def ended() -> bool:
        return await lab.wire.load("ZCARD", keys.runs("test-f", "completed")) == 4

    await eventually(ended, "the other takes what comes")
    go_on.set()
    runs = await lab.ended(5)
    assert {run.status for run in runs} == {"completed"}
    assert first.left == 0
    await gone(lab, first)
    with pytest.raises(WorkerNotFound):
        await drain(lab.wire, first.name, "Ada")
    assert second.name in [one.name for one in await workers_told(lab.wire)]


async def test_one_that_is_gone_or_cannot_hear_of_it_is_told_of(lab: Lab, store: "redis.Redis") -> None:
    now = await lab.wire.clock()
    store.zadd(keys.workers(), {"dead": now - 1, "old": now + (FAR - 1) * lab.settings.lease_ms})
    with pytest.raises(NotDrained, match="is gone"):
        await drain(lab.wire, "dead", "Ada")
    with pytest.raises(NotDrained, match="SIGTERM"):
        await drain(lab.wire, "old", "Ada")
    assert not store.exists(keys.worker("old"))


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=settings)) as client:
        yield client


def test_it_is_told_on_the_page_by_the_api_and_in_the_terminal(
    http: TestClient, store: "redis.Redis", url: str, settings: Settings
) -> None:
    name = "host-1-<b>"

    def renew() -> None:
        store.zadd(keys.workers(), {name: int(store.time()[0]) * 1_000 + (FAR - 1) * settings.lease_ms})

    renew()
    assert "Drain" not in http.get("/workers").text, "one of an earlier version has no button"
    store.hset(keys.worker(name), "drains", "1")
    where, sent = form(http.get("/workers").text, "Drain it")
    for _ in range(2):
        assert http.post(where, data=sent, follow_redirects=False).headers["location"] == "/workers"
    assert http.post(f"/v1/workers/{name}/drain").json()["data"] == {"worker": name, "by": "the status page"}
    assert http.post("/v1/workers/none/drain").status_code == 404
    renew()
    assert "told by the status page" in bus("workers", "drain", name, url=url)
    assert "bus workers lists" in bus("workers", "drain", "none", url=url, code=1)
    store.zadd(keys.workers(), {name: 1})
    assert http.post(where, data=sent, follow_redirects=False).status_code == 303, "it is gone: the page says so"
    assert http.post(f"/v1/workers/{name}/drain").status_code == 409
