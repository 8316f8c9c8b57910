"""Signals: what happened in a worker. Without a listener a signal costs one truth test where it would be sent."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import structlog

S = TypeVar("S")


class RunStarted(msgspec.Struct, frozen=True):
    """A turn of a run begins in this worker.

    `waited_ms`: how long the entry that began the run was in the queue; None when its code was called before.
    """

    function: str
    run: str
    turn: int
    waited_ms: int | None = None


class StepSaved(msgspec.Struct, frozen=True):
    """A step's memo was stored: its result, or (`has_failed`) the error that is its last."""

    function: str
    run: str
    step: str
    took_ms: int
    kind: str = "run"
    has_failed: bool = False


class AttemptFailed(msgspec.Struct, frozen=True):
    """A step (or, with an empty `step`, the code between steps) raised; it is tried again in `delay_ms`, or no more.

    `stack` is the traceback of the author's frames, as text; `name` the error's class.
    """

    function: str
    run: str
    step: str
    attempt: int
    error: str
    delay_ms: int | None
    stack: str = ""
    name: str = ""
    trace: str | None = None
    """The `traceparent` of the run's event."""


class RunSuspended(msgspec.Struct, frozen=True):
    """A run waits without holding a worker; `due_in_ms` until its timer."""

    function: str
    run: str
    due_in_ms: int


class RunEnded(msgspec.Struct, frozen=True):
    """This worker recorded a run's end. It is not sent when the reply that said so was lost.

    `took_ms` is since its code was first called, None when that is not known; `name` is the error's class.
    """

    function: str
    run: str
    status: str
    error: str = ""
    name: str = ""
    took_ms: int | None = None
    trace: str | None = None
    """The `traceparent` of the run's event."""


class NotStarted(msgspec.Struct, frozen=True):
    """An entry was read whose run's code is not called; `why` is the word of start (docs/state-machine.md)."""

    function: str
    run: str
    why: str


class WriteRefused(msgspec.Struct, frozen=True):
    """Redis refused what a turn wrote, for the turn is not the run's any more; `word` says how."""

    function: str
    run: str
    word: str


class EntryDropped(msgspec.Struct, frozen=True):
    """An entry makes no sense, and is dropped; `function` is empty where it is read for whoever waits."""

    function: str


class Reclaimed(msgspec.Struct, frozen=True):
    """Entries were taken over: `from_dead` of consumers whose lease had ended, the others of whom gave them back."""

    function: str
    entries: int
    from_dead: int


class LeasesRenewed(msgspec.Struct, frozen=True):
    """The leases were renewed, but for those that were lost; `late_ms` after they should have been.

    It is sent by the thread that renews, and not by the loop's.
    """

    renewed: int
    lost: int
    refused: int
    late_ms: float


class RedisFailed(msgspec.Struct, frozen=True):
    """Redis did not serve a command, or a connection broke or did not open; `state` as in StoreUnavailable."""

    state: str


class ChoreDone(msgspec.Struct, frozen=True):
    """A round of a chore is over, whether it failed or not."""

    chore: str
    took_ms: float


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
        self.not_started = Signal[NotStarted]()
        self.write_refused = Signal[WriteRefused]()
        self.entry_dropped = Signal[EntryDropped]()
        self.reclaimed = Signal[Reclaimed]()
        self.leases_renewed = Signal[LeasesRenewed]()
        self.redis_failed = Signal[RedisFailed]()
        self.connection_opened = Signal[None]()
        """A connection to Redis was opened: the first time, or again."""
        self.chore_done = Signal[ChoreDone]()
        self.noticed = Signal[Noticed]()

    def notice(self, event: str, **fields: Any) -> None:
        """Send a Noticed."""
        self.noticed.send(Noticed(event, fields))
