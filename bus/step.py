"""Step: the contract a function's body sees. The replaying implementation lives in consumers/steps."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from bus.retry import Retry

R = TypeVar("R")


class Step(ABC):
    """Named, checkpointed parts of a run. A step that has a memo is not executed again, in this process or another.

    Every method takes its id and its place in the run at the *call*, so `gather(step.run("a", …), step.run("b", …))` is
    deterministic. A repeated id is `id`, `id:1`, `id:2`; the same id from two tasks of a run is an error.
    """

    @overload
    @abstractmethod
    def run(
        self,
        id: str,
        target: Callable[..., Awaitable[R]],
        *args: Any,
        timeout: float | str | timedelta | None = None,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    @abstractmethod
    def run(
        self,
        id: str,
        target: Callable[..., R],
        *args: Any,
        timeout: float | str | timedelta | None = None,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @abstractmethod
    def run(
        self,
        id: str,
        target: Callable[..., Any],
        *args: Any,
        timeout: float | str | timedelta | None = None,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `target(*args)`, at least once, and remember what it returned, exactly once.

        An async target runs on the event loop, a sync one in the worker's thread pool. `timeout` bounds one attempt;
        `retries` defaults to the function's. Raises StepFailed when its attempts are used up.
        """

    @abstractmethod
    def sleep(self, id: str, duration: float | str | timedelta) -> Coroutine[Any, Any, None]:
        """Wait durably, at most 366 days, without holding a worker."""

    @abstractmethod
    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Wait durably until an aware datetime; one that has passed does not wait."""
