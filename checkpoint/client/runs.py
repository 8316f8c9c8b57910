"""Runs: `app.runs` looks at runs, waits for them and acts on them; `app.runs_sync` does the same in threads."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, overload

from stepstream.bus.bus import Bus
from stepstream.bus.encryption.sealing import opened
from stepstream.bus.errors import ConfigError, RunFailed, RunNotFound, RunUnfinished
from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.values.durations import milliseconds, moment_ms
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.blobs.keeping import brought
from stepstream.checkpoint.read.lists.runs import Page, list_runs, statuses_of
from stepstream.checkpoint.read.run.bringing import run_whole, steps_whole
from stepstream.checkpoint.read.run.find import get, wait_for_end
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.registry import function_of, functions
from stepstream.checkpoint.run.record import Run

T = TypeVar("T")
Duration = float | str | timedelta

_FOR_EVER_S = 366 * 86_400.0


class Runs:
    """The runs of the installation an application belongs to: `await app.runs.result(id)`."""

    def __init__(self, bus: Bus[Any]) -> None:
        self._bus = bus

    async def get(self, id: str) -> Run:
        """Return a run; one that nobody has started yet is `queued`.

        Raises RunNotFound; CannotOpen when its event or output is encrypted and this process cannot open that; BlobGone
        or StoreUnfit when one is large and cannot be read from its store.
        """
        return (await run_whole(self._bus.wire, await get(self._bus.wire, id))).opened()

    async def list(
        self,
        *,
        function: Function[Any, Any] | str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of runs, newest first, without event, output and error; `cursor` is that of the page before.

        Without `function` (one of the application, or a slug) of all that are registered. `since` and `until` bound
        when they were queued. Raises FunctionNotFound, or BadRequest for an unknown status or cursor.
        """
        if not 1 <= limit <= 1_000:
            raise ConfigError(f"limit must be from 1 to 1000, got {limit}")
        wire, statuses = self._bus.wire, statuses_of(status)
        if function is None:
            slugs = [one.slug for one in await functions(wire)]
        else:
            slugs = [(await function_of(wire, function if isinstance(function, str) else function.slug)).slug]
        return await list_runs(
            wire,
            slugs,
            statuses,
            limit=limit,
            cursor=cursor,
            since=None if since is None else moment_ms(since, "since"),
            until=None if until is None else moment_ms(until, "until"),
        )

    async def steps(self, id: str) -> Sequence[StepView]:
        """Return a run's steps, finished and open, in the order in which they began.

        Raises RunNotFound; CannotOpen, BlobGone and StoreUnfit as `get`.
        """
        found = await steps(self._bus.wire, (await get(self._bus.wire, id)).function, id)
        return [one.opened() for one in await steps_whole(self._bus.wire, found)]

    @overload
    async def result(self, id: str, *, timeout: Duration | None = None) -> Any: ...  # noqa: ASYNC109 - as step.invoke has it
    @overload
    async def result(self, id: str, *, timeout: Duration | None = None, type: type[T]) -> T: ...  # noqa: ASYNC109 - as step.invoke has it
    async def result(self, id: str, *, timeout: Duration | None = None, type: Any = None) -> Any:  # noqa: ASYNC109 - as step.invoke has it
        """Wait for a run's end and return what it returned, plain or as a `type`.

        Raises RunFailed when it ended otherwise (`error` says why, `status` how), RunUnfinished when it has not ended
        after `timeout` (None: it waits for ever), RunNotFound; BlobGone or StoreUnfit for a large result that cannot be
        read from its store, CannotOpen for an encrypted one. It looks 4 times a second, as `bus invoke` does.
        """
        await get(self._bus.wire, id)  # one that is not there would be waited for
        wire = self._bus.wire
        seconds = _FOR_EVER_S if timeout is None else milliseconds(timeout, "timeout") / 1_000
        ended = await wait_for_end(wire, id, seconds, patience=wire.settings.timeout_ms / 1_000)
        if ended is None:
            raise RunNotFound(id)
        if not ended.has_ended:
            raise RunUnfinished(id, ended.status)
        if ended.status != "completed":
            error = ended.error
            name, message, stack = (error.name, error.message, error.stack) if error else ("", ended.why, "")
            raise RunFailed(id, ended.function, ended.status, name, message, stack)
        output = b"null" if ended.output is None else opened(await brought(wire, bytes(ended.output)))
        return codec.decode(output) if type is None else codec.decode_as(output, type)

    async def cancel(self, id: str, why: str = "cancelled by the application") -> Literal["cancelled", "asked"]:
        """Cancel a run: `asked` when a worker has it, which ends it within a second or two.

        Raises RunNotFound, or HasEnded when it is too late.
        """
        return await cancel_now(self._bus.wire, id, why)

    async def rerun(self, id: str, *, from_step: str = "", request: str = "", beside: bool = False) -> str:
        """Run again for the same event; return the new run's id. `from_step` keeps the results of the steps before it.

        The same `request` (an id of yours) makes the same run, however often it is repeated. Raises RunNotFound,
        StepNotFound, NotBegun when there is no event to run again for, or NotEnded while it goes on, unless the new one
        may go on `beside` it.
        """
        return await rerun(self._bus.wire, id, from_step, request, beside=beside)


class RunsSync:
    """What Runs does, for code without an event loop: `app.runs_sync.result(id)`."""

    def __init__(self, bus: Bus[Any], runs: Runs) -> None:
        self._bus = bus
        self._runs = runs

    def get(self, id: str) -> Run:
        """Return a run, as Runs.get does."""
        return self._bus.sync(lambda: self._runs.get(id), "app.runs_sync.get", "app.runs.get")

    def list(
        self,
        *,
        function: Function[Any, Any] | str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of runs, as Runs.list does."""
        return self._bus.sync(
            lambda: self._runs.list(
                function=function, status=status, since=since, until=until, limit=limit, cursor=cursor
            ),
            "app.runs_sync.list",
            "app.runs.list",
        )

    def steps(self, id: str) -> Sequence[StepView]:
        """Return a run's steps, as Runs.steps does."""
        return self._bus.sync(lambda: self._runs.steps(id), "app.runs_sync.steps", "app.runs.steps")

    @overload
    def result(self, id: str, *, timeout: Duration | None = None) -> Any: ...
    @overload
    def result(self, id: str, *, timeout: Duration | None = None, type: type[T]) -> T: ...
    def result(self, id: str, *, timeout: Duration | None = None, type: Any = None) -> Any:
        """Wait for a run's end and return what it returned, as Runs.result does."""
        return self._bus.sync(
            lambda: self._runs.result(id, timeout=timeout, type=type), "app.runs_sync.result", "app.runs.result"
        )

    def cancel(self, id: str, why: str = "cancelled by the application") -> Literal["cancelled", "asked"]:
        """Cancel a run, as Runs.cancel does."""
        return self._bus.sync(lambda: self._runs.cancel(id, why), "app.runs_sync.cancel", "app.runs.cancel")

    def rerun(self, id: str, *, from_step: str = "", request: str = "", beside: bool = False) -> str:
        """Run again, as Runs.rerun does."""
        return self._bus.sync(
            lambda: self._runs.rerun(id, from_step=from_step, request=request, beside=beside),
            "app.runs_sync.rerun",
            "app.runs.rerun",
        )
