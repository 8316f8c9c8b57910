"""Spans: what runs tell (bus/observe/tracing.py), as spans of OpenTelemetry.

A span is made when what it tells of has ended and is recorded, with its beginning from the store; only a body's is
there while it runs, for the author's code to add to. Its ids come from the run's (bus/observe/traceparent.py).
"""

import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from stepstream.bus.errors import ConfigError
from stepstream.bus.event import RawEvent
from stepstream.bus.observe.traceparent import TraceContext, parsed, span_of, trace_of
from stepstream.bus.observe.tracing import Failed, Waited
from stepstream.bus.trust.redaction import Redaction
from stepstream.bus.values.ids import ulid_ms

_NAME = "stepstream"
_NS = 1_000_000
_KINDS = {"invoke": SpanKind.PRODUCER, "send": SpanKind.PRODUCER}
"""What begins something elsewhere."""


class _Ids(IdGenerator):
    """Gives the next span of this thread the ids that were chosen for it."""

    def __init__(self) -> None:
        self._next = threading.local()

    def are(self, trace_id: int, span_id: int) -> None:
        """Choose them; the span is begun at once."""
        self._next.ids = (trace_id, span_id)

    def generate_trace_id(self) -> int:
        return self._next.ids[0]

    def generate_span_id(self) -> int:
        return self._next.ids[1]


_IDS = _Ids()
"""One for all: a provider gives everybody who asks the same tracer of a name."""


class OtelTracing:
    """Makes spans by a tracer provider of OpenTelemetry's SDK."""

    def __init__(self, provider: TracerProvider, hidden: Redaction) -> None:
        """Take a provider, and what is hidden of errors; ConfigError for one that cannot give spans ids of ours."""
        tracer: Any = provider.get_tracer(_NAME)
        if not isinstance(tracer, Tracer):
            raise ConfigError(
                f"a tracer provider must be one of opentelemetry.sdk.trace that is not disabled, got {provider!r}"
            )
        tracer.id_generator = _IDS
        self._tracer = tracer
        self._hidden = hidden

    def turn(self, slug: str, run: str, turn: int, event: RawEvent) -> "OtelTurn":
        """Return what is told of one turn."""
        return OtelTurn(self._tracer, self._hidden, slug, run, turn, event)


