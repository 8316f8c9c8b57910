"""Worker: one process that runs functions: it gets ready, works, drains, and leaves."""

import asyncio
import contextlib
import math
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError, ConfigError, StoreUnavailable
from stepstream.bus.observe.otel import tracing_of
from stepstream.bus.observe.signals import RedisFailed, Signals
from stepstream.bus.observe.stdlib import tag_records
from stepstream.bus.settings import Settings, read
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.doctor import at_boot, refuse
from stepstream.bus.wire.leases import Lease, Leases
from stepstream.bus.wire.streams import leave_group
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import check_format
from stepstream.checkpoint.run.uncharge import uncharge
from stepstream.consumers.assembly import Assembly
from stepstream.consumers.choice import driver_of
from stepstream.consumers.delivery.connections import ReaderConnections
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.failing import tell
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.holdings import Holdings
from stepstream.consumers.standing import Standing, standing
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.services import Stubs
from stepstream.consumers.upkeep.controls import look_once
from stepstream.consumers.upkeep.upkeep import Upkeep

LAST_S = 3.0
"""How long after BUS_DRAIN run() takes at most: to end commands, give back what is left, and be told so."""
_THREADS_S = 2.0
"""How much of it bodies in threads get."""


def _check(buses: Sequence[Bus]) -> None:
    """Raise ConfigError where there is nothing to run, or a function twice."""
    if not buses or not any(bus.functions for bus in buses):
        raise ConfigError("there is nothing to work on: no function is declared on the given bus")
    slugs = Counter(function.slug for bus in buses for function in bus.functions.values())
    twice = sorted(slug for slug, count in slugs.items() if count > 1)
    if twice:
        raise ConfigError(f"two of the given buses have a function '{twice[0]}'; give one bus another id")


