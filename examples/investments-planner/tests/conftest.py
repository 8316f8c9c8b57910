"""A folder and a Redis for each test."""

from collections.abc import Generator
from pathlib import Path

import pytest
from stand_ins import scratch_redis


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
