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
import copy
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload
from weakref import WeakKeyDictionary

from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import Payload, Sendable
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.settings import Settings, read
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import milliseconds, moment_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Sent
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.read.run.recording import Recording, record
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.testing.fake import fake
from stepstream.consumers.testing.replay import Replayed, replayed
from stepstream.consumers.testing.rest import busy, is_due, next_due, next_timer
from stepstream.consumers.testing.scratch import scratch
from stepstream.consumers.testing.seen import Seen, Which
from stepstream.consumers.testing.stubs import NOTHING, StepStubs
from stepstream.consumers.worker import Worker

E = TypeVar("E")
_LOOK_EVERY_S = 0.005
_connected: "WeakKeyDictionary[Bus[Any], list[Wire]]" = WeakKeyDictionary()
"""The harnesses that each application is in now, the last one last: `app.send` goes there."""


class Harness(Seen):
    """One application and one worker for it, on a server of its own.

    `url` is a real server, which must hold no application (`flush=True` empties it first). `at` is where the clock
    begins, now by default. `within` (seconds) bounds every wait.
    `server="fake"` is one made of Python (fakeredis), where no other can run; docs/testing.md says what it is not.
    `tracer_provider` is one of OpenTelemetry's SDK: it is told what runs do, as a worker's is (docs/tracing.md).
    """

    def __init__(
        self,
        *buses: Bus[Any],
        url: str | None = None,
        flush: bool = False,
        at: datetime | None = None,
        concurrency: int = 20,
        within: float = 10.0,
        server: Literal["valkey", "fake"] = "valkey",
        tracer_provider: Any | None = None,
    ) -> None:
        if server == "fake" and url is not None:
            raise ConfigError(f"the harness is given url {url} and server='fake'; give one of them")
        super().__init__([function for bus in buses for function in bus.functions.values()])
        self.notices: list[Noticed] = []
        """What the worker told of: warnings, mostly."""
        self._buses = buses
        self._url = url
        self._server = fake if server == "fake" else scratch
        self._flush = flush
        self._now = moment_ms(at, "at") if at is not None else now_ms()
        self._begun_at = 0
        """The time at which something was sent or called last, ms."""
        self._concurrency = concurrency
        self._within = within
        self._tracer_provider = tracer_provider
        self._stubs = StepStubs()
        self._stack = contextlib.AsyncExitStack()
        self._wire: Wire
        self._sender: Bus[Any]
        self._worker: Worker
        self._working: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Start the server, where none is given, and the worker."""
        async with contextlib.AsyncExitStack() as stack:
            url = self._url or stack.enter_context(self._server())
            # The environment's prefix and codec: the site or a publisher of the same process may have read them.
            own = read()[0]
            settings = Settings(redis_url=url, drain_ms=2_000, prefix=own.prefix, codec=own.codec)
            self._wire = Wire(settings, "harness")
            self._sender = copy.copy(self._buses[0])  # which may be in another harness too
            self._sender.connect(self._wire)
            stack.push_async_callback(self._wire.close)
            await self._make_empty()
            signals = Signals()
            signals.noticed.listen(self.notices.append)
            self._worker = Worker(
                *self._buses,
                settings=settings,
                concurrency=self._concurrency,
                signals=signals,
                tracer_provider=self._tracer_provider,
                now_ms=self._now,
                stubs=self._stubs,
            )
            stack.callback(self._disconnect)
            self._working = asyncio.create_task(self._worker.run())
            stack.push_async_callback(self._stop)
            ready = asyncio.create_task(self._worker.ready.wait())
            await asyncio.wait({self._working, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if self._working.done():
                await self._working
            self._wire.now = str(self._now)
            for bus in self._buses:
                _connected.setdefault(bus, []).append(self._wire)
                bus.connect(self._wire)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the worker and the server."""
        await self._stack.__aexit__(kind, error, trace)

    def _disconnect(self) -> None:
        """Let `app.send` go to the harness that the application is in besides, or where its settings say."""
        for bus in self._buses:
            others = [wire for wire in _connected.pop(bus, []) if wire is not self._wire]
            if others:
                _connected[bus] = others
                bus.connect(others[-1])
            else:
                bus.disconnect()

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

    @overload
    def stub(
        self, step: str, result: object = NOTHING, *, raises: Exception | None = None, times: int | None = None
    ) -> None: ...
    @overload
    def stub(
        self, step: str, *, call: Callable[[Any], object], raises: Exception | None = None, times: int | None = None
    ) -> None: ...
    @overload
    def stub(
        self,
        step: str,
        *,
        call: Callable[[Any, Any], object],
        raises: Exception | None = None,
        times: int | None = None,
    ) -> None: ...
    @overload
    def stub(
        self,
        step: str,
        *,
        call: Callable[[Any, Any, Any], object],
        raises: Exception | None = None,
        times: int | None = None,
    ) -> None: ...
    @overload
    def stub(
        self, step: str, *, call: Callable[..., object], raises: Exception | None = None, times: int | None = None
    ) -> None: ...
    def stub(
        self,
        step: str,
        result: object = NOTHING,
        *,
        raises: Exception | None = None,
        times: int | None = None,
        call: Callable[..., object] | None = None,
    ) -> None:
        """Replace a step's body, in every function: what it returns, what it raises, or what is called with its
        arguments. With `times` it raises that often; then it gives its result, or else runs the body.

        It is for `step.run`, `step.subprocess`, `step.fetch` and `step.invoke`. The handler gets the result as the type
        that the replaced body is annotated with; a result that does not fit fails the step.
        """
        self._stubs.add(step, result, raises, times, call)

    @property
    def unused_stubs(self) -> list[str]:
        """The stubs that no step has asked for: `assert not bus.unused_stubs` finds an id that is misspelt."""
        return self._stubs.unused

    async def send(
        self,
        event: str | Sendable,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: float | str | timedelta | None = None,
        at: datetime | None = None,
    ) -> Sent:
        """Publish an event, as `app.send` does, and let its runs come to rest; return its id.

        One that is for later (`delay`, or `at` an aware datetime) comes when the clock is moved there.
        """
        self._tick()
        sent = await self._sender.send(event, data, id=id, delay=delay, at=at)
        await self.idle()
        return sent

    async def invoke(self, function: Function[E, Any] | str, data: E | Mapping[str, Any] | None = None) -> str:
        """Run a function without an event and let the run come to rest; return its id."""
        self._tick()
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
        self._tick()
        new = await rerun(self._wire, run, from_step, beside=True)
        await self.idle()
        return new

    async def replay(self, recording: str | Path | Recording) -> Replayed:
        """Call the handler of a recorded run (`bus run ID --export`) with what it has done; nothing new is done."""
        return await replayed(self._buses, recording)

    async def record(self, which: Which = None) -> Recording:
        """Return a run as `bus run ID --export` does, to be replayed; `which` as `run` takes it."""
        return await record(self._wire, (await self.run(which)).id)

    @property
    def now(self) -> int:
        """The clock, Unix ms."""
        return self._now

    async def advance(self, duration: float | str | timedelta) -> None:
        """Move the clock, stopping at whatever falls due on the way, and let all come to rest."""
        await self._move_on(self._now + milliseconds(duration, "advance"))

    async def at(self, moment: datetime) -> None:
        """Move the clock to a moment (an aware datetime), as `advance` does; it moves forth only."""
        until = moment_ms(moment, "at")
        if until < self._now:
            shown = datetime.fromtimestamp(self._now / 1_000, UTC).isoformat(timespec="seconds")
            raise ConfigError(f"at {moment.isoformat()} is before the harness's clock, {shown}; it moves forth only")
        await self._move_on(until)

    def _tick(self) -> None:
        """Let a millisecond pass if something has begun at this one: what is begun first is first, everywhere."""
        if self._begun_at == self._now:
            self._set_clock(self._now + 1)
        self._begun_at = self._now

    def _set_clock(self, ms: int) -> None:
        self._now = ms
        self._wire.now = str(ms)
        self._worker.set_clock(ms)

    async def _move_on(self, until: int) -> None:
        await self.idle()
        while True:
            due = await next_due(self._wire, self._functions, self._now)
            at = until if due is None else min(max(due, self._now), until)
            await self._move(at)
            if at >= until and (due is None or due > until or not await is_due(self._wire, self._functions, self._now)):
                return

    async def finish(self) -> None:
        """Move the clock from due to due until no run waits, at most a year; schedules do not tick meanwhile."""
        until = self._now + 367 * 86_400_000
        await self.idle()
        while (due := await next_timer(self._wire, self._functions)) is not None and due <= until:
            await self._move(max(due, self._now))

    async def _move(self, ms: int) -> None:
        self._set_clock(ms)
        await self._worker.look_at_clock()
        await self.idle()

    # -- at rest ----------------------------------------------------------------------------------------------------

    async def idle(self) -> None:
        """Wait until nothing runs and nothing is on its way: every run has ended, or waits."""
        until = time.monotonic() + self._within
        calm = 0
        while calm < 2:
            if self._working.done():
                raise AssertionError("the worker has ended; leave the harness to see why")
            is_busy = await busy(self._wire, self._functions)
            calm = 0 if is_busy else calm + 1
            if is_busy and time.monotonic() > until:
                told = "; ".join(f"{notice.event} {notice.fields}" for notice in self.notices[-3:])
                raise AssertionError(f"not at rest within {self._within} s: {is_busy}; the worker says: {told}")
            await asyncio.sleep(_LOOK_EVERY_S)
