"""Worker: composes the loops of one process, and ends them in order when it is told to stop."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from bus.bus import Bus
from bus.errors import BusError, ConfigError, StoreUnavailable
from bus.function import Function
from bus.observe.signals import Signals
from bus.settings import Settings, read
from bus.wire import keys
from bus.wire.fitness import at_boot, refuse
from bus.wire.leases import Lease, Leases
from bus.wire.registry import check_format, register
from bus.wire.retry import patiently
from bus.wire.streams import Publisher, ensure_group
from bus.wire.wire import Wire
from checkpoint.waits import GROUP as WAITS
from consumers import quiet
from consumers.acks import Taker
from consumers.arrivals import Arrivals
from consumers.cancels import Cancels, group
from consumers.capacity import Capacity
from consumers.claimer import Claimer
from consumers.courier import Courier
from consumers.delivery import Delivery, Source
from consumers.executor import Executor
from consumers.heard import Heard
from consumers.intake import Intake
from consumers.names import Names
from consumers.popper import Popper
from consumers.reader import Reader
from consumers.repair import Repair
from consumers.shared import Shared
from consumers.sweep import Sweep
from consumers.ticker import Ticker
from consumers.timers import Timers
from consumers.turn import Errands


class Worker:
    """Runs the functions of buses: `await Worker(app).run()`, until stop()."""

    def __init__(
        self,
        *buses: Bus,
        settings: Settings | None = None,
        concurrency: int = 100,
        signals: Signals | None = None,
        now_ms: int | None = None,
        stubs: dict[str, Callable[..., Any]] | None = None,
    ) -> None:
        """Make a worker. For tests (Harness): `now_ms` is a clock that stands still, `stubs` replace steps' bodies."""
        if not buses or not any(bus.functions for bus in buses):
            raise ConfigError("there is nothing to work on: no function is declared on the given bus")
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}")
        self.settings = settings or read()[0]
        self.signals = signals or Signals()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self._now = "" if now_ms is None else str(now_ms)
        self._stubs = {} if stubs is None else stubs
        self._buses = buses
        self._capacity = Capacity(concurrency)
        self._stop = asyncio.Event()
        self._sources: list[Source] = []
        self._readers: list[Reader] = []
        self._claimers: list[Claimer] = []
        self._timers: dict[str, Timers] = {}
        self._executors: list[Executor] = []
        self._takers: dict[Source, Taker] = {}
        self._tickers: list[Ticker] = []
        self._names: list[Names] = []
        self._intakes: list[Intake] = []
        self._poppers: dict[str, Popper] = {}
        self._courier: Courier
        self._shared: Shared
        self._wire: Wire
        self._loops: TaskGroup | None = None

    def stop(self) -> None:
        """Read no more, finish or park what is in hand within BUS_DRAIN, give the rest back, and return from run()."""
        self._stop.set()

    async def jump(self, now_ms: int) -> None:
        """Move the clock of a worker that was given one; timers and schedules that are due then, fire."""
        self._now = self._wire.now = str(now_ms)
        for timers in self._timers.values():
            timers.expect(0)
        for ticker in self._tickers:
            await ticker.once()

    async def run(self) -> None:
        """Work until stop(). Enters each bus's lifespan once; waits for Redis as long as it takes."""
        quiet.install(asyncio.get_running_loop())
        wire = self._wire = Wire(self.settings, self.name, self.signals.notice)
        wire.now = self._now
        leases = Leases(self.settings, self.name, self._lease_lost)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._unless_stopped(self._examine(wire))
                await self._unless_stopped(check_format(wire))
                heard = Heard()
                cancels = Cancels(wire, self.signals)
                self._shared = Shared(wire, self.signals)
                self._courier = Courier(wire, self.signals, heard, cancels, partial(self._open_waits, wire, leases))
                errands = Errands(Publisher(wire), self._courier.expect, self._stubs)
                await self._unless_stopped(patiently(lambda: heard.look(wire)))
                for bus in self._buses:
                    bus.connect(wire)
                    state = await stack.enter_async_context(bus.lifespan()) if bus.lifespan else None
                    executor = Executor(
                        wire,
                        self.signals,
                        self._capacity,
                        heard,
                        errands,
                        cancels,
                        self.name,
                        state,
                        self._parked,
                        self._freed,
                        self._shared.left,
                    )
                    stack.callback(executor.close)
                    for function in bus.functions.values():
                        intake = None
                        if function.flow.is_regulated:
                            intake = Intake(
                                wire, self.signals, function, executor, heard, cancels, self._shared, self._capacity
                            )
                        await self._unless_stopped(self._add(wire, leases, executor, function, intake))
                    self._executors.append(executor)
                leases.start()
                await self._work()
        finally:
            await leases.stop()
            await self._leave(wire)
            await wire.close()

    async def _examine(self, wire: Wire) -> None:
        """Refuse a server that would lose work, tell of what may."""
        try:
            findings = await patiently(lambda: at_boot(wire))
        except BusError as error:  # this user may not ask
            self.signals.notice("whether this Redis is fit could not be seen", error=str(error))
            return
        for finding in refuse(findings):
            self.signals.notice(f"{finding.check}: {finding.found}", do=finding.do)

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

    async def _add(
        self, wire: Wire, leases: Leases, executor: Executor, function: Function, intake: Intake | None
    ) -> None:
        since = await register(wire, function)
        slug = function.slug
        self._timers[slug] = Timers(wire, slug, self.signals)
        workers = keys.function_workers(slug)
        lease = leases.add(workers)
        again = partial(register, wire, function)
        queue = Source("queue", "queue", keys.queue(slug), slug, workers, lease, function)
        await self._serve(wire, queue, intake or executor, self._capacity, 0, again)
        # A function that has no limits any more may have runs in line.
        if intake is not None or await patiently(lambda: wire.call("EXISTS", keys.ready(slug), keys.full(slug))):
            expect = self._timers[slug].expect
            popper = Popper(wire, queue, self._capacity, executor, intake or executor, self.signals, expect)
            self._poppers[slug] = popper
            if intake is not None:
                intake.popper = popper
                self._intakes.append(intake)
        ends = Source("ends", "ends", keys.ends(slug), slug, workers, lease, function)
        await self._serve(wire, ends, self._courier, self._courier.capacity, 0, again)
        for name in dict.fromkeys(one.name for one in function.cancel_on):
            await self._open_cancels(wire, leases, function, name)
        for cron in function.crons:
            self._tickers.append(Ticker(wire, slug, cron, self.signals))
        names = Names(
            wire, function, partial(self._open_events, wire, leases, intake or executor, function, since, again)
        )
        await names.look()
        if names.has_patterns:
            self._names.append(names)

    async def _open_events(
        self,
        wire: Wire,
        leases: Leases,
        taker: Executor | Intake,
        function: Function,
        since: dict[str, int],
        when_gone: Callable[[], Awaitable[object]],
        name: str,
    ) -> None:
        """Read the events of a name for a function, from when the first of its triggers was registered."""
        triggers = function.triggers_of(name)
        start_ms = 0 if any(trigger.from_start for trigger in triggers) else min(since[one.name] for one in triggers)
        workers = keys.events_workers(name)
        lease = leases.add(workers)
        source = Source("events", name, keys.events(name), function.slug, workers, lease, function, triggers)
        capacity = taker.capacity if isinstance(taker, Intake) else self._capacity
        await self._serve(wire, source, taker, capacity, start_ms, when_gone)

    async def _open_waits(self, wire: Wire, leases: Leases, name: str) -> None:
        """Read, with the other couriers, the events that runs wait for."""
        workers = keys.events_workers(name)
        waits = Source("waits", name, keys.events(name), WAITS, workers, leases.add(workers), None)
        await self._serve(
            wire, waits, self._courier, self._courier.capacity, await wire.clock(), partial(self._close_waits, waits)
        )

    async def _open_cancels(self, wire: Wire, leases: Leases, function: Function, name: str) -> None:
        """Read the events that cancel runs of a function."""
        workers = keys.events_workers(name)
        source = Source(
            "cancels", name, keys.events(name), group(function.slug), workers, leases.add(workers), function
        )
        again = partial(register, wire, function)
        since = await patiently(wire.clock)
        await self._serve(wire, source, self._courier, self._courier.capacity, since, again)

    async def _close_waits(self, source: Source) -> None:
        """Nobody waits for an event any more: it is opened again when somebody does."""
        self._sources.remove(source)
        self._readers = [reader for reader in self._readers if reader.source is not source]
        self._claimers = [claimer for claimer in self._claimers if claimer.source is not source]
        self._courier.closed(source.name)

    def _reads(self) -> dict[str, list[str]]:
        """Return the event names this worker reads, and for which groups."""
        names: dict[str, list[str]] = {}
        for source in self._sources:
            if source.kind in ("events", "waits", "cancels"):
                names.setdefault(source.name, []).append(source.group)
        return names

    async def _serve(
        self,
        wire: Wire,
        source: Source,
        taker: Taker,
        capacity: Capacity,
        since_ms: int,
        when_gone: Callable[[], Awaitable[object]],
    ) -> None:
        """Read a source, and take up what is left of it; at once when the worker is at work."""
        await ensure_group(wire, source.stream, source.group, since_ms)
        arrivals = None
        if (
            isinstance(taker, Executor)
            and source.kind == "events"
            and Arrivals.are_for(source)
            and not wire.settings.is_fake
        ):
            arrivals = Arrivals(wire, source, taker.begin_started)
        reader = Reader(wire, source, capacity, taker, self.signals, since_ms, when_gone, arrivals)
        self._sources.append(source)
        self._takers[source] = taker
        self._readers.append(reader)
        self._claimers.append(Claimer(wire, reader, capacity, taker, self.signals))
        if self._loops is not None:
            self._loops.start_soon(reader.run)

    async def _work(self) -> None:
        async with anyio.create_task_group() as loops:
            self._loops = loops
            for reader in tuple(self._readers):
                loops.start_soon(reader.run)
            for timers in self._timers.values():
                loops.start_soon(timers.run)
            for popper in self._poppers.values():
                loops.start_soon(popper.run)
            loops.start_soon(self._shared.run)
            loops.start_soon(self._sweep)
            loops.start_soon(self._courier.watch)
            loops.start_soon(Sweep(self._wire, self.signals, sorted(self._timers), self._reads).run)
            loops.start_soon(Repair(self._wire, self.signals, sorted(self._timers)).run)
            for ticker in self._tickers:
                loops.start_soon(ticker.run)
            for names in self._names:
                loops.start_soon(names.watch, self.signals)
            self.ready.set()
            await self._stop.wait()
            await self._drain()
            loops.cancel_scope.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep_ms / 1_000)
            for claimer in tuple(self._claimers):
                try:
                    await claimer.sweep()
                except BusError as error:
                    self.signals.notice("looking for what others left failed", error=str(error))

    def _parked(self, function: Function, due_in_ms: int) -> None:
        self._timers[function.slug].expect(due_in_ms)

    def _freed(self, function: Function) -> None:
        popper = self._poppers.get(function.slug)
        if popper is not None:
            popper.look()

    def _lease_lost(self, lease: Lease, consumer: str) -> None:
        """Everything in hand under that name is another's by now: give it up without a word."""

        def is_lost(delivery: Delivery) -> bool:
            return delivery.consumer == consumer and delivery.source.lease is lease

        count = sum(is_lost(d) for source in self._sources for d in source.in_hand.values())
        self.signals.notice(
            "a lease was lost; what was in hand there is left to others",
            slot=lease.workers_key,
            entries=count,
        )
        for executor in self._executors:
            executor.abandon(is_lost)
        for source in self._sources:
            for delivery in [d for d in source.in_hand.values() if is_lost(d)]:
                source.drop(delivery)

    async def _drain(self) -> None:
        """Stop reading; finish or park; give back what is left."""
        until = time.monotonic() + self.settings.drain_ms / 1_000
        for timers in self._timers.values():
            timers.stop()
        for popper in self._poppers.values():
            popper.stop()
        await asyncio.gather(*(reader.stop() for reader in self._readers))
        for intake in self._intakes:
            with anyio.move_on_after(max(0.0, until - time.monotonic())):
                await intake.settled()
        with anyio.move_on_after(max(0.0, until - time.monotonic())):
            for executor in self._executors:
                with contextlib.suppress(StoreUnavailable):  # then the lease will end, and others claim
                    await executor.release_waiting()
            await self._capacity.wait_idle()
            for executor in self._executors:
                await executor.settled()
            await self._courier.settled()
        with anyio.move_on_after(3.0):
            for source in self._sources:
                left = list(source.in_hand.values())
                if left:
                    for executor in self._executors:
                        executor.abandon(lambda delivery, source=source: delivery.source is source)
                    try:
                        await self._takers[source].release(left)
                    except StoreUnavailable:
                        continue  # the lease will end, and others claim
            for executor in self._executors:
                await executor.settled()

    async def _leave(self, wire: Wire) -> None:
        """End our leases and remove our consumers, so that nothing of us is left to look at."""
        with anyio.move_on_after(2.0, shield=True):
            for source in self._sources:
                lease = source.lease
                try:
                    await wire.script(
                        "consumer_leave", [source.stream, source.workers_key], source.group, lease.consumer
                    )
                except BusError:
                    return
            try:
                await wire.call("ZREM", keys.workers(), self.name)
            except BusError:
                return


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
