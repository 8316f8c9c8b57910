"""Harness: an application under test: a worker, a server, and a clock that stands still until it is moved.

    async with Harness(app) as bus:
        bus.stub("charge", {"receipt": 7})
        await bus.send(OrderPaid(order_id="o1"))
        await bus.advance("14d")
        assert await bus.output() == {"label": "l1"}

Everything is real but time and the stubbed steps: unless a url is given, the server is one of this process's own.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.event import Event, NewEvent, Payload
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.settings import Settings, read
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import milliseconds, moment_ms
from stepstream.bus.values.ids import entry_place
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import event_of, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.read.find import find
from stepstream.checkpoint.read.listing import list_runs, whole
from stepstream.checkpoint.read.steps import StepView, steps
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.testing.scratch import scratch
from stepstream.consumers.worker import Worker

E = TypeVar("E")
Stub = Callable[..., Any]
_LOOK_EVERY_S = 0.005


class Harness:
    """One application and one worker for it, on a server of its own.

    `url` is a real server, which must hold no application (`flush=True` empties it first). `at` is where the clock
    begins, now by default; what is published keeps its real time, so in a past waits for events see nothing. `within`
    (seconds) bounds every wait.
    """

    def __init__(
        self,
        *buses: Bus,
        url: str | None = None,
        flush: bool = False,
        at: datetime | None = None,
        concurrency: int = 20,
        within: float = 10.0,
    ) -> None:
        self.notices: list[Noticed] = []
        """What the worker told of: warnings, mostly."""
        self._buses = buses
        self._url = url
        self._flush = flush
        self._now = moment_ms(at, "at") if at is not None else now_ms()
        self._concurrency = concurrency
        self._within = within
        self._stubs: dict[str, Stub] = {}
        self._stack = contextlib.AsyncExitStack()
        self._wire: Wire
        self._worker: Worker
        self._working: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Start the server, where none is given, and the worker."""
        async with contextlib.AsyncExitStack() as stack:
            url = self._url or stack.enter_context(scratch())
            # The environment's prefix: the site or a publisher of the same process may have read it.
            settings = Settings(redis_url=url, drain_ms=2_000, prefix=read()[0].prefix)
            self._wire = Wire(settings, "harness")
            stack.push_async_callback(self._wire.close)
            await self._make_empty()
            signals = Signals()
            signals.noticed.listen(self.notices.append)
            self._worker = Worker(
                *self._buses,
                settings=settings,
                concurrency=self._concurrency,
                signals=signals,
                now_ms=self._now,
                stubs=self._stubs,
            )
            self._working = asyncio.create_task(self._worker.run())
            stack.push_async_callback(self._stop)
            ready = asyncio.create_task(self._worker.ready.wait())
            await asyncio.wait({self._working, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if self._working.done():
                await self._working
            self._wire.now = str(self._now)
            for bus in self._buses:
                bus.connect(self._wire)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the worker and the server."""
        await self._stack.__aexit__(kind, error, trace)

    async def _stop(self) -> None:
        # Not a task group around the test: what the test raises must arrive as it is.
        self._worker.stop()
        await asyncio.wait({self._working})
        if not self._working.cancelled() and (error := self._working.exception()) is not None:
            raise error

    async def _make_empty(self) -> None:
        if self._flush or self._url is None:
            await self._wire.call("FLUSHDB")
        elif await self._wire.call("EXISTS", keys.functions()):
            raise ConfigError(
                f"{self._url} holds an application already; give the harness an empty server, or flush=True"
            )

    # -- what happens to the application ----------------------------------------------------------------------------

    def stub(self, step: str, result: Any = None, *, raises: Exception | None = None, call: Stub | None = None) -> None:
        """Let a step's body be replaced, in every function: return `result`, raise, or call something else."""

        def body(*args: Any) -> Any:
            if raises is not None:
                raise raises
            return call(*args) if call is not None else result

        self._stubs[step] = body

    async def send(
        self,
        event: str | Payload | NewEvent,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
    ) -> str:
        """Publish an event and let its runs come to rest; return its id."""
        sent = await self._buses[0].send(event, data, id=id)
        await self.idle()
        return sent

    async def invoke(self, function: Function[E, Any] | str, data: E | Mapping[str, Any] | None = None) -> str:
        """Run a function without an event and let the run come to rest; return its id."""
        run = await invoke(self._wire, function if isinstance(function, str) else function.slug, data)
        await self.idle()
        return run

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; return whether a run waited for it."""
        heard = await send_signal(self._wire, name, data) is not None
        await self.idle()
        return heard

    async def cancel(self, run: str, why: str = "cancelled by a test") -> None:
        """Cancel a run."""
        await cancel(self._wire, run, why)
        await self.idle()

    async def rerun(self, run: str, from_step: str = "") -> str:
        """Run again, whole or from a step on; return the new run's id."""
        new = await rerun(self._wire, run, from_step)
        await self.idle()
        return new

    @property
    def now(self) -> int:
        """The clock, Unix ms."""
        return self._now

    async def advance(self, duration: float | str | timedelta) -> None:
        """Move the clock, stopping at whatever falls due on the way, and let all come to rest."""
        until = self._now + milliseconds(duration, "advance")
        await self.idle()
        while True:
            due = await self._next_due()
            at = until if due is None else min(max(due, self._now), until)
            await self._move(at)
            if at >= until and (due is None or due > until or not await self._is_due()):
                return

    async def finish(self) -> None:
        """Move the clock from due to due until no run waits, at most a year; schedules do not tick meanwhile."""
        until = self._now + 367 * 86_400_000
        await self.idle()
        while (due := await self._next_timer()) is not None and due <= until:
            await self._move(max(due, self._now))

    async def _move(self, ms: int) -> None:
        self._now = ms
        self._wire.now = str(ms)
        await self._worker.jump(ms)
        await self.idle()

    async def _next_timer(self) -> int | None:
        firsts = await asyncio.gather(
            *(self._wire.call("ZRANGE", keys.timers(slug), 0, 0, "WITHSCORES") for slug in self._slugs())
        )
        dues = [int(float(first[1])) for first in firsts if first]
        return min(dues, default=None)

    async def _next_due(self) -> int | None:
        timer = await self._next_timer()
        ticks = [cron.next_after(self._now) for bus in self._buses for f in bus.functions.values() for cron in f.crons]
        return min([*([timer] if timer is not None else []), *ticks], default=None)

    async def _is_due(self) -> bool:
        counts = await asyncio.gather(
            *(self._wire.call("ZCOUNT", keys.timers(slug), "-inf", self._now) for slug in self._slugs())
        )
        return any(counts)

    # -- what came of it --------------------------------------------------------------------------------------------

    async def runs(self, function: Function | str | None = None) -> list[Run]:
        """Return the runs, oldest first."""
        slug = function.slug if isinstance(function, Function) else function
        slugs = self._slugs() if slug is None else [slug]
        page = await list_runs(self._wire, slugs, limit=1_000)
        return (await whole(self._wire, page.runs))[::-1]

    async def run(self, run: str | None = None) -> Run:
        """Return a run by its id; without one, the only run there is."""
        if run is not None:
            found = await find(self._wire, run)
            if found is None:
                raise AssertionError(f"there is no run {run}")
            return found
        runs = await self.runs()
        if len(runs) != 1:
            raise AssertionError(f"there are {len(runs)} runs: {[f'{one.function} {one.status}' for one in runs]}")
        return runs[0]

    async def output(self, run: str | None = None) -> Any:
        """Return what a run returned; AssertionError with its error when it has not completed."""
        found = await self.run(run)
        if found.status != "completed":
            error = f": {found.error.told()}" if found.error else ""
            raise AssertionError(f"run {found.id} of {found.function} is {found.status}{error}")
        return codec.decode(found.output) if found.output is not None else None

    async def steps(self, run: str | None = None) -> dict[str, StepView]:
        """Return a run's steps by id, in the order in which they began."""
        found = await self.run(run)
        return {step.id: step for step in await steps(self._wire, found.function, found.id)}

    async def events(self, name: str) -> list[Event[Any]]:
        """Return the events published under a name, oldest first."""
        rows = await self._wire.call("XRANGE", keys.events(name), "-", "+")
        return [event_of(name, entry.decode(), fields_of(flat)).typed(None) for entry, flat in rows]

    async def idle(self) -> None:
        """Wait until nothing runs and nothing is on its way: every run has ended, or waits."""
        until = time.monotonic() + self._within
        calm = 0
        while calm < 2:
            if self._working.done():
                raise AssertionError("the worker has ended; leave the harness to see why")
            busy = await self._busy()
            calm = 0 if busy else calm + 1
            if busy and time.monotonic() > until:
                told = "; ".join(f"{notice.event} {notice.fields}" for notice in self.notices[-3:])
                raise AssertionError(f"not at rest within {self._within} s: {busy}; the worker says: {told}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _busy(self) -> str:
        """Return what is not at rest, in words; empty when all is."""
        for slug in self._slugs():
            if count := await self._wire.call("ZCARD", keys.runs(slug, "running")):
                return f"{count} runs of {slug} are running"
            for stream in (keys.queue(slug), keys.ends(slug)):
                if await self._wire.call("XLEN", stream):
                    return f"{stream} has entries"
            if await self._wire.call("ZCARD", keys.ready(slug)):  # who waits for a limit that is full is at rest
                return f"runs of {slug} are about to start"
        names: Sequence[bytes] = await self._wire.call("ZRANGE", keys.event_names(), 0, -1)
        for name in names:
            stream = keys.events(name.decode())
            try:
                last = fields_of(await self._wire.call("XINFO", "STREAM", stream))[b"last-generated-id"]
                groups = await self._wire.call("XINFO", "GROUPS", stream)
            except BusError:  # not there yet
                continue
            for flat in groups:
                group = fields_of(flat)
                if group[b"pending"] or entry_place(group[b"last-delivered-id"].decode()) < entry_place(last.decode()):
                    return f"{name.decode()} has events that {group[b'name'].decode()} has not done with"
        return ""

    def _slugs(self) -> list[str]:
        return [function.slug for bus in self._buses for function in bus.functions.values()]
