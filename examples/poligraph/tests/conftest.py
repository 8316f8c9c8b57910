"""A folder, a Redis and a web application for each test."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from poligraph.web import web
from stand_ins import scratch_redis


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with records of its own, and with the file that tells the scripts what to do."""
    monkeypatch.setenv("POLIGRAPH_DATABASE", str(tmp_path / "jobs.sqlite"))
    monkeypatch.setenv("STAND_INS", str(tmp_path / "stand-ins.json"))
    return tmp_path


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


@pytest.fixture
def scripts_left(folder: Path) -> Callable[[], list[str]]:
    """Return what lists the commands of this test's scripts that live still: those that have its folder in them."""

    def left() -> list[str]:
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if b"poligraph.scripts" in command and str(folder).encode() in environ:
                found.append(command.replace(b"\0", b" ").decode())
        return found

    return left
