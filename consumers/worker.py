"""Worker: composes the loops of one process, and ends them in order when it is told to stop."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError, ConfigError, StoreUnavailable
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import Settings, read
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.doctor import at_boot, refuse
from stepstream.bus.wire.leases import Lease, Leases
from stepstream.bus.wire.streams import ensure_group, leave_group
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import check_format, register
from stepstream.checkpoint.run.crash import take_back_crashes
from stepstream.checkpoint.waits.event_waits import GROUP as WAITS
from stepstream.consumers.delivery.connections import ReaderConnections
from stepstream.consumers.delivery.delivery import Delivery, Source
from stepstream.consumers.delivery.eager_starts import Arrivals
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import Failing, tell
from stepstream.consumers.delivery.reader import Reader
from stepstream.consumers.delivery.reclaimer import Reclaimer
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Wakeup
from stepstream.consumers.drivers.local import LocalDriver
from stepstream.consumers.executor import Executor
from stepstream.consumers.limits.dispatcher import Dispatcher
from stepstream.consumers.limits.intake import Intake
from stepstream.consumers.limits.shared_places import SharedPlaces
from stepstream.consumers.relay.courier import Courier
from stepstream.consumers.relay.event_cancellation import EventCancellation, group
from stepstream.consumers.relay.subscriptions import Subscriptions
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.services import Services
from stepstream.consumers.upkeep.discovery import Discovery
from stepstream.consumers.upkeep.repair import Repair
from stepstream.consumers.upkeep.retention import Retention
from stepstream.consumers.upkeep.ticker import Ticker
from stepstream.consumers.upkeep.timers import Timers


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
        slugs = Counter(function.slug for bus in buses for function in bus.functions.values())
        twice = sorted(slug for slug, count in slugs.items() if count > 1)
        if twice:
            raise ConfigError(f"two of the given buses have a function '{twice[0]}'; give one bus another id")
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}")
        self.settings = settings or read()[0]
        self.signals = signals or Signals()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self.left = 0
        """How many entries were still in hand when the time of the drain was over."""
        self._now = "" if now_ms is None else str(now_ms)
        self._stubs = {} if stubs is None else stubs
        self._buses = buses
        self._capacity = Slots(concurrency)
        self._stop = asyncio.Event()
        self._sources: list[Source] = []
        self._readers: list[Reader] = []
        self._claimers: list[Reclaimer] = []
        self._timers: dict[str, Timers] = {}
        self._executors: list[Executor] = []
        self._tickers: list[Ticker] = []
        self._names: list[Discovery] = []
        self._intakes: list[Intake] = []
        self._poppers: list[Dispatcher] = []
        self._courier: Courier
        self._exits: Exits
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
        idle_detection.install(asyncio.get_running_loop())
        wire = self._wire = Wire(self.settings, self.name, self.signals.notice)
        wire.now = self._now
        leases = Leases(self.settings, self.name, self._lost, self._clock_set, wire.trouble.met)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._unless_stopped(self._examine(wire))
                await self._unless_stopped(check_format(wire))
                heard = Subscriptions()
                cancels = EventCancellation(wire, self.signals)
                places = SharedPlaces(wire, self.signals, leases)
                self._exits = exits = Exits(wire, self.signals, places)
                opens = partial(self._open_waits, wire, leases)
                self._courier = Courier(wire, self.signals, heard, cancels, exits, opens)
                services = Services(wire, self.signals, self._courier.expect, self._stubs)
                stack.push_async_callback(services.fetcher.close)
                await self._unless_stopped(patiently(lambda: heard.look(wire)))
                for bus in self._buses:
                    bus.connect(wire)
                    state = await stack.enter_async_context(bus.lifespan()) if bus.lifespan else None
                    executor = Executor(
                        services,
                        self._capacity,
                        exits,
                        heard,
                        cancels,
                        self._timers,
                        self.name,
                        LocalDriver(state),
                    )
                    stack.callback(executor.close)
                    adds: list[Coroutine[Any, Any, None]] = []
                    for function in bus.functions.values():
                        intake, line = None, Wakeup()
                        if function.flow.is_regulated:
                            intake = Intake(
                                wire,
                                self.signals,
                                function,
                                executor,
                                heard,
                                cancels,
                                places,
                                exits,
                                line,
                                self._capacity,
                            )
                        adds.append(self._add(wire, leases, executor, function, intake, line))
                    await self._unless_stopped(_side_by_side(adds))
                    self._executors.append(executor)
                functions = sum(len(bus.functions) for bus in self._buses)
                await self._unless_stopped(
                    ReaderConnections(wire, self.signals, tuple(self._readers), functions).take()
                )
                leases.start()
                await self._work()
        finally:
            with anyio.CancelScope(shield=True):  # also when run() is cancelled: no socket is left open
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
        self, wire: Wire, leases: Leases, executor: Executor, function: Function, intake: Intake | None, line: Wakeup
    ) -> None:
        since = await register(wire, function)
        slug = function.slug
        self._timers[slug] = Timers(wire, slug, self.signals)
        workers = keys.function_workers(slug)
        lease = leases.add(workers)
        again = partial(register, wire, function)
        # A function that has no limits any more may have runs in line.
        has_line = intake is not None or bool(
            await patiently(lambda: wire.call("EXISTS", keys.ready(slug), keys.full(slug)))
        )
        queue = Source(
            "queue",
            "queue",
            keys.queue(slug),
            slug,
            workers,
            lease,
            function,
            intake or executor,
            line=line if has_line else None,
        )
        await self._serve(wire, queue, self._capacity, 0, again)
        if has_line:
            expect = self._timers[slug].expect
            self._poppers.append(Dispatcher(wire, queue, line, self._capacity, executor, self.signals, expect))
        if intake is not None:
            self._intakes.append(intake)
        ends = Source("ends", "ends", keys.ends(slug), slug, workers, lease, function, self._courier)
        await self._serve(wire, ends, self._courier.capacity, 0, again)
        for name in dict.fromkeys(one.name for one in function.cancel_on):
            await self._open_cancels(wire, leases, function, name)
        for cron in function.crons:
            self._tickers.append(Ticker(wire, slug, cron, self.signals))
        names = Discovery(
            wire, function, partial(self._open_events, wire, leases, intake or executor, function, since, again)
        )
        await names.look()
        if names.has_patterns:
            self._names.append(names)

    async def _open_events(
        self,
        wire: Wire,
        leases: Leases,
        handler: Executor | Intake,
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
        source = Source("events", name, keys.events(name), function.slug, workers, lease, function, handler, triggers)
        capacity = handler.capacity if isinstance(handler, Intake) else self._capacity
        await self._serve(wire, source, capacity, start_ms, when_gone)

    async def _open_waits(self, wire: Wire, leases: Leases, name: str) -> None:
        """Read, with the other couriers, the events that runs wait for.

        The first wait has made the group. Where it is gone again the stream is new, or somebody destroyed it: all of it
        is read, for each wait knows behind which entry it waits.
        """
        workers = keys.events_workers(name)
        waits = Source("waits", name, keys.events(name), WAITS, workers, leases.add(workers), None, self._courier)
        await self._serve(wire, waits, self._courier.capacity, 0, partial(self._close_waits, waits))

    async def _open_cancels(self, wire: Wire, leases: Leases, function: Function, name: str) -> None:
        """Read the events that cancel runs of a function."""
        workers = keys.events_workers(name)
        source = Source(
            "cancels",
            name,
            keys.events(name),
            group(function.slug),
            workers,
            leases.add(workers),
            function,
            self._courier,
        )
        again = partial(register, wire, function)
        since = await patiently(wire.clock)
        await self._serve(wire, source, self._courier.capacity, since, again)

    async def _close_waits(self, source: Source) -> None:
        """Nobody waits for an event any more: it is opened again when somebody does."""
        self._sources.remove(source)
        self._readers = [reader for reader in self._readers if reader.source is not source]
        self._claimers = [claimer for claimer in self._claimers if claimer.source is not source]
        self._courier.closed(source.name)

    async def _register(self) -> None:
        """Write again what this worker knows: the store's format, its functions and their triggers."""
        await check_format(self._wire)
        for bus in self._buses:
            for function in bus.functions.values():
                await register(self._wire, function)

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
        capacity: Slots,
        since_ms: int,
        when_gone: Callable[[], Awaitable[object]],
    ) -> None:
        """Read a source, and take up what is left of it; at once when the worker is at work."""
        await ensure_group(wire, source.stream, source.group, since_ms)
        arrivals, handler = None, source.handler
        if isinstance(handler, Executor) and source.kind == "events" and Arrivals.are_for(source):
            arrivals = Arrivals(wire, source, handler.begin_started)
        reader = Reader(wire, source, capacity, self._exits, self.signals, since_ms, when_gone, arrivals)
        self._sources.append(source)
        self._readers.append(reader)
        self._claimers.append(Reclaimer(wire, reader, capacity, self.signals))
        if self._loops is not None:
            self._loops.start_soon(reader.run)

    async def _work(self) -> None:
        async with anyio.create_task_group() as loops:
            self._loops = loops
            for reader in tuple(self._readers):
                loops.start_soon(reader.run)
            for timers in self._timers.values():
                loops.start_soon(timers.run)
            for popper in self._poppers:
                loops.start_soon(popper.run)
            loops.start_soon(self._sweep)
            loops.start_soon(self._courier.watch)
            loops.start_soon(Retention(self._wire, self.signals, sorted(self._timers), self._reads, self._register).run)
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
        failing = Failing(self.signals, "looking for what others left failed")
        while True:
            await asyncio.sleep(self.settings.sweep_ms / 1_000)
            for claimer in tuple(self._claimers):
                with failing:
                    await claimer.sweep()

    def _clock_set(self, by_ms: int) -> None:
        """Tell that the server's clock was set; what is due is due by that clock."""
        self.signals.notice(
            "the server's clock was set; what is due is due by its new time",
            by=f"{in_words(abs(by_ms))} {'forth' if by_ms > 0 else 'back'}",
        )
        for ticker in self._tickers:
            ticker.wake()

    def _lost(self, leases: dict[Lease, str]) -> None:
        """Everything in hand under these names is another's by now: give it up without a word."""

        def is_lost(delivery: Delivery) -> bool:
            return delivery.consumer == leases.get(delivery.source.lease)

        for executor in self._executors:
            executor.abandon(is_lost)
        lost = self._exits.lose(self._sources, is_lost)
        self.signals.notice(
            "a lease was lost; what was in hand under it is left to others",
            slots=[lease.workers_key for lease in leases][:5],
            leases=len(leases),
            entries=len(lost),
        )
        if self._loops is not None:
            self._loops.start_soon(self._live_on, lost)

    async def _live_on(self, lost: list[Delivery]) -> None:
        """This worker was only slow: the runs it had in hand are not charged with its death."""
        runs: dict[tuple[str, str], list[str]] = {}
        for delivery in lost:
            if delivery.run:
                runs.setdefault((delivery.source.function.slug, delivery.consumer), []).append(delivery.run)
        for (slug, consumer), held in runs.items():
            try:
                await take_back_crashes(self._wire, slug, consumer, held)
            except BusError as error:
                tell(self.signals, "taking back crashes failed", error, function=slug)

    async def _drain(self) -> None:
        """Stop reading; finish or park; give back what is left, but for what a thread still does."""
        until = time.monotonic() + self.settings.drain_ms / 1_000
        for timers in self._timers.values():
            timers.stop()
        for popper in self._poppers:
            popper.stop()
        await asyncio.gather(*(reader.stop() for reader in self._readers))
        for intake in self._intakes:
            with anyio.move_on_after(max(0.0, until - time.monotonic())):
                await intake.settled()
        with anyio.move_on_after(max(0.0, until - time.monotonic())):
            for executor in self._executors:
                executor.give_back_waiting()
            await self._capacity.wait_idle()
            for executor in self._executors:
                await executor.settled()
            await self._courier.settled()
            await self._exits.settled()
        self.left = sum(len(source.in_hand) for source in self._sources)
        await asyncio.gather(*(executor.wind_up() for executor in self._executors))
        with anyio.move_on_after(3.0):
            for executor in self._executors:
                await executor.settled()
            for source in self._sources:
                for delivery in tuple(source.in_hand.values()):
                    self._exits.leave(delivery, "given back")
            await self._exits.settled()

    async def _leave(self, wire: Wire) -> None:
        """End our leases and remove our consumers, so that nothing of us is left to look at."""
        with anyio.move_on_after(2.0, shield=True):
            for source in self._sources:
                lease = source.lease
                try:
                    await leave_group(wire, source.stream, source.workers_key, source.group, lease.consumer)
                except BusError:
                    return
            try:
                await wire.call("ZREM", keys.workers(), self.name)
            except BusError:
                return


async def _side_by_side(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


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
