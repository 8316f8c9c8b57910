"""What a run looks like at the terminal."""

import io

from rich.console import Console

from stepstream.checkpoint.cli.shown import tree_of
from stepstream.checkpoint.facts.attempts import FailedAttempt
from stepstream.checkpoint.read.run.steps import StepView
from stepstream.checkpoint.read.run.verdict import Verdict
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Run


def told(steps: list[StepView], attempts: list[FailedAttempt]) -> list[str]:
    run = Run(id="01K9", function="shop-ship", status="running", queued=1)
    out = io.StringIO()
    Console(file=out, width=120).print(tree_of(run, Verdict(kind="running", words="is at work"), steps, attempts))
    return [line.strip(" │├└─") for line in out.getvalue().splitlines()]


def test_below_a_step_stands_each_attempt_that_failed() -> None:
    no_paper = Failure(name="RuntimeError", message="no paper\x1b[2J")
    attempts = [FailedAttempt("print", n, 1_000, 3_000, no_paper) for n in (1, 2)]
    steps = [
        StepView("print", "step", "retrying", 1, attempts=2, error=no_paper, due=5),
        StepView("pack", "step", "failed", 1, attempts=1, ended=2, error=Failure(name="ValueError", message="too big")),
    ]
    lines = told(steps, [*attempts, FailedAttempt("", 1, 0, 500, Failure(name="KeyError", message="between steps"))])
    assert (
        lines.index("attempt 1 failed after 2.0 s  RuntimeError: no paper [2J")
        == lines.index("attempt 2 failed after 2.0 s  RuntimeError: no paper [2J") - 1
    )
    assert sum("no paper" in line for line in lines) == 2, "the last attempt of a step that is tried again is told once"
    assert "ValueError: too big" in lines
    assert lines[-1] == "attempt 1 failed after 500 ms  KeyError: between steps"
