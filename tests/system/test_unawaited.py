"""A forgotten `await` is told of: `app.send(…)` without it sends nothing."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import structlog

from stepstream import Bus
from stepstream.bus.observe import unawaited

TESTS = """
from stepstream import Bus

app = Bus("shop")

def test_forgets():
    app.send("a", {})

def test_is_well():
    pass
"""


def test_a_worker_logs_it_with_the_line() -> None:
    app = Bus("shop")
    with warnings.catch_warnings(), structlog.testing.capture_logs() as logs:
        unawaited.tell()
        for _ in range(2):
            app.send("a", {})  # type: ignore[unused-coroutine]
    assert [one["event"] for one in logs] == ["a call is not awaited: the event is not sent; write await before it"] * 2
    assert logs[0]["call"] == "Bus.send"
    assert Path(logs[0]["at"].rpartition(":")[0]).name == "test_unawaited.py"


@pytest.mark.parametrize("strict", [False, True])
def test_pytest_fails_and_names_the_test(tmp_path: Path, strict: bool) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    options = ["-W", "error::RuntimeWarning", "-W", "error::pytest.PytestUnraisableExceptionWarning"] if strict else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options, str(tmp_path)],
        env={**os.environ, "PYTEST_ADDOPTS": ""}, cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Bus.send" in done.stdout
    assert "test_forgets" in done.stdout
