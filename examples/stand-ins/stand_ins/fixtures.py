"""A pytest plugin with what the tests of every example begin with: the file of the outside world, and a Redis."""

from collections.abc import Generator
from pathlib import Path

import pytest

from stand_ins.supervisor import scratch_redis


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that tells the outside world what to do: none is there, until the test writes it."""
    path = tmp_path / "stand-ins.json"
    monkeypatch.setenv("STAND_INS", str(path))
    return path


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Yield the address of an empty Redis, which the application finds in its environment."""
    with scratch_redis() as url:
        monkeypatch.setenv("BUS_REDIS_URL", url)
        yield url


def lose_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the application to a port that nobody listens at, and let it say so soon."""
    monkeypatch.setenv("BUS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("BUS_TIMEOUT", "0.3s")
