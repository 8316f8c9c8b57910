"""Signals: what happened in a worker. Without a listener a signal costs one truth test where it would be sent."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import structlog

S = TypeVar("S")


class RunStarted(msgspec.Struct, frozen=True):
    """A turn of a run begins in this worker."""

    function: str
    run: str
    turn: int


class StepSaved(msgspec.Struct, frozen=True):
    """A step's memo was stored."""

    function: str
    run: str
    step: str
    took_ms: int


class AttemptFailed(msgspec.Struct, frozen=True):
    """A step (or, with an empty `step`, the code between steps) raised; it is tried again in `delay_ms`, or no more.

    `stack` is the traceback of the author's frames, as text.
    """

    function: str
    run: str
    step: str
    attempt: int
    error: str
    delay_ms: int | None
    stack: str = ""


class RunSuspended(msgspec.Struct, frozen=True):
    """A run waits without holding a worker; `due_in_ms` until its timer."""

    function: str
    run: str
    due_in_ms: int


class RunEnded(msgspec.Struct, frozen=True):
    """This worker recorded a run's end. It is not sent when the reply that said so was lost."""

    function: str
    run: str
    status: str
    error: str = ""


class Noticed(msgspec.Struct, frozen=True):
    """Something an operator or author should know: `event` says what in words, `fields` give the values."""

    event: str
    fields: dict[str, Any]


class Signal(Generic[S]):
    """One kind of signal and its listeners."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: list[Callable[[S], None]] = []

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def listen(self, listener: Callable[[S], None]) -> None:
        """Call `listener` with every such signal from now on."""
        self._listeners.append(listener)

    def send(self, signal: S) -> None:
        """Call every listener; one that raises is dropped, with a log line."""
        for listener in tuple(self._listeners):
            try:
                listener(signal)
            except Exception:  # noqa: BLE001 - a listener must never end a run
                self._listeners.remove(listener)
                structlog.get_logger("bus").exception("signal listener dropped", listener=repr(listener))


class Signals:
    """All signals of one worker."""

    def __init__(self) -> None:
        self.run_started = Signal[RunStarted]()
        self.step_saved = Signal[StepSaved]()
        self.attempt_failed = Signal[AttemptFailed]()
        self.run_suspended = Signal[RunSuspended]()
        self.run_ended = Signal[RunEnded]()
        self.noticed = Signal[Noticed]()

    def notice(self, event: str, **fields: Any) -> None:
        """Send a Noticed."""
        self.noticed.send(Noticed(event, fields))
