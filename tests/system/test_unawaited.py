"""A forgotten `await` is told of: `app.send(…)` without it sends nothing."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import structlog

from stepstream import Bus, Context, Step
from stepstream.bus.observe import unawaited
from tests.patience import PATIENT_S
from tests.support import Lab

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


@pytest.mark.process
@pytest.mark.parametrize("strict", [False, True])
def test_pytest_fails_and_names_the_test(tmp_path: Path, strict: bool) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    options = ["-W", "error::RuntimeWarning", "-W", "error::pytest.PytestUnraisableExceptionWarning"] if strict else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options, str(tmp_path)],
        env={**os.environ, "PYTEST_ADDOPTS": ""}, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENT_S,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Bus.send" in done.stdout
    assert "test_forgets" in done.stdout


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda step: step.subprocess("x", "ls -la"), "the command must be a list of words"),
        (lambda step: step.subprocess("x", ["ls"], timeout="1 h"), "'1 h' is not a duration"),
        (lambda step: step.run("x", print, timeout="1 h"), "'1 h' is not a duration"),
        (lambda step: step.run("x", None), r"what it calls must be a function, got None"),
        (lambda step: step.sleep("x", "1 h"), "'1 h' is not a duration"),
        (lambda step: step.wait_for_event("x", "a", timeout="1 h"), "'1 h' is not a duration"),
        (lambda step: step.fetch("x", "http://localhost", timeout="1 h"), "'1 h' is not a duration"),
    ],
)
async def test_a_step_that_was_refused_is_not_told_to_be_unawaited(lab: Lab, call, told: str) -> None:
    """The log said first that steps were called and never awaited, and then what was wrong."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        await call(step)

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert told in run.error.message
    assert [notice.event for notice in lab.notices] == []
