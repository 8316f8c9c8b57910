"""Step: the contract a function's body sees. consumers/turn/steps implements it with replay."""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, TypeVarTuple, overload

import msgspec

from stepstream.bus.context import Context
from stepstream.bus.event import Event, Sendable
from stepstream.bus.retry import Retry
from stepstream.bus.values import codec

E = TypeVar("E")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
E_contra = TypeVar("E_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Fetched(msgspec.Struct, frozen=True):
    """The answer to a durable HTTP request: its status, its headers (lower case), its body as text."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """Return the body's value."""
        return codec.decode(self.body)


class ProcessResult(msgspec.Struct, frozen=True):
    """What came of a command: its exit code, and the last 16 KiB of each output; `cut` bytes came before them.

    What it wrote that is not UTF-8 is replaced (U+FFFD). The run's log has its lines as they came.
    """

    code: int = 0
    stdout: str = ""
    stderr: str = ""
    cut: int = 0


class Callee(Protocol[E_contra, R_co]):
    """What can be invoked: a declared function (Function)."""

    @property
    def slug(self) -> str:
        """Its name in Redis."""
        ...

    @property
    def handler(self) -> Callable[..., Any]:
        """The author's code; its return annotation is the type of what it returns."""
        ...

    def __call__(self, ctx: Context[E_contra, Any], step: "Step", /) -> Coroutine[Any, Any, R_co]:
        """Call the handler."""
        ...


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
        target: Callable[[*Ts], Awaitable[R]],
        *args: *Ts,
        timeout: float | str | timedelta | None = None,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    @abstractmethod
    def run(
        self,
        id: str,
        target: Callable[[*Ts], R],
        *args: *Ts,
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

        Keywords go through functools.partial. The result is of the target's return annotation, in a replay too: also a
        dataclass, a TypedDict or a Pydantic model. An async target runs on the event loop, a sync one in the worker's
        thread pool. `timeout` bounds one attempt; `retries` defaults to the function's. Raises StepFailed when its
        attempts are used up.
        """

    @abstractmethod
    def sleep(self, id: str, duration: float | str | timedelta) -> Coroutine[Any, Any, None]:
        """Wait durably, at most 366 days, without holding a worker."""

    @abstractmethod
    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Wait durably until an aware datetime; one that has passed does not wait."""

    @overload
    @abstractmethod
    def wait_for_event(
        self,
        id: str,
        event: type[T],
        *,
        match: str | None = None,
        if_: str | None = None,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Event[T] | None]: ...
    @overload
    @abstractmethod
    def wait_for_event(
        self,
        id: str,
        event: str,
        *,
        match: str | None = None,
        if_: str | None = None,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Event[Any] | None]: ...
    @abstractmethod
    def wait_for_event(
        self,
        id: str,
        event: str | type[Any],
        *,
        match: str | None = None,
        if_: str | None = None,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Event[Any] | None]:
        """Wait for an event; None when `timeout` (at most and by default 366 days) is over first.

        `match="data.orderId"`: it has there what the run's own event has. `if_`: CEL over `event`, the run's own, and
        `async`, the one that comes. Neither: the next of that name. One that came since the run began, and that no
        other wait of the run has taken, is found too. One event answers every run that waits for it. One whose data
        does not fit the type is ignored, with a line in the run's log: the wait goes on as the step `<id>~1`.
        """

    @overload
    @abstractmethod
    def wait_for_signal(
        self, id: str, signal: str, *, type: type[T], timeout: float | str | timedelta | None = None
    ) -> Coroutine[Any, Any, T | None]: ...
    @overload
    @abstractmethod
    def wait_for_signal(
        self, id: str, signal: str, *, timeout: float | str | timedelta | None = None
    ) -> Coroutine[Any, Any, Any]: ...
    @abstractmethod
    def wait_for_signal(
        self, id: str, signal: str, *, type: Any = Any, timeout: float | str | timedelta | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Wait for a signal and return its data, as `type` if one is given; None when `timeout` is over first.

        One run at a time waits for a name: a second one's step fails with `signal_conflict`. Data that is not of the
        type is refused where it is sent; what is noticed here only is told in the run's log, and the wait goes on, as
        the step `<id>~1`.
        """

    @abstractmethod
    def send_signal(self, id: str, signal: str, data: Any = None) -> Coroutine[Any, Any, bool]:
        """Hand data to the run that waits for a signal; return whether one did."""

    @overload
    @abstractmethod
    def invoke(
        self,
        id: str,
        function: Callee[E, R],
        data: E | Mapping[str, Any] | None = None,
        *,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    @abstractmethod
    def invoke(
        self,
        id: str,
        function: str,
        data: Any = None,
        *,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    @abstractmethod
    def invoke(
        self,
        id: str,
        function: Callee[Any, Any] | str,
        data: Any = None,
        *,
        timeout: float | str | timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call another function (or a slug, of any bus) with an object as its event's data; return what it returns.

        It receives the data as the type of its event. StepFailed with `event_invalid`, and no run, when the data
        does not fit; with its error when it fails; with `timeout`, which does not cancel it.
        """

    @abstractmethod
    def send_event(
        self, id: str, event: str | Sendable | Sequence[Sendable], data: Any = None
    ) -> Coroutine[Any, Any, list[str]]:
        """Publish one event or several from the run, once however often it is tried; return their ids."""

    @abstractmethod
    def fetch(
        self,
        id: str,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | str | None = None,
        timeout: float | str | timedelta = 30,
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, Fetched]:
        """Send an HTTP request as a step. No answer, 5xx and 429 are tried again; any other status is returned."""

    @abstractmethod
    def subprocess(
        self,
        id: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        timeout: float | str | timedelta | None = None,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ok: Collection[int] = (0,),
        retries: int | Retry | None = None,
    ) -> Coroutine[Any, Any, ProcessResult]:
        """Run a command (a list of words, no shell) as a step; its lines go to the run's log as they come.

        An attempt fails unless the exit code is one of `ok`, and at its `timeout`; when all have, ProcessFailed. `env`
        comes on top of the worker's own environment, with STEPSTREAM_RUN, STEPSTREAM_STEP and STEPSTREAM_ATTEMPT.

        Nothing of it outlives the step. When the command has ended, at its timeout, when the run is cancelled, when the
        worker stops, dies (kill -9 too) or loses its lease, whatever is left of it gets SIGTERM, and SIGKILL 2 s later.
        """
