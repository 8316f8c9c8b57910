"""A database and a web application for each test."""

from collections.abc import Generator
from pathlib import Path

import pytest
from clover_dashboard.web import web
from fastapi.testclient import TestClient


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the application a database of its own."""
    monkeypatch.setenv("CLOVER_DATABASE", str(tmp_path / "collections.sqlite"))


@pytest.fixture
def http(redis_url: str) -> Generator[TestClient]:
    """Yield a client of the web application."""
    with TestClient(web, base_url="http://localhost") as client:
        yield client
