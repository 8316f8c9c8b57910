"""Bus: declares functions and sends events. It runs nothing: `Worker(app)` does; `create_app(app)` makes the site."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Unpack, overload

from typing_extensions import TypeVar

from stepstream.bus import settings
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
from stepstream.bus.limits import (
    Batch,
    CancelDeclared,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    checked_cancel_on,
    checked_flow,
)
from stepstream.bus.observe import log
from stepstream.bus.retry import Retry
from stepstream.bus.trigger import Declared, On, Triggers, checked
from stepstream.bus.values.ids import ulid
from stepstream.bus.values.payload import is_payload
from stepstream.bus.wire.publishing import Publisher, Sent, Stored
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire

E = TypeVar("E")
State_co = TypeVar("State_co", covariant=True, default=Any)
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
        self._wire: Wire | None = None
        self._publisher: Publisher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

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

        `concurrency`, `throttle`, `rate_limit`, `debounce`, `batch` and `singleton` are limits (bus/limits.py);
        `priority` (seconds before others) and `idempotency` (what runs once in 24 h) are CEL over `event`.

        Raises ConfigError, naming the function, the option, its value and the way out.
        """
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
    ) -> Sent: ...
    @overload
    async def send(self, event: Sequence[Sendable]) -> list[Sent]: ...
    async def send(
        self,
        event: str | Sendable | Sequence[Sendable],
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
    ) -> Sent | list[Sent]:
        """Publish one event or several; return their ids once Redis has stored them, with how many functions listen.

        An event is a payload that has a name, a name and its data, a NewEvent, or a dict like the body of POST /e. An
        `id` of yours makes it idempotent: for 24 h a second send of it, under one name, stores nothing. All events
        are checked before any is stored, also that their data fits the type that the name has. Raises EventInvalid with
        the field, or PublishFailed (repeating is safe with ids of yours).

        Before the first event this bus's functions are registered, as far as no worker has declared them yet: what is
        published from then on waits for them.
        """
        if isinstance(event, Sequence) and not isinstance(event, str):
            if data is not None or id is not None:
                raise EventInvalid(
                    "several events have data and ids of their own: NewEvent('order/paid', {…}, id='…')", field="data"
                )
            return [Sent.of(stored) for stored in await self.publish(event)]
        if isinstance(event, str):
            new = NewEvent(event, data, id)
        else:
            new = as_new(event)
            if data is not None:
                raise EventInvalid(f"a {type(event).__name__} has its data in it; give no second one", field="data")
            if id is not None and new.id not in (None, id):
                raise EventInvalid(f"is given twice, {new.id!r} and {id!r}", field="id")
            new = new if id is None else NewEvent(new.event, new.data, id, new.ts, new.v)
        return Sent.of((await self.publish([new]))[0])

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
        return await self._connected().publish(checked_events)

    async def close(self) -> None:
        """Close the connections that `send` opened."""
        wire, self._wire, self._publisher = self._wire, None, None
        if wire is not None and self._loop is asyncio.get_running_loop():
            await wire.close()

    def _connected(self) -> Publisher:
        loop = asyncio.get_running_loop()
        if self._publisher is None or self._loop is not loop:
            configured, _ = settings.read()
            self._send_by(Wire(configured, f"send:{self.id}", log.notice), [self.functions])
        assert self._publisher is not None
        return self._publisher

    def connect(self, wire: Wire) -> None:
        """Send through a wire that is open already (a worker's, a test's), and register nothing: a worker has."""
        self._send_by(wire, [])

    def _send_by(self, wire: Wire, registers: Sequence[Mapping[str, Function[Any, Any]]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._publisher = Publisher(wire, self.kinds.of, Listeners(wire, registers))

    def disconnect(self) -> None:
        """Send no more through a wire that was connected: who lent it closes it."""
        self._wire = self._publisher = None


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
    data = as_data(value)
    kinds: list[type[Any]] = [type(value)] if is_payload(type(value)) else []
    wrong = misfit(data, kinds)
    if wrong is not None:
        raise wrong
    return Outgoing(
        new.id or ulid(), name, data, own_id=new.id is not None, ts=new.ts, v=new.v, fits=kinds[0] if kinds else None
    )
