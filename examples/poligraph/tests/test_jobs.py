"""The functions, under the harness. Scripts are stubbed, but where the process is what is claimed."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from poligraph.functions import Round, Synced, app, script_function, sync_daily
from poligraph.jobs import Jobs, Status, SyncJob, opened
from poligraph.scripts import SCRIPTS, command
from stand_ins import calls, tell

from stepstream import Bus, Cron, Harness, ProcessResult, Retry

DAILY = [
    "votes-an",
    "votes-senat",
    "legislation",
    "legislation-content",
    "summaries-dossiers",
    "summaries-scrutins",
    "press-rss",
    "press-analysis",
    "judilibre",
    "reconcile-affairs",
    "factchecks",
    "classify-themes",
    "embeddings-factchecks",
    "embeddings-press",
    "prominence",
    "publication-status",
]
GROUPS = {
    "sync-votes": ("sync/votes", ["votes-an", "votes-senat"]),
    "sync-legislation": ("sync/legislation", ["legislation", "legislation-content"]),
    "discover-affairs": ("discover/affairs", ["judilibre", "reconcile-affairs"]),
    "sync-factchecks": ("sync/factchecks", ["factchecks", "classify-themes"]),
    "generate-ai": ("generate/ai", ["summaries-dossiers", "summaries-scrutins"]),
    "index-embeddings": ("index/embeddings", ["embeddings-factchecks", "embeddings-press"]),
    "sync-politicians": ("sync/politicians", ["politicians-an", "politicians-senat", "photos"]),
    "maintenance": ("sync/maintenance", ["prominence", "publication-status"]),
}


def said(processed: int) -> ProcessResult:
    """Return what a script leaves that has gone through so many records."""
    return ProcessResult(stdout=f'begins\n{{"processed":{processed}}}\n')


async def job(id: str) -> SyncJob:
    """Return a job's record."""
    async with opened() as jobs:
        found = await jobs.get(id)
    assert found is not None
    return found


def limits_of(function: str) -> tuple[Retry, list[tuple[int, str | None]]]:
    """Return how often a function is tried again, and how many of its runs go at once, by which key."""
    declared = app.functions[function]
    every = declared.flow.concurrency
    return declared.retry, [(one.limit, one.key) for one in every]


@pytest.mark.criterion("sync-press", "job-record")
async def test_press_is_parsed_then_analysed_with_the_limit_of_the_event(
    harness: Callable[..., Harness], told: Path
) -> None:
    tell(told, {})
    async with harness(app) as bus:
        await bus.send("sync/press", {"limit": 7, "jobId": "j1"})
        steps = await bus.steps()
        assert list(steps) == ["parse-rss", "ai-analysis"]
        result = msgspec.convert(await bus.output(), Synced)
        assert result.steps["ai-analysis"] == 7
    assert calls(told) == {"script/press-rss": 1, "script/press-analysis": 1}
    done = await job("j1")
    assert (done.status, done.progress, done.processed) == (Status.COMPLETED, 100, result.processed)
    assert msgspec.convert(done.result, Synced) == result
    assert done.error is None
    assert done.completed is not None
    assert done.started <= done.completed
    assert limits_of("sync-press") == (Retry(2), [(1, "'sync-press'")])


@pytest.mark.criterion("sync-press", "fails")
async def test_half_is_done_after_the_parsing_and_a_script_that_fails_is_tried_again_alone(
    harness: Callable[..., Harness], told: Path
) -> None:
    tell(told, {"script/press-analysis": {"fail": 2}})
    async with harness(app) as bus:
        await bus.send("sync/press")
        run = await bus.run()
        assert run.status == "waiting"
        half = await job(run.id)
        assert (half.status, half.progress) == (Status.RUNNING, 50)
        await bus.finish()
        assert (await bus.steps())["ai-analysis"].attempts == 3
        assert msgspec.convert(await bus.output(), Synced).steps["ai-analysis"] == 100, "the default limit"
    assert calls(told) == {"script/press-rss": 1, "script/press-analysis": 3}


@pytest.mark.criterion("groups")
async def test_the_other_groups_alike(harness: Callable[..., Harness]) -> None:
    async with harness(app) as bus:
        for place, (event, stages) in enumerate(GROUPS.values()):
            for stage in stages:
                bus.stub(stage, said(place))
            await bus.send(event, {"limit": 5})
        for id, (_event, stages) in GROUPS.items():
            runs = await bus.runs(f"poligraph-{id}")
            assert [run.status for run in runs] == ["completed"], id
            assert list(await bus.steps(runs[0])) == stages
            assert (await job(runs[0].id)).script == id
            assert limits_of(id) == (Retry(2), [(1, f"'{id}'")])


