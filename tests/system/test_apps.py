"""The limits and schedules of two applications this bus carries, with their names to the letter."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from stepstream import Bus, Concurrency, Context, Cron, Harness, Step, StepFailed
from tests.support import Lab

DAILY = (
    "votes-an", "votes-senat", "legislation", "legislation-content", "summaries-dossiers", "summaries-scrutins", "press-rss",
    "press-analysis", "judilibre", "reconcile-affairs", "factchecks", "classify-themes", "embeddings-factchecks",
    "embeddings-press", "prominence", "publication-status",
)  # fmt: skip


def poligraph(app: Bus, seen: "Counter[str]") -> None:
    """sync-press, a script of the factory, sync-daily."""
    running: Counter[str] = Counter()

    async def script(name: str, fails: bool = False) -> str:
        running[name] += 1
        seen[name] = max(seen[name], running[name])
        await asyncio.sleep(0.02)
        running[name] -= 1
        if fails:
            raise ValueError(f"{name} is broken")
        return name

    @app.function("sync-press", on="sync/press", retries=2, concurrency=Concurrency(1, key="'sync-press'"))
    async def sync_press(ctx: Context[dict], step: Step) -> dict:
        found = await step.run("parse-rss", script, "press")
        ctx.progress(50, processed=1)
        analysed = await step.run("ai-analysis", script, "press")
        return {"found": found, "analysed": analysed, "limit": ctx.event.data.get("limit", 100)}

    def synced(name: str) -> None:
        @app.function(f"sync-{name}", on=f"sync/{name}", retries=2, concurrency=1)
        async def sync(ctx: Context[dict], step: Step) -> str:
            return await step.run("script", script, name, timeout="10m")

    synced("votes")

    @app.function("sync-daily", on=[Cron("0 5,11,19 * * *"), "sync/daily"], retries=0, concurrency=1)
    async def sync_daily(ctx: Context[dict], step: Step) -> dict[str, Any]:
        failures = []
        for name in DAILY:
            try:
                await step.run(name, script, "daily", name in ctx.event.data.get("broken", ()))
            except StepFailed as error:
                failures.append(error.step)
        return {"total": 16, "succeeded": 16 - len(failures), "failed": len(failures), "failures": failures}


async def test_poligraph_runs_each_script_once_at_a_time_and_a_broken_step_does_not_stop_the_rest(lab: Lab) -> None:
    seen: Counter[str] = Counter()
    poligraph(lab.app, seen)
    await lab.work()
    for n in range(4):
        await lab.send("sync/press", {"limit": n})
        await lab.send("sync/votes")
    await lab.send("sync/daily", {"broken": ["judilibre", "prominence"]})
    await lab.send("sync/daily")
    runs = await lab.ended(10)
    assert {run.status for run in runs} == {"completed"}
    assert seen == {"press": 1, "votes": 1, "daily": 1}
    outputs = {run.function: [] for run in runs}
    for run in runs:
        outputs[run.function].append(json.loads(bytes(run.output or b"")))
    assert sorted(one["limit"] for one in outputs["test-sync-press"]) == [0, 1, 2, 3]
    assert sorted(one["failed"] for one in outputs["test-sync-daily"]) == [0, 2]
    assert {"total": 16, "succeeded": 14, "failed": 2, "failures": ["judilibre", "prominence"]} in outputs[
        "test-sync-daily"
    ]


@pytest.mark.parametrize("expression", ["0 4 * * *"])
async def test_overnight_scoring_goes_on_where_it_stood_and_warms_the_caches(expression: str) -> None:
    """investments-planner: six steps in order at four, then the cache warmer; a step that fails is tried by itself."""
    app, tried = Bus("investments-planner"), Counter[str]()

    def record(name: str) -> str:
        tried[name] += 1
        if name == "fetch-asset-prices" and tried[name] == 1:
            raise ConnectionError("no prices yet")
        return name

    @app.function("overnight-scoring", on=Cron(expression))
    async def scoring(ctx: Context[dict], step: Step) -> list[str]:
        done = [await step.run(name, record, name) for name in ("setup", "fetch-exchange-rates", "fetch-asset-prices")]
        users = await step.run("get-active-users", lambda: ["u1", "u2", "u3"])
        await asyncio.gather(*(step.run(f"score-portfolios-{user}", record, f"score-{user}") for user in users))
        await step.send_event("trigger-cache-warming", "cache/warming.started", {"correlation": ctx.run_id})
        return done

    @app.function("cache-warmer", on="cache/warming.started")
    async def warmer(ctx: Context[dict], step: Step) -> None:
        for name in ("get-users-for-warming", "warm-recommendations-cache", "warm-dashboard-cache"):
            await step.run(name, record, name)
        await step.send_event("completed", "cache/warming.completed", {})

    async with Harness(app) as bus:
        await bus.advance("1d")
        await bus.finish()
        runs = await bus.runs("investments-planner-overnight-scoring")
        assert [run.status for run in runs] == ["completed"]
        assert (await bus.steps(runs[0].id))["fetch-asset-prices"].attempts == 2
        assert len(await bus.events("cache/warming.completed")) == 1
        assert {name: count for name, count in tried.items() if count > 1} == {"fetch-asset-prices": 2}
