"""Context: what a handler knows about its run."""

from collections.abc import Sequence
from typing import Any, Generic, Protocol

import structlog
from typing_extensions import TypeVar

from stepstream.bus.errors import NonRetriable
from stepstream.bus.event import Event
from stepstream.bus.process import scope
from stepstream.bus.process.scope import in_run
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson

E_co = TypeVar("E_co", covariant=True, default=Any)
State_co = TypeVar("State_co", covariant=True, default=Any)


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


_silent: Any = structlog.wrap_logger(None, processors=[_drop])


def _logger() -> Any:
    """Return a structlog logger as it is configured, whose lines are kept with the run that writes them."""
    how = structlog.get_config()
    if in_run in how["processors"]:
        return structlog.get_logger("run")
    return structlog.wrap_logger(
        how["logger_factory"]("run"),
        processors=[in_run, *how["processors"]],
        wrapper_class=how["wrapper_class"],
        context_class=how["context_class"],
    )


class Behind(Protocol):
    """What stands behind a context: the turn of a run that a worker has."""

    def replaying(self) -> bool:
        """Whether the handler only repeats what an earlier turn did."""
        ...

    def tell_progress(self, progress: bytes) -> None:
        """Show how far the run is (JSON)."""
        ...

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        """Publish a message (JSON)."""
        ...


class _Nobody:
    """Behind the context of a handler that a test calls as a plain function: nothing is shown or published."""

    def replaying(self) -> bool:
        return False

    def tell_progress(self, progress: bytes) -> None:
        pass

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        pass


_NOBODY = _Nobody()
_NO_STATE: Any = None


class Context(Generic[E_co, State_co]):
    """The event, the run, and the worker's state: `Context[OrderPaid]`, or `Context[OrderPaid, Shop]` with its type.

    `events` are all events of a batch; of another run, its one. `attempt` counts failed tries of the code between
    steps: 0, and 0 again after each newly saved step. `state` is the value of the bus's lifespan. `logger` is bound to
    the run, and silent while memos are replayed: write `ctx.logger.info(…)`, do not keep it in a variable.

    A worker makes it. In a test of a handler as a plain function, `Context(event=Event(…))` is enough.
    """

    __slots__ = ("_behind", "_logger", "attempt", "event", "events", "function", "run_id", "state")

    def __init__(
        self,
        *,
        event: Event[E_co],
        run_id: str = "",
        function: str = "",
        attempt: int = 0,
        state: State_co = _NO_STATE,
        events: Sequence[Event[E_co]] | None = None,
        behind: Behind = _NOBODY,
    ) -> None:
        self.event = event
        self.events: Sequence[Event[E_co]] = events or [event]
        self.run_id = run_id
        self.function = function
        self.attempt = attempt
        self.state = state
        self._behind = behind
        self._logger: Any = None

    def progress(self, percent: float, **fields: Any) -> None:
        """Show how far the run is: 0 to 100, and what else you like (`processed=40`). At most ten times a second."""
        if not 0 <= percent <= 100:
            raise NonRetriable(f"progress must be 0 to 100, got {percent}")
        try:
            told = codec.encode({"percent": percent, **fields})
        except NotJson as error:
            raise NonRetriable(f"progress is not JSON: {error}") from None
        self._behind.tell_progress(told)

    async def publish(self, topic: str, data: Any, *, channel: str | None = None) -> None:
        """Publish a message to who listens: on the run's own channel, named by its id, or on `channel`.

        It is no step, so nothing records that it was done: while memos are replayed nothing is published, and code that
        runs again, after a failed attempt or on another worker, publishes again. `data` is what JSON can tell, up to
        512 KiB. Listeners: `GET /v1/live/{channel}`, `app.live(channel)`.
        """
        if self._behind.replaying():
            return
        try:
            told = codec.encode(data)
        except NotJson as error:
            raise NonRetriable(f"a message's data is not JSON: {error}") from None
        await self._behind.publish(topic, told, channel or self.run_id)

    @property
    def logger(self) -> Any:
        """A structlog logger bound to function, run and attempt (in a step's body the step's), counted from 1 there."""
        if self._behind.replaying():
            return _silent
        here, inside = scope.current.get(), scope.step.get()
        if here is not None and inside:
            attempt = here.attempt_of(inside)
            return _logger().bind(function=self.function, run=self.run_id, attempt=attempt)
        if self._logger is None:
            self._logger = _logger().bind(function=self.function, run=self.run_id, attempt=self.attempt + 1)
        return self._logger
