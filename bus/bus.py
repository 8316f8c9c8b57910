"""Bus: declares functions and sends events. It runs nothing: `Worker(app)` does; `create_app(app)` makes the site."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Generic, Unpack, cast, overload

import msgspec
from typing_extensions import TypeVar

from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import (
    MAX_EVENTS,
    NewEvent,
    Outgoing,
    Payload,
    Sendable,
    as_data,
    as_new,
    check_event_id,
    check_name,
    check_ts,
    check_version,
    checked_time,
    event_name_of,
    misfit,
)
from stepstream.bus.function import (
    Bounds,
    Declare,
    DeclareAny,
    FailureHandler,
    Function,
    FunctionOptions,
    Handler,
    Kinds,
    check_slug_part,
)
from stepstream.bus.limits.cancel_on import CancelDeclared, checked_cancel_on
from stepstream.bus.limits.flow import checked_flow
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.limits.timeouts import Timeouts
from stepstream.bus.observe.tracing import current_trace
from stepstream.bus.process.background import background, refuse_in_loop, wait_for
from stepstream.bus.retry import Retry
from stepstream.bus.trigger import Declared, On, Triggers, checked
from stepstream.bus.values.ids import ulid
from stepstream.bus.values.payload import is_payload
from stepstream.bus.wire.publishing import Sent, Stored
from stepstream.bus.wire.wire import Wire
from stepstream.bus.wire.wires import Wires

E = TypeVar("E")
State_co = TypeVar("State_co", covariant=True, default=Any)
R = TypeVar("R")
Delay = float | str | timedelta
"""Seconds, text like "10m", or a timedelta."""

Lifespan = Callable[[], AbstractAsyncContextManager[State_co]]


class Bus(Generic[State_co]):
    """One application's functions, under one id. Declaring and sending are all it does.

    `Bus[Shop]`, when its lifespan yields a Shop: that is the type of `ctx.state`.
    """

    def __init__(self, id: str, *, lifespan: Lifespan[State_co] | None = None) -> None:
        """Make a bus. `lifespan` is an async context manager a worker enters once; its value is `ctx.state`."""
        check_slug_part("bus", id)
        self.id = id
        self.lifespan = lifespan
        self.functions: dict[str, Function[Any, Any]] = {}
        self.kinds = Kinds()
        self._wires = Wires(f"send:{id}", self.kinds.of, self.functions)

    @overload
    def function(
        self, id: str, *, on: type[E] | On[E] | Sequence[type[E] | On[E]], **options: Unpack[FunctionOptions]
    ) -> Declare[E, State_co]: ...
    @overload
    def function(
        self, id: str, *, on: Declared | Sequence[Declared] | None = None, **options: Unpack[FunctionOptions]
    ) -> DeclareAny[State_co]: ...
    def function(
        self,
        id: str,
        *,
        on: Declared | Sequence[Declared] | None = None,
        retries: int | Retry = 4,
        on_failure: FailureHandler | None = None,
        cancel_on: CancelDeclared | list[CancelDeclared] | None = None,
        timeouts: Timeouts | None = None,
        concurrency: int | Concurrency | list[Concurrency] | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        batch: Batch | None = None,
        singleton: Singleton | None = None,
        priority: str | None = None,
        idempotency: str | None = None,
        name: str = "",
    ) -> Any:
        """Declare a function: `@app.function("greet", on=Hello)` above `async def greet(ctx, step)`.

        `on` is an event type, a name (or `shop/*`), `On(…, if_=…)`, `Cron("0 4 * * *", tz=…)`, or a list of them;
        without it the function is only invoked. The handler's `ctx.event.data` is of the type in `on`; when `on` has
        none, of the type the handler is annotated with, `Context[Refund]`, if that is one an event may have, else plain
        values. `retries` is a count (attempts = retries + 1) or a Retry. `on_failure` is a handler of the same form, a
        function of its own (`<id>-failure`, retries 1) that runs when one has failed: its event is a FunctionFailed
        (`bus/function.failed`), with the error and the event. `cancel_on` is an event, a CancelOn or a list of them:
        when it comes, the runs it belongs to are cancelled. `timeouts` bounds how long a run may take.

        `concurrency`, `throttle`, `rate_limit`, `debounce`, `batch` and `singleton` are limits (bus/limits);
        `priority` (seconds before others) and `idempotency` (what runs once in 24 h) are CEL over `event`.

        Raises ConfigError, naming the function, the option, its value and the way out.
        """
        if not isinstance(cast("object", id), str):  # @app.function without parentheses: nothing would be declared
            raise ConfigError(
                f"app.function takes an id first, got {getattr(id, '__name__', id)!r}; write "
                '@app.function("greet", on="shop/greeted") above the handler'
            )
        if id in self.functions:
            raise ConfigError(f"bus '{self.id}' has two functions '{id}'; give one of them another id")
        if on_failure is not None and f"{id}-failure" in self.functions:
            raise ConfigError(f"function '{id}' has on_failure, and '{id}-failure' is a function already; rename that")
        triggers = checked(on, id)
        retry = retries if isinstance(retries, Retry) else Retry(retries)
        where = f"function '{id}'"
        kinds = tuple(trigger.kind for trigger in triggers.events if trigger.kind is not None)
        cancels = checked_cancel_on(cancel_on, where, kinds)
        if timeouts is not None:
            timeouts.check(where)
        flow = checked_flow(
            concurrency=concurrency,
            idempotency=idempotency,
            rate_limit=rate_limit,
            where=where,
            kinds=kinds,
            others={
                "throttle": throttle,
                "debounce": debounce,
                "batch": batch,
                "singleton": singleton,
                "priority": priority,
            },
        )
        if batch is not None and cancels:
            raise ConfigError(f"{where} has batch and cancel_on; they do not go together, remove one")

        def declare(handler: Handler[Any, Any, Any]) -> Function[Any, Any]:
            failure = None
            if on_failure is not None:
                told = f"{name or id} (failure)"
                handles: Handler[Any, Any, object] = on_failure
                failure = Function(
                    self.id, f"{id}-failure", handler=handles, triggers=Triggers(), retry=Retry(1), name=told
                )
                self.functions[failure.id] = failure
            made = Function(
                self.id, id, handler=handler, triggers=triggers, retry=retry, name=name, failure=failure,
                bounds=Bounds(timeouts or Timeouts(), cancels, flow),
            )  # fmt: skip
            self.functions[id] = made
            self.kinds.add(made)
            return made

        return declare

    @overload
    async def send(
        self,
        event: str | Sendable,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Sent: ...
    @overload
    async def send(self, event: Sequence[Sendable]) -> list[Sent]: ...
    async def send(
        self,
        event: str | Sendable | Sequence[Sendable],
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Sent | list[Sent]:
        """Publish one event or several; return their ids once Redis has stored them, with how many functions listen.

        An event is a payload that has a name, a name and its data, a NewEvent, or a dict like the body of POST /e. An
        `id` of yours makes it idempotent: for 24 h a second send of it, under one name, stores nothing. With `delay`
        (seconds, "10m", a timedelta) or `at` (an aware datetime) it is kept, and published then. All events are checked
        before any is stored, also that their data fits the type that the name has. Raises EventInvalid with the field,
        or PublishFailed (repeating is safe with ids of yours).

        Before the first event this bus's functions are registered, as far as no worker has declared them yet: what is
        published from then on waits for them.
        """
        if isinstance(event, Sequence) and not isinstance(event, str):
            if not (data is id is delay is at is None):
                raise EventInvalid(
                    "several events have data and ids of their own: NewEvent('order/paid', {…}, id='…')", field="data"
                )
            return [Sent.of(stored) for stored in await self.publish(event)]
        return Sent.of((await self.publish([one_event(event, data, id, delay, at)]))[0])

    @overload
    def send_sync(
        self,
        event: str | Sendable,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Sent: ...
    @overload
    def send_sync(self, event: Sequence[Sendable]) -> list[Sent]: ...
    def send_sync(
        self,
        event: str | Sendable | Sequence[Sendable],
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Sent | list[Sent]:
        """Publish as `send` does, from code without an event loop: Django, Flask, a script, any thread.

        One connection serves all threads of the process; it is closed at exit, and a forked child opens its own.
        """
        send: Any = self.send
        return self.sync(lambda: send(event, data, id=id, delay=delay, at=at), "app.send_sync", "app.send")

    async def publish(self, events: Sequence[Sendable]) -> list[Stored]:
        """Publish as `send` does, and return ids, stream entries and which were there already."""
        if isinstance(events, Mapping) or not 1 <= len(events) <= MAX_EVENTS:
            raise EventInvalid(f"{len(events)} events; send a list of 1 to {MAX_EVENTS}", status=413)
        checked_events: list[Outgoing] = []
        for position, event in enumerate(events):
            try:
                checked_events.append(outgoing(as_new(event)))
            except EventInvalid as error:
                raise error.at(position) if len(events) > 1 else error from None
        return await self._wires.publisher.publish(checked_events)

    def sync(self, work: Callable[[], Coroutine[Any, Any, R]], called: str, instead: str) -> R:
        """Do work in an event loop for a thread that has none; where one runs, ConfigError says to await `instead`.

        In the loop of a worker or a test that this bus is connected to; else in that of a thread in the background.
        """
        refuse_in_loop(called, f"await {instead}(…)")
        loop = self._wires.connected_loop
        if loop is None:
            own = background()
            self._wires.close_at_exit(own)
            loop = own.loop
        return wait_for(work, loop)

    @property
    def wire(self) -> Wire:
        """The connection of the running loop, opened by its first use."""
        return self._wires.wire

    async def close(self) -> None:
        """Close the connections that `send` opened in this loop."""
        await self._wires.close()

    def connect(self, wire: Wire) -> None:
        """Send through a wire that is open already (a worker's, a test's), and register nothing: a worker has."""
        self._wires = self._wires.connected(wire)

    def disconnect(self) -> None:
        """Send no more through a wire that was connected: who lent it closes it."""
        self._wires = self._wires.disconnected()


def one_event(
    event: str | Sendable,
    data: Mapping[str, Any] | Payload | None = None,
    id: str | None = None,
    delay: Delay | None = None,
    at: datetime | None = None,
) -> NewEvent:
    """Return one event as `send` takes it; EventInvalid for what is given twice."""
    if isinstance(event, str):
        return NewEvent(event, data, id, delay=delay, at=at)
    new = as_new(event)
    if data is not None:
        raise EventInvalid(f"a {type(event).__name__} has its data in it; give no second one", field="data")
    if id is not None and new.id not in (None, id):
        raise EventInvalid(f"is given twice, {new.id!r} and {id!r}", field="id")
    if not (delay is at is None) and not (new.delay is new.at is None):
        raise EventInvalid("is given twice, with the event and beside it", field="at" if delay is None else "delay")
    if id is delay is at is None:
        return new
    return msgspec.structs.replace(
        new, id=id or new.id, delay=new.delay if delay is None else delay, at=new.at if at is None else at
    )


def outgoing(new: NewEvent) -> Outgoing:
    """Return an event as it is stored, checked; EventInvalid says what is wrong.

    A payload is checked against its own type: neither a struct nor a dataclass looks at what it is made of.
    """
    value: Any
    if isinstance(new.event, str):
        name = new.event
        value = dict(new.data or {}) if isinstance(new.data, Mapping | None) else new.data
        check_name(name)
    else:
        name, value = event_name_of(type(new.event)), new.event
        if not name:
            raise EventInvalid(
                f"class {type(value).__name__} has no event name; declare it with name='…' or @event('…')", field="name"
            )
        if new.data is not None:
            raise EventInvalid(f"a {type(value).__name__} is the event's data; give no second one", field="data")
    if new.id is not None:
        check_event_id(new.id)
    if new.ts is not None:
        check_ts(new.ts)
    if new.v is not None:
        check_version(new.v)
    data = as_data(value)
    kinds: list[type[Any]] = [type(value)] if is_payload(type(value)) else []
    wrong = misfit(data, kinds)
    if wrong is not None:
        raise wrong
    delay, at = (0, 0) if new.delay is None and new.at is None else checked_time(new.delay, new.at)
    return Outgoing(
        new.id or ulid(),
        name,
        data,
        own_id=new.id is not None,
        ts=new.ts,
        v=new.v,
        fits=kinds[0] if kinds else None,
        delay=delay,
        at=at,
        trace=current_trace(),
    )
