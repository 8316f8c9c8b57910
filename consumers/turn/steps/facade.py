"""TurnStep: the Step a handler gets. It takes id and place at the call, and hands the work to the kind's own file.

Arguments are looked at before the step is numbered: what was refused was not called, and nobody forgot to await it.
"""

import os
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from stepstream.bus.errors import EventInvalid, NonRetriable
from stepstream.bus.event import NewEvent, Sendable
from stepstream.bus.retry import Retry
from stepstream.bus.step import Callee, Fetched, ProcessResult, Step
from stepstream.bus.values.durations import milliseconds, moment_ms
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.turn.steps.invoke import invoke
from stepstream.consumers.turn.steps.process import Command, run_command
from stepstream.consumers.turn.steps.run import run_step
from stepstream.consumers.turn.steps.send import send_event
from stepstream.consumers.turn.steps.sleep import sleep_step
from stepstream.consumers.turn.steps.wait import LONGEST_MS, wait_for_event, wait_for_signal
from stepstream.consumers.turn.turn import Turn


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
        if not callable(target):
            raise NonRetriable(
                f"step '{id}': what it calls must be a function, got {target!r}; give its arguments after it: "
                f"step.run('{id}', work, argument)"
            )
        limit = _limit(id, timeout)
        return run_step(self._turn, self._turn.enter(id), target, args, limit, retries)

    def sleep(self, id: str, duration: float | str | timedelta) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        due = f"+{milliseconds(duration, 'sleep')}"
        return sleep_step(self._turn, self._turn.enter(id), due)

    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        due = str(moment_ms(moment, f"step '{id}' sleep_until"))
        return sleep_step(self._turn, self._turn.enter(id), due)

    def wait_for_event(
        self,
        id: str,
        event: str | type[Any],
        *,
        match: str | None = None,
        if_: str | None = None,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Number the step, then wait when awaited."""
        within = _within(id, timeout)
        return wait_for_event(self._turn, self._turn.enter(id), event, match, if_, within)

    def wait_for_signal(
        self, id: str, signal: str, *, type: Any = Any, timeout: float | str | timedelta | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Number the step, then wait when awaited."""
        within = _within(id, timeout)
        return wait_for_signal(self._turn, self._turn.enter(id), signal, type, within)

    def send_signal(self, id: str, signal: str, data: Any = None) -> Coroutine[Any, Any, bool]:
        """Number the step, then send when awaited."""
        turn, step = self._turn, self._turn.enter(id)

        async def sent() -> bool:
            try:
                return await send_signal(turn.wire, signal, data, sender=f"{turn.owned.run}|{step}") is not None
            except EventInvalid as error:
                raise NonRetriable(str(error)) from None

        return run_step(turn, step, sent, (), None, None)

    def invoke(
        self,
        id: str,
        function: Callee[Any, Any] | str,
        data: Any = None,
        *,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Number the step, then call when awaited."""
        within = _within(id, timeout)
        return invoke(self._turn, self._turn.enter(id), function, data, within)

    def send_event(
        self, id: str, event: str | Sendable | Sequence[Sendable], data: Any = None
    ) -> Coroutine[Any, Any, list[str]]:
        """Number the step, then publish when awaited."""
        if isinstance(event, str):
            events: Sequence[Sendable] = [NewEvent(event, data)]
        else:
            events = event if isinstance(event, Sequence) else [event]
        return send_event(self._turn, self._turn.enter(id), events)

    def fetch(
        self,
        id: str,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | str | None = None,
        timeout: float | str | timedelta = 30,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, Fetched]:
        """Number the step, then ask when awaited."""
        turn, limit = self._turn, milliseconds(timeout, f"step '{id}' timeout") / 1_000
        fetch = turn.services.fetcher.fetch
        return run_step(turn, turn.enter(id), fetch, (method, url, headers, json, data, limit), None, retries)

    def subprocess(
        self,
        id: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        timeout: float | str | timedelta | None = None,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ok: Collection[int] = (0,),
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, ProcessResult]:
        """Number the step, then run the command when awaited."""
        given = Command.of(id, command, stdin, env, cwd, ok, _limit(id, timeout))
        turn, step = self._turn, self._turn.enter(id)

        async def ran() -> ProcessResult:
            return await run_command(turn, step, given)

        return run_step(turn, step, ran, (), None, retries)


def _limit(id: str, timeout: float | str | timedelta | None) -> float | None:
    """Return a body's timeout in seconds."""
    return None if timeout is None else milliseconds(timeout, f"step '{id}' timeout") / 1_000


def _within(id: str, timeout: float | str | timedelta | None) -> int:
    """Return a wait's timeout in ms; 366 days when none is given."""
    return LONGEST_MS if timeout is None else min(LONGEST_MS, milliseconds(timeout, f"step '{id}' timeout"))
