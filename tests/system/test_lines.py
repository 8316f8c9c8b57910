"""What waits for a limit can be listed and counted: on the page, over HTTP, from the command line."""

import asyncio
import json
import os

import anyio.to_thread
import httpx2

from stepstream import Batch, Concurrency, Context, EventData, RateLimit, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.checkpoint.limits.backlogs import Backlog, backlogs_of
from tests import forks
from tests.support import Lab, eventually


class Asked(EventData, name="shop/asked", rename="camel"):
    user_id: str


def command(settings: Settings, *words: str) -> str:
    done = forks.bus("functions", *words, env={**os.environ, "BUS_REDIS_URL": settings.redis_url})
    return done.stdout + done.stderr


async def test_backlogs_per_key_are_on_the_page_in_the_api_and_in_the_command(lab: Lab) -> None:
    gate = asyncio.Event()

    @lab.app.function(
        "f", on=Asked, concurrency=Concurrency(2, key="event.data.userId"), rate_limit=RateLimit(60, "1m")
    )
    async def f(ctx: Context[Asked], step: Step) -> None:
        await gate.wait()

    @lab.app.function("b", on="shop/counted", batch=Batch(10, "1m"))
    async def b(ctx: Context[dict], step: Step) -> None:
        return None

    await lab.work()
    await lab.app.send([Asked("<ann>") for _ in range(5)] + [Asked("ben")] * 3)
    await lab.send("shop/counted")
    await lab.send("shop/counted")

    async def settled() -> bool:
        found = await backlogs_of(lab.wire, "test-f")
        return found.backlogs == [Backlog("c0:%3Cann%3E", 3, 2)] and len(await lab.runs()) == 10

    await eventually(settled, "seven pass the rate limit, five for ann, two for ben, one is dropped")
    app = create_app(configured=lab.settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
            told = (await http.get("/v1/functions/test-f")).json()["data"]
            assert told["lines"] == [{"key": "c0:%3Cann%3E", "waiting": 3, "running": 2}]
            assert told["runs"]["skipped"] == 1
            assert told["flow"] == ["2 at a time per event.data.userId", "at most 60 in 1m"]
            page = (await http.get("/functions/test-f", headers={"accept": "text/html"})).text
            assert "2 at a time per event.data.userId" in page
            assert "&lt;ann&gt;<small" in page
            assert '<td class="wide">2 at a time per event.data.userId</td><td class="n wait">3</td>' in page
            assert "<small>rate limit</small>" in page
            batch = (await http.get("/functions/test-b", headers={"accept": "text/html"})).text
            assert "a batch of 2 runs in" in batch
            assert (await http.get("/v1/functions/test-x")).status_code == 404
            assert (await http.get("/functions/test-x", headers={"accept": "text/html"})).status_code == 404
            skipped = (await http.get("/v1/runs?status=skipped&function=test-f")).json()["data"][0]
            shown = (await http.get(f"/runs/{skipped['id']}", headers={"accept": "text/html"})).text
            assert "rate limit" in shown
    text = await anyio.to_thread.run_sync(command, lab.settings, "test-f")
    assert "\n  2 at a time per event.data.userId\n" in text
    assert [line.split() for line in text.splitlines() if "ann" in line] == [["c0:%3Cann%3E", "3", "2"]]
    told = json.loads(await anyio.to_thread.run_sync(command, lab.settings, "test-b", "--json"))
    assert told["buffers"][0]["events"] == 2
    assert "is not registered; there are test-b, test-f" in await anyio.to_thread.run_sync(
        command, lab.settings, "nope"
    )
    gate.set()
    await lab.ended(10)
