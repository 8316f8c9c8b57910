"""TurnStep: the Step a handler gets. It takes id and place at the call, and hands the work to the kind's own file."""

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from bus.durations import milliseconds, moment_ms
from bus.retry import Retry
from bus.step import Step
from consumers.steps.run import run_step
from consumers.steps.sleep import sleep_step
from consumers.turn import Turn


class TurnStep(Step):
    """Answers from the memos of one turn, and does what has none."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def run(
        self,
        id: str,
        target: Callable[..., Any],
        *args: Any,
        timeout: float | str | timedelta | None = None,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Number the step, then run it when awaited."""
        step = self._turn.enter(id)
        limit = None if timeout is None else milliseconds(timeout, f"step '{id}' timeout") / 1_000
        return run_step(self._turn, step, target, args, limit, retries)

    def sleep(self, id: str, duration: float | str | timedelta) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        return sleep_step(self._turn, self._turn.enter(id), f"+{milliseconds(duration, 'sleep')}")

    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        return sleep_step(self._turn, self._turn.enter(id), str(moment_ms(moment, f"step '{id}' sleep_until")))
