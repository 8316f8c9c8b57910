"""The functions: scoring, one for each market, and the cache warmer.

Run them with `bus dev investments_planner.functions:app`.
"""

import asyncio
import os
import time

import msgspec
import structlog

from investments_planner.events import ScoringCompleted, ScoringStarted, Tick, WarmingCompleted, WarmingStarted
from investments_planner.jobs import Job, Jobs, opened
from investments_planner.outside import Score, active_users, fetch_asset_prices, fetch_exchange_rates, score, warm
from investments_planner.tracing import traced, write_job_span
from stepstream import Bus, Context, Cron, Function, Step

MARKETS = {
    "overnight-scoring": ("all", Cron(os.environ.get("OVERNIGHT_JOB_CRON", "0 4 * * *"))),
    "overnight-scoring-new-york": ("new-york", Cron("30 17 * * 1-5", tz="America/New_York")),
    "overnight-scoring-tokyo": ("tokyo", Cron("30 16 * * 1-5", tz="Asia/Tokyo")),
}
"""Each function's market and schedule: an hour and a half after the exchange has closed, on its own clock."""
WITHIN = "1m"
"""How long market data may take before it is asked for again."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("planner")
app = Bus("investments-planner", lifespan=opened)


class Scored(msgspec.Struct):
    """What a night's scoring came to."""

    correlation_id: str
    scored: int
    euros: float


async def setup(jobs: Jobs, run_id: str, market: str) -> Job:
    """Make a correlation id, record the job as started, and tell of it. Done again, it is the same job and event."""
    job = await jobs.started(run_id, market, time.time_ns() // 1_000_000)
    await app.send(ScoringStarted(job.correlation_id, market), id=f"started-{job.correlation_id}")
    log.info("scoring has started", correlation_id=job.correlation_id, market=market)
    return job


async def score_one(user: str, rates: dict[str, float], prices: dict[str, float]) -> Score:
    """Score a user's portfolio, and log it; the line has the correlation id by itself."""
    found = await score(user, rates, prices)
    log.info("scored", user=user, risk=found.risk)
    return found


def scoring(id: str, market: str, cron: Cron) -> Function[Tick, Scored]:
    """Declare the scoring of a market."""

    @app.function(id, on=cron, retries=3, name=f"Overnight scoring, {market}")
    async def overnight_scoring(ctx: Context[Tick, Jobs], step: Step) -> Scored:
        job = await step.run("setup", setup, ctx.state, ctx.run_id, market)

        rates = await step.run(
            "fetch-exchange-rates", traced(job, "fetch-exchange-rates", fetch_exchange_rates), market, timeout=WITHIN
        )
        prices = await step.run(
            "fetch-asset-prices", traced(job, "fetch-asset-prices", fetch_asset_prices), market, timeout=WITHIN
        )
        users = await step.run("get-active-users", traced(job, "get-active-users", active_users), market)
        one = traced(job, "score-portfolios", score_one)  # a step each: score-portfolios, score-portfolios:1, …
        scores = await asyncio.gather(*(step.run("score-portfolios", one, user, rates, prices) for user in users))
        await step.send_event(
            "trigger-cache-warming",
            [WarmingStarted(job.correlation_id, users), ScoringCompleted(job.correlation_id, market, len(scores))],
        )
        await ctx.state.finished(ctx.run_id, len(scores))  # the same, however often the end is reached
        write_job_span(job, "overnight-scoring")
        return Scored(job.correlation_id, len(scores), round(sum(found.euros for found in scores), 2))

    return overnight_scoring


SCORINGS = [scoring(id, market, cron) for id, (market, cron) in MARKETS.items()]


@app.function("cache-warmer", on=WarmingStarted, retries=3)
async def cache_warmer(ctx: Context[WarmingStarted, Jobs], step: Step) -> int:
    """Warm both caches for the users of a night."""
    wanted = ctx.event.data
    job = Job(wanted.correlation_id, ctx.run_id, "all", ctx.event.ts)

    async def users_for_warming() -> list[str]:
        return [user for user in wanted.users if not user.endswith("-cleo")]  # she has switched recommendations off

    users = await step.run("get-users-for-warming", traced(job, "get-users-for-warming", users_for_warming))
    for name, cache in (("warm-recommendations-cache", "recommendations"), ("warm-dashboard-cache", "dashboard")):
        await step.run(name, traced(job, name, warm), cache, users)
    await step.send_event("completed", WarmingCompleted(wanted.correlation_id, len(users)))
    return len(users)
