"""Function: a handler and when it runs; checked whole when it is declared, so a bad one never starts."""

import hashlib
import inspect
from collections.abc import Callable, Coroutine, Sequence
from types import UnionType
from typing import Any, Generic, NamedTuple, Protocol, TypedDict, Union, get_args, get_origin, get_type_hints

from typing_extensions import TypeVar

from stepstream.bus.context import Context
from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import Event, RawEvent, event_name_of, misfit
from stepstream.bus.limits.cancel_on import CancelDeclared, CancelOn
from stepstream.bus.limits.flow import Flow
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.limits.timeouts import Timeouts
from stepstream.bus.retry import Retry
from stepstream.bus.step import Step
from stepstream.bus.system_events import INVOKED, FunctionFailed
from stepstream.bus.trigger import Trigger, Triggers
from stepstream.bus.values.ids import SLUG_PART
from stepstream.bus.values.payload import is_payload

E = TypeVar("E")
R = TypeVar("R")
State = TypeVar("State")
E_contra = TypeVar("E_contra", contravariant=True, default=Any)
R_co = TypeVar("R_co", covariant=True, default=Any)
State_co = TypeVar("State_co", covariant=True, default=Any)

Handler = Callable[[Context[E, State], Step], Coroutine[Any, Any, R]]
FailureHandler = Handler[FunctionFailed, Any, object] | Handler[dict[str, Any], Any, object]
"""What `on_failure` takes; as a dict it is the same, under the same names."""


def check_slug_part(what: str, text: str) -> None:
    """Refuse an id that is not letters, digits, `.`, `_`, `/`, `-`, or is over 128 characters."""
    if not SLUG_PART.fullmatch(text):
        raise ConfigError(
            f"{what} id {text!r} must be 1 to 128 letters, digits, '.', '_', '/', '-', and begin with a letter or digit"
        )


_TICK = b'{"cron":"* * * * *","tz":"UTC","scheduledAt":"2000-01-01T00:00:00Z"}'
"""The data of the event that a schedule makes: producers/cron.py writes it."""


class Bounds(NamedTuple):
    """What bounds a function's runs: how long one may take, what cancels it, how many there may be."""

    timeouts: Timeouts = Timeouts()
    cancel_on: tuple[CancelOn, ...] = ()
    flow: Flow = Flow()


UNBOUNDED = Bounds()


class Function(Generic[E_contra, R_co]):
    """A declared function: `Function[OrderPaid, Label]` takes an OrderPaid event and returns a Label.

    `slug` (`<bus id>-<function id>`) names its keys, its consumer group and its runs. Call it as the plain handler it
    is made of, in a test: `await ship_order(ctx, step)`.
    """

    def __init__(
        self,
        bus_id: str,
        id: str,
        *,
        handler: Handler[E_contra, Any, R_co],
        triggers: Triggers,
        retry: Retry,
        name: str,
        failure: "Function[Any, Any] | None" = None,
        bounds: Bounds = UNBOUNDED,
    ) -> None:
        check_slug_part("function", id)
        if not inspect.iscoroutinefunction(handler):
            raise ConfigError(
                f"function '{id}': handler {_name(handler)} is not async; write 'async def', "
                "and call sync code in a step: await step.run('work', sync_code)"
            )
        if len(inspect.signature(handler).parameters) != 2:
            raise ConfigError(f"function '{id}': handler {_name(handler)} must take two arguments: (ctx, step)")
        self.id = id
        self.bus_id = bus_id
        self.slug = f"{bus_id}-{id}"
        self.name = name or id
        self.handler = handler
        self.triggers, self.crons = triggers
        self.retry = retry
        self.code = _code(handler)
        self.is_remote = False
        """Whether it is one of an application behind HTTP."""
        self.failure = failure
        """What runs when a run of this one has failed: `on_failure`."""
        self.timeouts, self.cancel_on, self.flow = bounds
        self.kinds = {trigger.name: trigger.kind for trigger in self.triggers if trigger.kind is not None}
        """The types that `on=` gives, by the names of the events."""
        all_typed = bool(self.kinds) and len(self.kinds) == len(self.triggers) and not self.crons
        annotated = None if self.kinds else _annotated(handler)
        self._otherwise: type[Any] | None = annotated if is_payload(annotated) else None
        self._by_name = self.kinds or _named(annotated)
        wrong = misfit(_TICK, [self._otherwise]) if self.crons and self._otherwise is not None else None
        if wrong is not None:
            raise ConfigError(
                f"function '{id}': what a schedule starts has cron, tz and scheduledAt, and its handler is "
                f"annotated with a type that this does not fit: {wrong}"
            )
        alone = [] if self._otherwise is None else [self._otherwise]
        self.invoked_kinds: list[type[Any]] = list(self.kinds.values()) if all_typed else alone
        """The types of which what it is invoked with must fit one; none: it takes any object."""

    def __call__(self, ctx: Context[E_contra, Any], step: Step) -> Coroutine[Any, Any, R_co]:
        """Call the handler."""
        return self.handler(ctx, step)

    def typed(self, event: RawEvent) -> Event[Any]:
        """Return an event with the data this function takes; EventInvalid, with the path, for data that does not fit.

        That is the type that `on=` gives for its name. A function whose `on=` gives no type takes what its handler is
        annotated with, `Context[OrderPaid]`, of `Context[OrderPaid | OrderLost]` the one that has the event's name, or
        plain values. Invoked, it takes the first of its types that the data
        fits.
        """
        kinds = self.invoked_kinds if event.name == INVOKED else []
        for kind in kinds[:-1]:
            try:
                return event.typed(kind)
            except EventInvalid:
                continue
        return event.typed(kinds[-1] if kinds else self._by_name.get(event.name, self._otherwise))

    @property
    def redacted(self) -> set[str]:
        """The fields that the types it takes are declared with as `redact=`."""
        return {path for kind in (*self.kinds.values(), *self.invoked_kinds) for path in getattr(kind, "redacted", ())}

    def misfit(self, data: bytes) -> EventInvalid | None:
        """Return why it does not take data that it is invoked with; None when it does."""
        return misfit(data, self.invoked_kinds)

    def triggers_of(self, event_name: str) -> tuple[Trigger, ...]:
        """Return the triggers that are for events of a name, the exact one first."""
        return tuple(sorted((t for t in self.triggers if t.covers(event_name)), key=lambda t: t.is_pattern))

    def __repr__(self) -> str:
        return f"<Function {self.slug}>"


