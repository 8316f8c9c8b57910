"""The durable functions: groups of steps, one function for each script, and the daily round.

Run them with `bus dev poligraph.functions:app`.
"""

from datetime import timedelta
from typing import NamedTuple

import msgspec

from poligraph.jobs import Jobs, opened
from poligraph.reports import JobData, Report, mark_cancelled, mark_failed
from poligraph.scripts import DAILY, SCRIPTS, Flag, command, processed
from stepstream import Bus, Concurrency, Context, Cron, FunctionCancelled, On, Step, StepFailed

app = Bus("poligraph", lifespan=opened)


class Synced(msgspec.Struct):
    """What a job came to: the records each step has gone through."""

    processed: int
    steps: dict[str, int]


# -- groups --------------------------------------------------------------------------------------------------------


class GroupData(JobData):
    """Asks for a group's job; `limit` is how many records a step may go through."""

    limit: int = 100


class Stage(NamedTuple):
    """A step of a group, and the script it runs."""

    step: str
    script: str
    limited: bool = False


def group(id: str, event: str, *stages: Stage) -> None:
    """Declare a group: its steps one after the other, each tried again by itself."""

    class Requested(GroupData, name=event):
        """Asks for this group."""

    @app.function(
        id, on=Requested, retries=2, concurrency=Concurrency(1, key=f"'{id}'"), on_failure=mark_failed, name=event
    )
    async def run(ctx: Context[Requested, Jobs], step: Step) -> Synced:
        report, result = Report(ctx, id), Synced(0, {})
        await report.begin()
        for place, stage in enumerate(stages, 1):
            flags: dict[str, Flag] = {"limit": ctx.event.data.limit} if stage.limited else {}
            done = await step.subprocess(
                stage.step, command(stage.script, flags), timeout=timedelta(minutes=SCRIPTS[stage.script])
            )
            result.steps[stage.step] = processed(done.stdout)
            await report.tell(100 * place // len(stages), result.steps[stage.step], stage.step)
        result.processed = report.processed
        await report.complete(result)
        return result


group("sync-press", "sync/press", Stage("parse-rss", "press-rss"), Stage("ai-analysis", "press-analysis", limited=True))
group("sync-votes", "sync/votes", Stage("votes-an", "votes-an"), Stage("votes-senat", "votes-senat"))
group(
    "sync-legislation", "sync/legislation",
    Stage("legislation", "legislation"), Stage("legislation-content", "legislation-content", limited=True),
)  # fmt: skip
group(
    "discover-affairs", "discover/affairs",
    Stage("judilibre", "judilibre", limited=True), Stage("reconcile-affairs", "reconcile-affairs"),
)  # fmt: skip
group(
    "sync-factchecks", "sync/factchecks",
    Stage("factchecks", "factchecks", limited=True), Stage("classify-themes", "classify-themes", limited=True),
)  # fmt: skip
group(
    "generate-ai", "generate/ai",
    Stage("summaries-dossiers", "summaries-dossiers", limited=True),
    Stage("summaries-scrutins", "summaries-scrutins", limited=True),
)  # fmt: skip
group(
    "index-embeddings", "index/embeddings",
    Stage("embeddings-factchecks", "embeddings-factchecks", limited=True),
    Stage("embeddings-press", "embeddings-press", limited=True),
)  # fmt: skip
group(
    "sync-politicians", "sync/politicians",
    Stage("politicians-an", "politicians-an"), Stage("politicians-senat", "politicians-senat"),
    Stage("photos", "photos"),
)  # fmt: skip
group(
    "maintenance", "sync/maintenance",
    Stage("prominence", "prominence"), Stage("publication-status", "publication-status"),
)  # fmt: skip


# -- one function for each script ----------------------------------------------------------------------------------


class ScriptData(JobData):
    """Asks for one script, with flags."""

    flags: dict[str, Flag] = msgspec.field(default_factory=dict[str, Flag])


def script_function(bus: Bus[Jobs], script: str, *, minutes: float) -> None:
    """Declare a function that runs a script in one step. Its process is ended with all its children at its limit."""

    class Requested(ScriptData, name=f"sync/{script}"):
        """Asks for this script."""

    @bus.function(script, on=Requested, retries=2, concurrency=1, on_failure=mark_failed)
    async def run(ctx: Context[Requested, Jobs], step: Step) -> Synced:
        report = Report(ctx, script)
        await report.begin()
        done = await step.subprocess(script, command(script, ctx.event.data.flags), timeout=timedelta(minutes=minutes))
        await report.tell(100, processed(done.stdout), script)
        result = Synced(report.processed, {script: report.processed})
        await report.complete(result)
        return result


for name, most_minutes in SCRIPTS.items():
    script_function(app, name, minutes=most_minutes)


# -- the daily round -----------------------------------------------------------------------------------------------


class SyncDaily(JobData, name="sync/daily"):
    """Asks for the daily round."""


class Round(msgspec.Struct):
    """What the daily round came to: `failures` are the names of steps."""

    total: int
    succeeded: int
    failed: int
    failures: list[str]


@app.function("sync-daily", on=[Cron("0 5,11,19 * * *"), SyncDaily], retries=0, concurrency=1, on_failure=mark_failed)
async def sync_daily(ctx: Context[SyncDaily | dict[str, str], Jobs], step: Step) -> Round:
    """Run every script once; one that fails does not stop the rest. A schedule's event has plain data."""
    report, failures = Report(ctx, "sync-daily"), list[str]()
    await report.begin()
    for place, script in enumerate(DAILY, 1):
        found = 0
        try:
            done = await step.subprocess(script, command(script, {}), timeout=timedelta(minutes=SCRIPTS[script]))
            found = processed(done.stdout)
        except StepFailed as error:
            failures.append(error.step)
            ctx.logger.warning("a step has failed; the rest goes on", step=error.step, error=error.message)
        await report.tell(100 * place // len(DAILY), found, script)
    result = Round(len(DAILY), len(DAILY) - len(failures), len(failures), failures)
    await report.complete(result)
    return result


job_cancelled = app.function(
    "job-cancelled",
    on=On(FunctionCancelled, if_="event.data.function_id.startsWith('poligraph-')"),
)(mark_cancelled)
