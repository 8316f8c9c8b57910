"""Spans: one for a job, with a child for each try of a step, in one trace whatever processes worked on it.

The job's correlation id is the trace's id, and its first half the id of the job's span: so a step knows its parent
before that span is written, at the end of the job, and in any process. Written twice, it is the same span.
"""

import functools
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from investments_planner.jobs import Job

P = ParamSpec("P")
R = TypeVar("R")
_job_ids: ContextVar[tuple[int, int] | None] = ContextVar("job_ids", default=None)


class _Ids(RandomIdGenerator):
    """Random ids, but those of a job where its span is written."""

    def generate_trace_id(self) -> int:
        chosen = _job_ids.get()
        return chosen[0] if chosen else super().generate_trace_id()

    def generate_span_id(self) -> int:
        chosen = _job_ids.get()
        return chosen[1] if chosen else super().generate_span_id()


provider = TracerProvider(id_generator=_Ids(), shutdown_on_exit=False)
"""Give it an exporter: `provider.add_span_processor(…)`."""
_tracer = provider.get_tracer("investments-planner")


def _ids(job: Job) -> tuple[int, int]:
    return int(job.correlation_id, 16), int(job.correlation_id[:16], 16)


def traced(job: Job, step: str, work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return a step's body with a span of its own below the job's, and the correlation id in all it logs."""

    @functools.wraps(work)
    async def in_span(*args: P.args, **kwargs: P.kwargs) -> R:
        trace_id, span_id = _ids(job)
        parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        above = trace.set_span_in_context(NonRecordingSpan(parent))
        with (
            structlog.contextvars.bound_contextvars(correlation_id=job.correlation_id),
            _tracer.start_as_current_span(step, above),
        ):
            return await work(*args, **kwargs)

    return in_span


def write_job_span(job: Job, name: str) -> None:
    """Write the span of a job that ends now."""
    token = _job_ids.set(_ids(job))
    try:
        span = _tracer.start_span(name, start_time=job.started_ms * 1_000_000)
    finally:
        _job_ids.reset(token)
    span.set_attribute("run", job.run_id)
    span.set_attribute("market", job.market)
    span.end()
