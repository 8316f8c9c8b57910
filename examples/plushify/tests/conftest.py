"""A folder, a Redis and a web application for each test."""

from collections.abc import Generator
from pathlib import Path

import pytest
from plushify.studio import Studio
from plushify.web import web
from stand_ins import scratch_redis
from starlette.testclient import TestClient


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with credits and blobs of its own, and with the file that tells the models what to do."""
    monkeypatch.setenv("PLUSHIFY_FOLDER", str(tmp_path))
    monkeypatch.setenv("STAND_INS", str(tmp_path / "stand-ins.json"))
    return tmp_path


@pytest.fixture
def studio(folder: Path) -> Studio:
    """Return what the application keeps in that folder."""
    return Studio(folder)


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Yield the address of an empty Redis, which the application finds in its environment."""
    with scratch_redis() as url:
        monkeypatch.setenv("BUS_REDIS_URL", url)
        yield url


@pytest.fixture
def http(redis_url: str) -> Generator[TestClient]:
    """Yield a client of the web application."""
    with TestClient(web, base_url="http://localhost") as client:
        yield client
