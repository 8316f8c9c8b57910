"""Tracing: what a turn tells of its run to whoever makes spans of it, and the trace that code now runs in.

Nothing here knows OpenTelemetry: bus/observe/spans.py does, and is loaded where spans are made.
"""

import contextvars
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stepstream.bus.event import RawEvent
from stepstream.bus.observe.traceparent import TraceContext, as_stored


class Waited(Protocol):
    """A step that waited, as its memo tells of it; times are the server's, ms."""

    @property
    def kind(self) -> str:
        """What kind of step it is."""
        ...

    @property
    def begun(self) -> int:
        """When it began to wait."""
        ...

    @property
    def ended(self) -> int:
        """When what it waited for came."""
        ...

    @property
    def turn(self) -> int:
        """Which turn has had it first; 0 of what a turn has recorded itself."""
        ...

    @property
    def timed_out(self) -> bool:
        """Whether nothing came in time."""
        ...

    @property
    def error(self) -> "Failed | None":
        """What came in place of a value."""
        ...


class Failed(Protocol):
    """An error as it is stored."""

    @property
    def name(self) -> str:
        """The exception's class."""
        ...

    @property
    def message(self) -> str:
        """What it says."""
        ...

    @property
    def stack(self) -> str:
        """Where it was raised, or empty."""
        ...


class AttemptTrace(Protocol):
    """One attempt of a step's body; its span is the current one for the code inside."""

    def leave(self) -> None:
        """The body has ended; what became of it is still to be recorded."""
        ...

    def ended(self, now: int, error: Failed | None = None) -> None:
        """That is recorded: it returned, or failed with this error. Not called of one that is done again."""
        ...


class TurnTrace(Protocol):
    """What one turn tells of its run, once it is recorded: so it is told once. Times are the server's, ns."""

    context: TraceContext
    """The run's own span."""

    def enter(self) -> Any:
        """The handler's code begins: the run's span is the current one. Returns what `leave` takes."""
        ...

    def leave(self, token: Any) -> None:
        """The handler's code has ended, in the same context."""
        ...

    def step_context(self, step: str) -> TraceContext:
        """Return the span that a step has, or will have: what it begins elsewhere belongs to that."""
        ...

    def attempt(self, step: str, attempt: int, now: int) -> AttemptTrace:
        """A step's body begins; `attempt` counts from 0."""
        ...

    def saved(
        self,
        step: str,
        kind: str,
        *,
        began: int,
        now: int,
        attempts: int,
        error: Failed | None,
        timed_out: bool,
    ) -> None:
        """A step's memo was stored by this turn."""
        ...

    def resolved(self, memos: Mapping[str, Waited]) -> None:
        """Memos are there, at the turn's beginning or later; those that came from outside are told when it ends."""
        ...

    def failed(self, attempt: int, began: int, now: int, error: Failed) -> None:
        """An attempt of the code between steps failed, and that is recorded."""
        ...

    def suspended(self) -> None:
        """The turn has ended, and the run waits."""
        ...

    def ended(self, status: str, now: int, error: Failed | None) -> None:
        """The run has ended."""
        ...


class Tracing(Protocol):
    """Makes spans of what runs do in one worker."""

    def turn(self, slug: str, run: str, turn: int, event: RawEvent) -> TurnTrace:
        """Return what is told of one turn; of the run beside its turns where `turn` is 0."""
        ...


def current_trace() -> str | None:
    """Return the `traceparent` of the span that this code runs in; None where there is none.

    Where nothing has loaded OpenTelemetry there is no span, and it is not loaded for that.
    """
    api: Any = sys.modules.get("opentelemetry.trace")
    context = None if api is None else api.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return _given.get()
    return str(TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled))


_given: contextvars.ContextVar[str | None] = contextvars.ContextVar("traceparent", default=None)


def begun_in(traceparent: str) -> None:
    """Take the trace that who has begun this command is in; what is no `traceparent` is ignored."""
    _given.set(as_stored(traceparent))


def asked_in(given: Sequence[str]) -> str | None:
    """Return the trace of a request with such headers `traceparent`: a site that is traced itself stands between."""
    return current_trace() or (as_stored(given[0]) if len(given) == 1 else None)
