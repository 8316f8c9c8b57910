"""Context: what a handler knows about its run."""

from collections.abc import Callable, Sequence
from typing import Any, Generic

import structlog
from typing_extensions import TypeVar

from stepstream.bus.errors import NonRetriable
from stepstream.bus.event import Event
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


def _nothing(_: bytes) -> None:
    return None


def _never() -> bool:
    return False


_NO_STATE: Any = None


class Context(Generic[E_co, State_co]):
    """The event, the run, and the worker's state: `Context[OrderPaid]`, or `Context[OrderPaid, Shop]` with its type.

    `events` are all events of a batch; of another run, its one. `attempt` counts failed tries of the code between
    steps: 0, and 0 again after each newly saved step. `state` is the value of the bus's lifespan. `logger` is bound to
    the run, and silent while memos are replayed: write `ctx.logger.info(…)`, do not keep it in a variable.

    A worker makes it. In a test of a handler as a plain function, `Context(event=Event(…))` is enough.
    """

    __slots__ = ("_logger", "_replaying", "_tell_progress", "attempt", "event", "events", "function", "run_id", "state")

    def __init__(
        self,
        *,
        event: Event[E_co],
        run_id: str = "",
        function: str = "",
        attempt: int = 0,
        state: State_co = _NO_STATE,
        replaying: Callable[[], bool] = _never,
        tell_progress: Callable[[bytes], None] = _nothing,
        events: Sequence[Event[E_co]] | None = None,
    ) -> None:
        self.event = event
        self.events: Sequence[Event[E_co]] = events or [event]
        self.run_id = run_id
        self.function = function
        self.attempt = attempt
        self.state = state
        self._replaying = replaying
        self._tell_progress = tell_progress
        self._logger: Any = None

    def progress(self, percent: float, **fields: Any) -> None:
        """Show how far the run is: 0 to 100, and what else you like (`processed=40`). At most ten times a second."""
        if not 0 <= percent <= 100:
            raise NonRetriable(f"progress must be 0 to 100, got {percent}")
        try:
            told = codec.encode({"percent": percent, **fields})
        except NotJson as error:
            raise NonRetriable(f"progress is not JSON: {error}") from None
        self._tell_progress(told)

    @property
    def logger(self) -> Any:
        """A structlog logger bound to function, run and attempt."""
        if self._replaying():
            return _silent
        if self._logger is None:
            self._logger = _logger().bind(function=self.function, run=self.run_id, attempt=self.attempt)
        return self._logger
