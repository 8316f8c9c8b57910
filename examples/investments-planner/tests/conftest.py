"""A record of the jobs for each test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the application records its jobs in."""
    path = tmp_path / "jobs.sqlite"
    monkeypatch.setenv("PLANNER_DATABASE", str(path))
    return path
