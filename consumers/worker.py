"""Worker: composes the loops of one process, and ends them in order when it is told to stop."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from bus.bus import Bus
from bus.errors import BusError, ConfigError, StoreUnavailable
from bus.function import Function
from bus.observe.signals import Signals
from bus.settings import Settings, read
from bus.wire import keys
from bus.wire.leases import Lease, Leases
from bus.wire.registry import check_format, register
from bus.wire.streams import ensure_group
from bus.wire.wire import Wire
from consumers import quiet
from consumers.capacity import Capacity
from consumers.claimer import Claimer
from consumers.delivery import Delivery, Source
from consumers.executor import Executor
from consumers.reader import Reader
from consumers.timers import Timers


class Worker:
    """Runs the functions of buses: `await Worker(app).run()`, until stop()."""

    def __init__(
        self,
        *buses: Bus,
        settings: Settings | None = None,
        concurrency: int = 100,
        signals: Signals | None = None,
    ) -> None:
        if not buses or not any(bus.functions for bus in buses):
            raise ConfigError("there is nothing to work on: no function is declared on the given bus")
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}")
        self.settings = settings or read()[0]
        self.signals = signals or Signals()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self._buses = buses
        self._capacity = Capacity(concurrency)
        self._stop = asyncio.Event()
        self._sources: list[Source] = []
        self._readers: list[Reader] = []
        self._claimers: list[Claimer] = []
        self._timers: dict[str, Timers] = {}
        self._executors: list[Executor] = []

    def stop(self) -> None:
        """Read no more, finish or park what is in hand within BUS_DRAIN, give the rest back, and return from run()."""
        self._stop.set()

    async def run(self) -> None:
        """Work until stop(). Enters each bus's lifespan once; waits for Redis as long as it takes."""
        quiet.install(asyncio.get_running_loop())
        wire = Wire(self.settings, self.name)
        leases = Leases(self.settings, self.name, self._lease_lost)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._unless_stopped(check_format(wire))
                for bus in self._buses:
                    bus.connect(wire)
                    state = await stack.enter_async_context(bus.lifespan()) if bus.lifespan else None
                    executor = Executor(wire, self.signals, self._capacity, self.name, state, self._parked)
                    stack.callback(executor.close)
                    for function in bus.functions.values():
                        await self._unless_stopped(self._add(wire, leases, executor, function))
                    self._executors.append(executor)
                leases.start()
                await self._work()
        finally:
            await leases.stop()
            await self._leave(wire)
            await wire.close()

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

    async def _add(self, wire: Wire, leases: Leases, executor: Executor, function: Function) -> None:
        since = await register(wire, function)
        slug = function.slug
        self._timers[slug] = Timers(wire, slug, self.signals)
        sources = [
            Source(
                function,
                keys.queue(slug),
                keys.function_workers(slug),
                leases.add(keys.function_workers(slug)),
                None,
            )
        ]
        for trigger in function.triggers:
            workers = keys.events_workers(trigger.name)
            sources.append(Source(function, keys.events(trigger.name), workers, leases.add(workers), trigger))
        for source in sources:
            start_ms = since[source.trigger.name] if source.trigger else 0
            await ensure_group(wire, source.stream, source.group, start_ms)
            reader = Reader(wire, source, self._capacity, executor, self.signals, start_ms)
            self._readers.append(reader)
            self._claimers.append(Claimer(wire, reader, self._capacity, executor, self.signals))
        self._sources += sources

    async def _work(self) -> None:
        async with anyio.create_task_group() as loops:
            for reader in self._readers:
                loops.start_soon(reader.run)
            for timers in self._timers.values():
                loops.start_soon(timers.run)
            loops.start_soon(self._sweep)
            self.ready.set()
            await self._stop.wait()
            await self._drain()
            loops.cancel_scope.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep_ms / 1_000)
            for claimer in self._claimers:
                try:
                    await claimer.sweep()
                except BusError as error:
                    self.signals.notice("looking for what others left failed", error=str(error))

    def _parked(self, function: Function, due_in_ms: int) -> None:
        self._timers[function.slug].expect(due_in_ms)

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
        await asyncio.gather(*(reader.stop() for reader in self._readers))
        with anyio.move_on_after(max(0.0, until - time.monotonic())):
            await self._capacity.wait_idle()
            for executor in self._executors:
                await executor.settled()
        with anyio.move_on_after(3.0):
            for source in self._sources:
                left = list(source.in_hand.values())
                if left:
                    for executor in self._executors:
                        executor.abandon(lambda delivery, source=source: delivery.source is source)
                    try:
                        await self._executors[0].release(left)
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
