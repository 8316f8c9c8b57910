"""The nights, under the harness: its clock is moved from one schedule to the next."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from investments_planner import events
from investments_planner.functions import MARKETS, app
from investments_planner.jobs import Jobs
from stand_ins import calls, tell
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from stepstream import Harness

Made = Callable[..., Harness]
SCORING = "investments-planner-overnight-scoring"
STEPS = [
    "setup", "fetch-exchange-rates", "fetch-asset-prices", "get-active-users",
    "score-portfolios", "score-portfolios:1", "score-portfolios:2", "trigger-cache-warming",
]  # fmt: skip
"""The six steps in order; the fifth once for each of three users."""
SUNDAY = datetime(2026, 3, 1, 3, 59, tzinfo=UTC)
"""A minute before overnight scoring; on Sundays no other market is scored."""


@pytest.mark.criterion("events")
def test_the_events_have_their_names() -> None:
    kinds = (events.ScoringStarted, events.ScoringCompleted, events.WarmingStarted, events.WarmingCompleted)
    assert [kind.event_name for kind in kinds] == [
        "overnight/scoring.started", "overnight/scoring.completed", "cache/warming.started", "cache/warming.completed",
    ]  # fmt: skip


@pytest.mark.criterion("cron", "markets")
async def test_each_market_is_scored_by_its_own_clock(harness: Made) -> None:
    """In March New York's clocks have changed and Europe's have not: 17:30 there is 21:30 UTC."""
    assert [cron.text for _, cron in MARKETS.values()] == [
        "cron 0 4 * * *", "cron 30 17 * * 1-5 America/New_York", "cron 30 16 * * 1-5 Asia/Tokyo",
    ]  # fmt: skip
    async with harness(app, at=datetime(2026, 3, 9, 0, 0, tzinfo=UTC)) as bus:  # a Monday
        ran: dict[str, int] = {}
        for hour in range(24):
            await bus.advance("1h")
            for run in await bus.runs():
                if "scoring" in run.function:
                    ran.setdefault(run.function, hour)
    assert ran == {SCORING: 3, f"{SCORING}-tokyo": 7, f"{SCORING}-new-york": 21}


@pytest.mark.criterion("six-steps", "setup", "warmer")
async def test_a_night_takes_its_steps_in_order_and_warms_the_caches(harness: Made, database: Path) -> None:
    async with harness(app, at=SUNDAY) as bus:
        await bus.advance("2m")
        (night,) = await bus.runs(SCORING)
        assert list(await bus.steps(night.id)) == STEPS
        scored = await bus.output(night.id)
        (warming,) = await bus.runs("investments-planner-cache-warmer")
        assert list(await bus.steps(warming.id)) == [
            "get-users-for-warming", "warm-recommendations-cache", "warm-dashboard-cache", "completed",
        ]  # fmt: skip
        for name in ("overnight/scoring.started", "overnight/scoring.completed", "cache/warming.started"):
            (event,) = await bus.events(name)
            assert event.data["correlation_id"] == scored["correlation_id"]
        (warm,) = await bus.events("cache/warming.completed")
        assert warm.data == {"correlation_id": scored["correlation_id"], "warmed": 2}
    (job,) = await Jobs(str(database)).latest()
    assert (job.correlation_id, job.run_id, job.scored) == (scored["correlation_id"], night.id, 3)


@pytest.mark.criterion("retries")
async def test_each_step_is_retried_on_its_own(harness: Made, told: Path) -> None:
    tell(told, {"prices/all": {"fail": 1}, "score/all-ben": {"fail": 2}})
    async with harness(app, at=SUNDAY) as bus:
        await bus.advance("2m")
        await bus.finish()
        (night,) = await bus.runs(SCORING)
        assert night.status == "completed"
        tries = {id: step.attempts for id, step in (await bus.steps(night.id)).items()}
    assert {id: count for id, count in tries.items() if count > 1} == {
        "fetch-asset-prices": 2, "score-portfolios:1": 3,
    }  # fmt: skip
    made = calls(told)
    assert {call: count for call, count in made.items() if count > 1} == {"prices/all": 2, "score/all-ben": 3}


@pytest.mark.criterion("slow")
async def test_prices_that_do_not_come_in_time_are_asked_for_again(
    harness: Made, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investments_planner.functions.WITHIN", "100ms")
    tell(told, {"prices/*": {"slow": 5}})
    async with harness(app, at=SUNDAY) as bus:
        await bus.advance("1m")
        (night,) = await bus.runs(SCORING)
        step = (await bus.steps(night.id))["fetch-asset-prices"]
        assert (step.state, step.attempts) == ("retrying", 1)
        tell(told, {})
        await bus.finish()
        assert (await bus.steps(night.id))["fetch-asset-prices"].attempts == 2
        assert (await bus.run(night.id)).status == "completed"


@pytest.mark.criterion("logs")
async def test_what_a_job_logs_carries_its_correlation_id(harness: Made) -> None:
    async with harness(app, at=SUNDAY) as bus:
        with capture_logs([merge_contextvars]) as logged:
            await bus.advance("2m")
        correlation = (await bus.events("overnight/scoring.started"))[0].data["correlation_id"]
    lines = [line for line in logged if line["event"] in {"scoring has started", "scored"}]
    assert len(lines) == 4
    assert {line["correlation_id"] for line in lines} == {correlation}
