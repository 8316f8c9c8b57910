"""A folder, a Redis and a collector of spans for each test."""

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from investments_planner.tracing import provider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stand_ins import scratch_redis

EXPORTER = InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(EXPORTER))


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that tells the outside world what to do; the record of the jobs lies beside it."""
    monkeypatch.setenv("PLANNER_DATABASE", str(tmp_path / "jobs.sqlite"))
    path = tmp_path / "stand-ins.json"
    monkeypatch.setenv("STAND_INS", str(path))
    return path


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Yield the address of an empty Redis, which the application finds in its environment."""
    with scratch_redis() as url:
        monkeypatch.setenv("BUS_REDIS_URL", url)
        yield url


class Spans:
    """What was traced in this process."""

    def all(self) -> Sequence[ReadableSpan]:
        """Return the spans that have ended."""
        return EXPORTER.get_finished_spans()


@pytest.fixture
def spans() -> Generator[Spans]:
    """Yield what is traced from now on."""
    EXPORTER.clear()
    yield Spans()
    EXPORTER.clear()
