"""The spans of a night."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from investments_planner.functions import app
from investments_planner.tracing import provider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from stand_ins import tell

from stepstream import Harness


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return what keeps the spans that end from now on."""
    made = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    return made


@pytest.mark.criterion("spans")
async def test_a_job_is_one_span_with_a_child_for_each_try_of_a_step(
    harness: Callable[..., Harness], exporter: InMemorySpanExporter, told: Path
) -> None:
    tell(told, {"prices/all": {"fail": 1}})
    async with harness(app, at=datetime(2026, 3, 1, 3, 59, tzinfo=UTC)) as bus:
        await bus.advance("2m")
        await bus.finish()
        correlation = (await bus.events("overnight/scoring.started"))[0].data["correlation_id"]
    every = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in every if span.context} == {correlation}
    (job,) = [span for span in every if span.name == "overnight-scoring"]
    assert job.context is not None
    assert job.parent is None
    children = [span for span in every if span is not job]
    assert all(span.parent is not None and span.parent.span_id == job.context.span_id for span in children)
    assert Counter(span.name for span in children) == {
        "fetch-exchange-rates": 1, "fetch-asset-prices": 2, "get-active-users": 1, "score-portfolios": 3,
        "get-users-for-warming": 1, "warm-recommendations-cache": 1, "warm-dashboard-cache": 1,
    }  # fmt: skip
    failed = [span for span in children if span.status.status_code is StatusCode.ERROR]
    assert [span.name for span in failed] == ["fetch-asset-prices"]