class OtelTurn:
    """The spans of one run, as far as one turn makes them."""

    __slots__ = (
        "_begun",
        "_event",
        "_hidden",
        "_in_run",
        "_is_dropped",
        "_parent",
        "_run",
        "_shared",
        "_slug",
        "_tracer",
        "_turn",
        "_waited",
        "context",
    )

    def __init__(self, tracer: Tracer, hidden: Redaction, slug: str, run: str, turn: int, event: RawEvent) -> None:
        self._tracer = tracer
        self._hidden = hidden
        self._slug = slug
        self._run = run
        self._turn = turn
        self._event = event
        self._waited: dict[str, Waited] = {}
        self._begun: dict[str, int] = {}
        """When the first attempt that this turn made of a step began, ns: the store knows ms."""
        self._shared = {"stepstream.run_id": run, "stepstream.function": slug}
        given = parsed(event.trace)
        self._parent = _context_of(given) if given is not None else Context()
        trace_id = trace_of(run, given)
        # Asked at each turn anew: all samplers decide by the trace's id and its parent, so each hears the same.
        decision = tracer.sampler.should_sample(
            self._parent, trace_id, slug, SpanKind.CONSUMER, self._run_attributes(), self._links()
        ).decision
        self.context = TraceContext(trace_id, span_of(run), decision.is_sampled())
        # What is dropped costs next to nothing: of its steps no span is made, and the sampler is not asked.
        self._is_dropped = not decision.is_recording()
        self._in_run = _context_of(self.context, is_remote=False)

    # -- the author's code ------------------------------------------------------------------------------------------

    def enter(self) -> Any:
        """The handler's code begins."""
        return contexts.attach(self._in_run)

    def leave(self, token: Any) -> None:
        """The handler's code has ended."""
        contexts.detach(token)

    def step_context(self, step: str) -> TraceContext:
        """Return the span that a step has, or will have."""
        return self.context._replace(span_id=span_of(self._run, step))

    def attempt(self, step: str, attempt: int, now: int) -> "OtelAttempt":
        """A step's body begins."""
        number = attempt + 1
        self._begun.setdefault(step, now)
        if self._is_dropped:
            unmade = self.context._replace(span_id=span_of(self._run, step, str(number)))
            return OtelAttempt(self._hidden, NonRecordingSpan(_span_context(unmade, is_remote=False)), now)
        span = self._begin(
            f"{step} attempt {number}",
            span_of(self._run, step, str(number)),
            _context_of(self.step_context(step), is_remote=False),
            now,
            {"stepstream.step": step, "stepstream.attempt": number},
        )
        return OtelAttempt(self._hidden, span, now)

    # -- what is recorded -------------------------------------------------------------------------------------------

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
        if self._is_dropped:
            return
        more: dict[str, Any] = {"stepstream.step": step, "stepstream.step.kind": kind, "stepstream.attempts": attempts}
        if timed_out:
            more["stepstream.timed_out"] = True
        began = min(began, self._begun.pop(step, began))
        span = self._begin(step, span_of(self._run, step), self._in_run, began, more, _KINDS.get(kind))
        _end(self._hidden, span, max(began, now), error)

    def resolved(self, memos: Mapping[str, Waited]) -> None:
        """Memos are there: keep those that came from outside for this turn."""
        for step, memo in memos.items():
            if memo.turn == self._turn and memo.ended >= (ulid_ms(self._run) or 0):  # else it is a copy, of a rerun
                self._waited[step] = memo

    def failed(self, attempt: int, began: int, now: int, error: Failed) -> None:
        """An attempt of the code between steps failed."""
        if self._is_dropped:
            return
        number = attempt + 1
        name, span_id = f"attempt {number}", span_of(self._run, "", f"{self._turn}|{number}")
        span = self._begin(name, span_id, self._in_run, began, {"stepstream.attempt": number})
        _end(self._hidden, span, max(began, now), error)

    def suspended(self) -> None:
        """The turn has ended: what came for it is told now, for no other turn ends it again."""
        waited, self._waited = self._waited, {}
        for step, memo in waited.items():
            self.saved(
                step,
                memo.kind,
                began=memo.begun * _NS,
                now=memo.ended * _NS,
                attempts=1,
                error=memo.error,
                timed_out=memo.timed_out,
            )

    def ended(self, status: str, now: int, error: Failed | None) -> None:
        """The run has ended: its span began when what caused it was stored, which is the time in its id."""
        self.suspended()
        if self._is_dropped:
            return
        began = (ulid_ms(self._run) or 0) * _NS
        _IDS.are(self.context.trace_id, self.context.span_id)
        span = self._tracer.start_span(
            self._slug,
            self._parent,
            SpanKind.CONSUMER,
            self._run_attributes(),
            links=self._links(),
            start_time=began,
        )
        span.set_attribute("stepstream.status", status)
        if self._turn:
            span.set_attribute("stepstream.turns", self._turn)
        _end(self._hidden, span, max(began, now), error, is_error=status == "failed")

    def _begin(
        self,
        name: str,
        span_id: int,
        parent: Context,
        began: int,
        more: Mapping[str, Any],
        kind: SpanKind | None = None,
    ) -> Span:
        _IDS.are(self.context.trace_id, span_id)
        return self._tracer.start_span(
            name, parent, kind or SpanKind.INTERNAL, {**self._shared, **more}, start_time=began
        )

    def _run_attributes(self) -> dict[str, Any]:
        event = self._event
        return {
            **self._shared,
            "stepstream.event": event.name,
            "messaging.system": _NAME,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": event.name,
            "messaging.consumer.group.name": self._slug,
            "messaging.message.id": event.id,
            **({"messaging.batch.message_count": len(event.batch)} if event.batch else {}),
        }

    def _links(self) -> list[Link]:
        """Return links to what published the other events of a batch: a span has one parent."""
        others = [parsed(one.trace) for one in (self._event.batch or [])[1:]]
        return [Link(_span_context(one, is_remote=True)) for one in others if one is not None]


class OtelAttempt:
    """The span of one attempt, current in the author's code."""

    __slots__ = ("_began", "_hidden", "_span", "_token")

    def __init__(self, hidden: Redaction, span: Span, began: int) -> None:
        self._hidden = hidden
        self._span = span
        self._began = began
        self._token: Any = contexts.attach(set_span_in_context(span))

    def leave(self) -> None:
        """The body has ended."""
        contexts.detach(self._token)

    def ended(self, now: int, error: Failed | None = None) -> None:
        """What became of it is recorded."""
        _end(self._hidden, self._span, max(now, self._began), error)


def _span_context(one: TraceContext, *, is_remote: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if one.sampled else TraceFlags.DEFAULT)
    return SpanContext(one.trace_id, one.span_id, is_remote=is_remote, trace_flags=flags)


def _context_of(one: TraceContext, *, is_remote: bool = True) -> Context:
    return set_span_in_context(NonRecordingSpan(_span_context(one, is_remote=is_remote)), Context())


def _end(hidden: Redaction, span: Span, moment: int, error: Failed | None, *, is_error: bool = True) -> None:
    if error is not None and is_error:
        message = hidden.text(error.message)
        more = {"exception.stacktrace": hidden.text(error.stack)} if error.stack else {}
        told = {"exception.type": error.name, "exception.message": message, **more}
        span.add_event("exception", told, moment)
        span.set_status(Status(StatusCode.ERROR, f"{error.name}: {message}"))
    span.end(moment)
