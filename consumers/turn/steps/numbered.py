"""NumberedStep: the Step a handler gets, whoever does the work. It takes id and place at the call.

Arguments are looked at before the step is numbered: what was refused was not called, and nobody forgot to await it.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from stepstream.bus.errors import NonRetriable
from stepstream.bus.event import NewEvent, Sendable
from stepstream.bus.retry import Retry
from stepstream.bus.step import Callee, Fetched, ProcessResult, Step
from stepstream.bus.values.durations import milliseconds, moment_ms
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.steps.process import Command
from stepstream.consumers.turn.steps.wait import LONGEST_MS
from stepstream.consumers.turn.tasks import RunTasks

Body = Callable[..., Any]


class NumberedStep(Step, ABC):
    """Looks at what a step is given, numbers it, and leaves its work to the methods that begin with an underscore.

    Those get the step's id first, and what was given as it was checked: limits in s, waits in ms.
    """

    __slots__ = ("_state", "_tasks")

    def __init__(self, state: RunState, tasks: RunTasks) -> None:
        self._state = state
        self._tasks = tasks

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
        return self._run(self._state.enter(id, self._tasks.caller()), target, args, limit, retries)

    def sleep(self, id: str, duration: float | str | timedelta) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        due = f"+{milliseconds(duration, 'sleep')}"
        return self._sleep(self._state.enter(id, self._tasks.caller()), due)

    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Number the step, then wait when awaited."""
        due = str(moment_ms(moment, f"step '{id}' sleep_until"))
        return self._sleep(self._state.enter(id, self._tasks.caller()), due)

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
        return self._wait_for_event(self._state.enter(id, self._tasks.caller()), event, match, if_, within)

    def wait_for_signal(
        self, id: str, signal: str, *, type: Any = Any, timeout: float | str | timedelta | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Number the step, then wait when awaited."""
        within = _within(id, timeout)
        return self._wait_for_signal(self._state.enter(id, self._tasks.caller()), signal, type, within)

    def send_signal(self, id: str, signal: str, data: Any = None) -> Coroutine[Any, Any, bool]:
        """Number the step, then send when awaited."""
        return self._send_signal(self._state.enter(id, self._tasks.caller()), signal, data)

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
        return self._invoke(self._state.enter(id, self._tasks.caller()), function, data, within)

    def send_event(
        self, id: str, event: str | Sendable | Sequence[Sendable], data: Any = None
    ) -> Coroutine[Any, Any, list[str]]:
        """Number the step, then publish when awaited."""
        if isinstance(event, str):
            events: Sequence[Sendable] = [NewEvent(event, data)]
        else:
            events = event if isinstance(event, Sequence) else [event]
        return self._send_event(self._state.enter(id, self._tasks.caller()), events)

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
        limit = milliseconds(timeout, f"step '{id}' timeout") / 1_000
        return self._fetch(
            self._state.enter(id, self._tasks.caller()), (method, url, headers, json, data, limit), retries
        )

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
        return self._command(self._state.enter(id, self._tasks.caller()), given, retries)

    # -- the work ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _run(
        self, step: str, target: Body, args: tuple[Any, ...], limit: float | None, retries: int | Retry | None
    ) -> Coroutine[Any, Any, Any]: ...

    @abstractmethod
    def _sleep(self, step: str, due: str) -> Coroutine[Any, Any, None]: ...

    @abstractmethod
    def _wait_for_event(
        self, step: str, event: str | type[Any], match: str | None, if_: str | None, within: int
    ) -> Coroutine[Any, Any, Any]: ...

    @abstractmethod
    def _wait_for_signal(self, step: str, signal: str, wanted: Any, within: int) -> Coroutine[Any, Any, Any]: ...

    @abstractmethod
    def _send_signal(self, step: str, signal: str, data: Any) -> Coroutine[Any, Any, bool]: ...

    @abstractmethod
    def _invoke(
        self, step: str, function: Callee[Any, Any] | str, data: Any, within: int
    ) -> Coroutine[Any, Any, Any]: ...

    @abstractmethod
    def _send_event(self, step: str, events: Sequence[Sendable]) -> Coroutine[Any, Any, list[str]]: ...

    @abstractmethod
    def _fetch(
        self, step: str, request: tuple[Any, ...], retries: int | Retry | None
    ) -> Coroutine[Any, Any, Fetched]: ...

    @abstractmethod
    def _command(
        self, step: str, command: Command, retries: int | Retry | None
    ) -> Coroutine[Any, Any, ProcessResult]: ...


def _limit(id: str, timeout: float | str | timedelta | None) -> float | None:
    """Return a body's timeout in seconds."""
    return None if timeout is None else milliseconds(timeout, f"step '{id}' timeout") / 1_000


def _within(id: str, timeout: float | str | timedelta | None) -> int:
    """Return a wait's timeout in ms; 366 days when none is given."""
    return LONGEST_MS if timeout is None else min(LONGEST_MS, milliseconds(timeout, f"step '{id}' timeout"))
