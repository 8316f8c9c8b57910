"""How a run tells where it stands: on its own page, and in the job's record."""

import msgspec

from poligraph.jobs import Jobs
from stepstream import Context, EventData, FunctionCancelled, FunctionFailed, Step


class JobData(EventData, rename="camel", forbid_unknown_fields=True):
    """What every event of a job may have: the record that the admin API has made for it."""

    job_id: str = ""


class Report:
    """Tells of one run. Its record is the one that the event names, or one of its own under the run's id."""

    def __init__(self, ctx: Context[object, Jobs], script: str) -> None:
        data = ctx.event.data
        self._ctx = ctx
        self._script = script
        self._job = (data.job_id if isinstance(data, JobData) else "") or ctx.run_id
        self.processed = 0

    async def begin(self) -> None:
        """Tell that the job runs."""
        await self._ctx.state.start(self._job, self._script)

    async def tell(self, percent: int, processed: int, step: str) -> None:
        """Tell that a step is done, which has gone through so many records."""
        self.processed += processed
        self._ctx.progress(percent, processed=self.processed, done=step)
        await self._ctx.state.tell(self._job, percent, self.processed)

    async def complete(self, result: msgspec.Struct) -> None:
        """Tell what came of it."""
        self._ctx.progress(100, processed=self.processed)
        await self._ctx.state.complete(self._job, self.processed, result)


async def mark_failed(ctx: Context[FunctionFailed, Jobs], step: Step) -> None:
    """A run has failed: say so in its record. The `on_failure` of every job."""
    failed = ctx.event.data
    await step.run("mark-failed", ctx.state.fail, _job_of(failed), failed.error.message)


async def mark_cancelled(ctx: Context[FunctionCancelled, Jobs], step: Step) -> None:
    """Say in its record that a run was cancelled."""
    cancelled = ctx.event.data
    why = cancelled.error.message if cancelled.error else "cancelled"
    await step.run("mark-failed", ctx.state.fail, _job_of(cancelled), why)


def _job_of(ended: FunctionFailed | FunctionCancelled) -> str:
    return str(ended.event.data.get("jobId") or ended.run_id)