class Kinds:
    """The types that functions give to events: what data of a name must fit one of."""

    def __init__(self) -> None:
        self._of: dict[str, list[type[Any]]] = {}

    def add(self, function: Function) -> None:
        """Take in the types of a function."""
        for name, kind in function.kinds.items():
            known = self._of.setdefault(name, [])
            if kind not in known:
                known.append(kind)

    def of(self, name: str) -> Sequence[type[Any]]:
        """Return the types of a name; none, when it is free."""
        return self._of.get(name, ())


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", repr(handler))


def _annotated(handler: Any) -> Any:
    """Return what a handler's context is annotated with as its event's data; None when that is unknown."""
    try:
        hints = get_type_hints(handler)
    except (NameError, TypeError):  # imported for type checkers only, or declared inside a function
        return None
    context = hints.get(next(iter(inspect.signature(handler).parameters)))
    if get_origin(context) is not Context:
        return None
    return get_args(context)[0]


def _named(annotated: Any) -> dict[str, type[Any]]:
    """Return the payload types of a union by the names of their events: `FunctionFailed | FunctionCancelled`."""
    several = get_args(annotated) if get_origin(annotated) in (Union, UnionType) else ()
    return {event_name_of(kind): kind for kind in several if is_payload(kind) and event_name_of(kind)}


class FunctionOptions(TypedDict, total=False):
    """What `app.function` takes beside its id and `on`; told there."""

    retries: int | Retry
    on_failure: FailureHandler | None
    cancel_on: CancelDeclared | list[CancelDeclared] | None
    timeouts: Timeouts | None
    concurrency: int | Concurrency | list[Concurrency] | None
    throttle: Throttle | None
    rate_limit: RateLimit | None
    debounce: Debounce | None
    batch: Batch | None
    singleton: Singleton | None
    priority: str | None
    idempotency: str | None
    name: str


class Declare(Protocol[E, State_co]):
    """Declares a handler of events whose type `on=` gives; a handler of another event is a type error."""

    def __call__(self, handler: Handler[E, State_co, R], /) -> Function[E, R]:
        """Declare it."""
        ...


class DeclareAny(Protocol[State_co]):
    """Declares a handler of events whose type `on=` does not give; the handler's annotation is believed."""

    def __call__(self, handler: Handler[E, State_co, R], /) -> Function[E, R]:
        """Declare it."""
        ...


def _code(handler: Any) -> str:
    """Return a short fingerprint of the handler: which version of the code a run was started with."""
    try:
        text = inspect.getsource(handler)
    except (OSError, TypeError):
        text = repr(handler)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
