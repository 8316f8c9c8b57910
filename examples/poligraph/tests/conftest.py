"""Records and a web application for each test."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from poligraph.web import web


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the application job records of its own."""
    monkeypatch.setenv("POLIGRAPH_DATABASE", str(tmp_path / "jobs.sqlite"))


@pytest.fixture
def http(redis_url: str) -> Generator[TestClient]:
    """Yield a client of the web application."""
    with TestClient(web, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def scripts_left(tmp_path: Path) -> Callable[[], list[str]]:
    """Return what lists the commands of this test's scripts that live still: those that have its folder in them."""

    def left() -> list[str]:
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if b"poligraph.scripts" in command and str(tmp_path).encode() in environ:
                found.append(command.replace(b"\0", b" ").decode())
        return found

    return left
