"""A studio and a web application for each test."""

from collections.abc import Generator
from pathlib import Path

import pytest
from plushify.studio import Studio
from plushify.web import web
from starlette.testclient import TestClient


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """Return the credits and blobs that the application has for itself."""
    monkeypatch.setenv("PLUSHIFY_FOLDER", str(tmp_path))
    return Studio(tmp_path)


@pytest.fixture
def http(redis_url: str) -> Generator[TestClient]:
    """Yield a client of the web application."""
    with TestClient(web, base_url="http://localhost") as client:
        yield client