@pytest.mark.criterion("job-record")
async def test_a_job_that_fails_or_is_cancelled_says_why(harness: Callable[..., Harness]) -> None:
    async with harness(app) as bus:
        bus.stub("votes-an", raises=RuntimeError("x" * 5_000))
        await bus.send("sync/votes", {"jobId": "fails"})
        await bus.send("sync/maintenance", {"jobId": "goes-well"})
        bus.stub("photos", raises=RuntimeError("not now"))
        await bus.send("sync/photos", {"jobId": "cancelled"})
        await bus.cancel((await bus.runs("poligraph-photos"))[0].id, "not needed any more")
        await bus.finish()
    failed = await job("fails")
    assert (failed.status, len(failed.error or ""), failed.result) == (Status.FAILED, 2_000, None)
    assert failed.completed is not None
    assert (await job("goes-well")).status is Status.COMPLETED
    cancelled = await job("cancelled")
    assert (cancelled.status, cancelled.error) == (Status.FAILED, "not needed any more")


@pytest.mark.criterion("job-record")
async def test_a_job_that_failed_and_is_run_again_completes_its_record(harness: Callable[..., Harness]) -> None:
    async with harness(app) as bus:
        bus.stub("photos", said(4), raises=RuntimeError("not now"), times=3)
        await bus.send("sync/photos", {"jobId": "again"})
        await bus.finish()
        assert (await job("again")).status is Status.FAILED
        await bus.rerun((await bus.runs("poligraph-photos"))[0].id)
    again = await job("again")
    assert (again.status, again.progress, again.processed, again.error) == (Status.COMPLETED, 100, 4, None)


@pytest.mark.criterion("factory")
async def test_every_script_has_a_function_of_one_step_with_the_flags_of_its_event(
    harness: Callable[..., Harness],
) -> None:
    assert command("photos", {"limit": 3, "force": True, "dry": False})[-3:] == ["photos", "--limit=3", "--force"]
    assert set(SCRIPTS) <= set(app.functions)
    for script in SCRIPTS:
        assert [trigger.name for trigger in app.functions[script].triggers] == [f"sync/{script}"]
        assert limits_of(script) == (Retry(2), [(1, None)])
    async with harness(app) as bus:
        await bus.send("sync/photos", {"flags": {"limit": 3, "force": True, "dry": False}})
        assert await bus.output() == {"processed": 3, "steps": {"photos": 3}}
        assert list(await bus.steps()) == ["photos"]


@pytest.mark.criterion("killed-at-its-limit")
async def test_a_script_is_killed_at_its_limit(
    harness: Callable[..., Harness], told: Path, scripts_left: Callable[[], list[str]]
) -> None:
    tell(told, {"script/photos": {"slow": 60}})
    bus_of_one: Bus[Jobs] = Bus("one", lifespan=opened)
    script_function(bus_of_one, "photos", minutes=0.5 / 60)
    began = time.monotonic()
    async with harness(bus_of_one) as bus:
        await bus.send("sync/photos", {"jobId": "late"})
        await bus.finish()
        assert (await bus.steps("one-photos"))["photos"].attempts == 3
        run = await bus.run("one-photos")
    assert (run.status, run.error and run.error.name) == ("failed", "timeout")
    assert time.monotonic() - began < 15
    late = await job("late")
    assert late.status is Status.FAILED
    assert scripts_left() == []


@pytest.mark.criterion("daily", "goes-on", "job-record")
async def test_the_daily_round_goes_on_after_steps_that_fail(harness: Callable[..., Harness]) -> None:
    async with harness(app) as bus:
        for step in DAILY:
            bus.stub(step, said(2))
        for step in ("judilibre", "prominence"):
            bus.stub(step, raises=RuntimeError("closed today"))
        await bus.send("sync/daily", {"jobId": "d1"})
        steps = await bus.steps(sync_daily)
        assert list(steps) == DAILY
        assert {step.attempts for step in steps.values()} == {1}
        assert await bus.output(sync_daily) == Round(16, 14, 2, ["judilibre", "prominence"])
    done = await job("d1")
    assert (done.status, done.progress, done.processed) == (Status.COMPLETED, 100, 28)
    assert limits_of("sync-daily") == (Retry(0), [(1, None)])


@pytest.mark.criterion("daily")
async def test_the_daily_round_comes_three_times_a_day(harness: Callable[..., Harness]) -> None:
    assert sync_daily.crons == (Cron("0 5,11,19 * * *"),)
    async with harness(app) as bus:
        for step in DAILY:
            bus.stub(step, said(1))
        await bus.advance("24h")
        runs = await bus.runs(sync_daily)
        assert [run.status for run in runs] == ["completed"] * 3
        assert (await job(runs[0].id)).processed == 16