class Worker:
    """Runs the functions of buses: `await Worker(app).run()`, until stop()."""

    def __init__(
        self,
        *buses: Bus,
        settings: Settings | None = None,
        concurrency: int = 100,
        signals: Signals | None = None,
        tracer_provider: Any | None = None,
        now_ms: int | None = None,
        stubs: Stubs | None = None,
    ) -> None:
        """Make a worker. For tests (Harness): `now_ms` is a clock that stands still, `stubs` replace steps' bodies.

        It makes spans of what it does by `tracer_provider` (of OpenTelemetry's SDK), or by the one that the process has
        been given; where there is none, nothing is made.
        """
        _check(buses)
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}")
        self.settings = settings or read()[0]
        self.signals = signals or Signals()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self.left = 0
        """How many entries were still in hand when the time of the drain was over."""
        self.drains = asyncio.Event()
        """Somebody has told it, by way of Redis, to drain; it stops."""
        self.stuck: set[Lease] = set()
        """The leases of what a thread still did when the drain was over: they are left to run out."""
        fields = (path for bus in buses for function in bus.functions.values() for path in function.redacted)
        self._tracing = tracing_of(tracer_provider, self.settings.redact, fields)
        self._now = "" if now_ms is None else str(now_ms)
        self._stubs = stubs
        self._buses = buses
        self._slots = Slots(concurrency)
        self._stop = asyncio.Event()
        self._until = math.inf
        """By when it must have drained, monotonic s; one that retires has all the time."""
        self._draining: list[anyio.CancelScope] = []
        self._wire: Wire
        self._assembly: Assembly | None = None
        self._upkeep: Upkeep | None = None
        self._tasks: TaskGroup | None = None

    def stop(self) -> None:
        """Read no more, finish or suspend what is in hand within BUS_DRAIN, give the rest back, and end run()."""
        self._until = min(self._until, time.monotonic() + self.settings.drain_ms / 1_000)
        for scope in self._draining:  # it had retired, and had time
            scope.deadline = anyio.current_time() + self._until - time.monotonic()
        self._stop.set()

    def retire(self) -> None:
        """Read no more, finish what is in hand however long that takes, and end run(): others go on from there."""
        self._stop.set()

    def stands(self) -> Standing:
        """Return how it stands at the moment; any thread may ask."""
        return standing(self._slots, stops=self._stop.is_set(), is_ready=self.ready.is_set(), assembly=self._assembly)

    def set_clock(self, now_ms: int) -> None:
        """Set the clock of a worker that was given one."""
        self._now = self._wire.now = str(now_ms)

    async def look_at_clock(self) -> None:
        """Fire the timers and schedules that are due since the clock was set."""
        if self._upkeep is not None:
            await self._upkeep.jump()

    async def run(self) -> None:
        """Work until stop(). Enters each bus's lifespan once; waits for Redis as long as it takes."""
        idle_detection.install(asyncio.get_running_loop())
        tag_records()
        wire = self._wire = Wire(self.settings, self.name, self.signals.notice)
        wire.open_blobs()
        wire.now = self._now
        _tell_of_redis(wire, self.signals)
        leases = Leases(self.settings, self.name, self._lost, self._clock_set, wire.trouble.met, self.signals)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._unless_stopped(self._examine())
                await self._unless_stopped(check_format(wire))
                assembly = Assembly(wire, self.signals, leases, self._slots, self.name, self._stubs, self._tracing)
                self._assembly = assembly
                stack.push_async_callback(assembly.services.fetcher.close)
                await self._unless_stopped(patiently(lambda: assembly.subscriptions.look(wire)))
                for bus in self._buses:
                    await self._get_ready(bus, assembly, stack)
                await self._unless_stopped(look_once(wire, self.signals, assembly.feeds))
                await self._unless_stopped(
                    ReaderConnections(wire, self.signals, assembly.feeds.readers, len(assembly.functions)).take()
                )
                holdings = Holdings(self._slots.total, assembly.functions, assembly.executors, self._stop.is_set)
                leases.telling.look = holdings.look
                leases.start()
                await self._work(assembly)
        finally:
            with anyio.CancelScope(shield=True):  # also when run() is cancelled: no socket is left open
                await leases.stop()
                await self._leave()
                await wire.close()

    # -- getting ready ----------------------------------------------------------------------------------------------

    async def _unless_stopped(self, work: Any) -> None:
        """Do what waits for Redis, or give it up when told to stop."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            raise StoreUnavailable("stopped before Redis answered")
        await doing

    async def _examine(self) -> None:
        """Refuse a server that would lose work; warn of what may."""
        try:
            findings = await patiently(lambda: at_boot(self._wire))
        except BusError as error:  # this user may not ask
            self.signals.notice("whether this Redis is fit could not be seen", error=str(error))
            return
        for finding in refuse(findings):
            self.signals.notice(f"{finding.check}: {finding.found}", do=finding.do)

    async def _get_ready(self, bus: Bus, assembly: Assembly, stack: contextlib.AsyncExitStack) -> None:
        bus.connect(self._wire)
        if not bus.functions:
            self.signals.notice("a bus has no function: nothing of it runs", bus=bus.id)
        state = await stack.enter_async_context(bus.lifespan()) if bus.lifespan else None
        driver = driver_of(bus, state, self._wire.settings)
        stack.push_async_callback(driver.close)
        executor = assembly.add_executor(driver)
        stack.callback(executor.close)
        await self._unless_stopped(assembly.add_functions(executor, list(bus.functions.values())))

    # -- at work ----------------------------------------------------------------------------------------------------

    async def _work(self, assembly: Assembly) -> None:
        functions, alarms = assembly.functions, assembly.alarms
        upkeep = Upkeep(self._wire, self.signals, functions, assembly.feeds, alarms, self.drains)
        self._upkeep = upkeep
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            assembly.start(tasks)
            upkeep.start(tasks)
            tasks.start_soon(self._drain_when_told)
            self.ready.set()
            await self._stop.wait()
            await self._drain(assembly, upkeep)
            tasks.cancel_scope.cancel()

    async def _drain_when_told(self) -> None:
        await self.drains.wait()
        self.stop()

    def _clock_set(self, by_ms: int) -> None:
        """Tell that the server's clock was set; what is due is due by that clock."""
        self.signals.notice(
            "the server's clock was set; what is due is due by its new time",
            by=f"{in_words(abs(by_ms))} {'forth' if by_ms > 0 else 'back'}",
        )
        if self._upkeep is not None:
            self._upkeep.look_at_clock()

    def _lost(self, leases: dict[Lease, str]) -> None:
        """What is in hand under these consumer names is another worker's by now: give it up, and tell Redis nothing."""

        def is_lost(delivery: Delivery) -> bool:
            return delivery.consumer == leases.get(delivery.feed.lease)

        assert self._assembly is not None
        for executor in self._assembly.executors:
            executor.abandon(is_lost)
        lost = self._assembly.exits.lose(self._assembly.feeds, is_lost)
        self.signals.notice(
            "a lease was lost; what was in hand under it is left to others",
            slots=[lease.workers_key for lease in leases][:5],
            leases=len(leases),
            entries=len(lost),
        )
        if self._tasks is not None:
            self._tasks.start_soon(_uncharge, self._wire, self.signals, lost)

    # -- ending -----------------------------------------------------------------------------------------------------

    async def _drain(self, assembly: Assembly, upkeep: Upkeep) -> None:
        """Stop reading; finish or suspend; give back what is left, but for what a thread does to the last."""
        executors, feeds, exits = assembly.executors, assembly.feeds, assembly.exits
        upkeep.wind_down()
        await asyncio.gather(*(reader.stop() for reader in feeds.readers))
        with self._in_time():
            await assembly.settled()
        with self._in_time():
            for executor in executors:
                executor.give_back_waiting()
            await self._slots.wait_idle()
            for executor in executors:
                await executor.settled()
            await assembly.courier.settled()
            await exits.settled()
        self.left = sum(len(feed.in_hand) for feed in feeds)
        found = await asyncio.gather(*(executor.wind_up(_THREADS_S) for executor in executors))
        stuck = [delivery for some in found for delivery in some]
        self.stuck = {delivery.feed.lease for delivery in stuck}
        with anyio.move_on_after(max(0.0, self._until + LAST_S - time.monotonic())):
            await _uncharge(self._wire, self.signals, stuck)
            for executor in executors:
                await executor.settled()
            for feed in feeds:
                for delivery in tuple(feed.in_hand.values()):
                    exits.leave(delivery, "given back")
            await exits.settled()

    @contextlib.contextmanager
    def _in_time(self) -> Generator[None]:
        """Give up what takes longer than the drain may."""
        with anyio.move_on_after(max(0.0, self._until - time.monotonic())) as scope:
            self._draining.append(scope)
            try:
                yield
            finally:
                self._draining.remove(scope)

    async def _leave(self) -> None:
        """End our leases and remove our consumers, so that nothing of us is left to look at."""
        feeds = self._assembly.feeds if self._assembly is not None else ()
        with anyio.move_on_after(2.0, shield=True):
            for feed in feeds:
                lease = feed.lease
                if lease in self.stuck:  # what a thread does under it must not begin elsewhere at once
                    continue
                try:
                    await leave_group(self._wire, feed.stream, feed.workers_key, feed.group, lease.consumer)
                except BusError:
                    return
            try:
                await self._wire.call("ZREM", keys.workers(), self.name)
                if not self.stuck:
                    await self._wire.call("DEL", keys.worker(self.name))
            except BusError:
                return


async def _uncharge(wire: Wire, signals: Signals, lost: list[Delivery]) -> None:
    """A worker was only slow, or told to stop: the runs it had in hand are not charged with its death."""
    runs: dict[tuple[str, str], list[str]] = {}
    for delivery in lost:
        if delivery.run:
            runs.setdefault((delivery.feed.function.slug, delivery.consumer), []).append(delivery.run)
    for (slug, consumer), held in runs.items():
        try:
            await uncharge(wire, slug, consumer, held)
        except BusError as error:
            tell(signals, "taking back crashes failed", error, function=slug)


def _tell_of_redis(wire: Wire, signals: Signals) -> None:
    """Let who listens know what becomes of the connections."""
    if signals.redis_failed:
        wire.trouble.failed = lambda state: signals.redis_failed.send(RedisFailed(state))
    if signals.connection_opened:
        wire.trouble.opened = lambda: signals.connection_opened.send(None)


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[Worker]:
    """Run a worker beside other code, and stop it at the end: `async with running(Worker(app)):`."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.ready.wait()
        try:
            yield worker
        finally:
            worker.stop()
