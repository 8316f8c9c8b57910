"""Assembly: the parts of one worker, and how they hang together.

Each bus has an executor. Each function has feeds (its queue, its events, the ends of its runs, the events that cancel
them), and for each feed a handler. Which feeds are wanted later is looked up by chores; no part below imports one
above.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from anyio.abc import TaskGroup

from stepstream.bus.errors import BusError
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.observe.tracing import Tracing
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.leases import Leases
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.registry import register
from stepstream.checkpoint.types import declare_types
from stepstream.checkpoint.waits.cancel_index import group_of
from stepstream.checkpoint.waits.event_waits import GROUP as WAITS
from stepstream.checkpoint.waits.event_waits import has_waits, names_waited_for
from stepstream.consumers.delivery.delivery import EntryHandler, Feed, StreamGroup
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import Failing, FailingEach
from stepstream.consumers.delivery.feeds import Feeds
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Alarms
from stepstream.consumers.drivers.contract import Driver
from stepstream.consumers.executor import Executor
from stepstream.consumers.limits.backlog import Backlog
from stepstream.consumers.limits.dispatcher import Dispatcher
from stepstream.consumers.limits.intake import Intake
from stepstream.consumers.limits.limited_queue import LimitedQueue
from stepstream.consumers.limits.shared_places import SharedPlaces
from stepstream.consumers.relay.courier import Courier
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.turn.services import Services, Stubs
from stepstream.consumers.upkeep.chores import Chore
from stepstream.consumers.upkeep.discovery import Discovery


class _Events(NamedTuple):
    """How the events of a function are read: which there are, who handles them, and since when each is a trigger."""

    discovery: Discovery
    handler: EntryHandler
    slots: Slots
    since: dict[str, int]


class Assembly:
    """Builds the parts; `slots` are the turns that the worker runs at once."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        leases: Leases,
        slots: Slots,
        name: str,
        stubs: Stubs | None,
        tracing: Tracing | None,
    ) -> None:
        self._wire = wire
        self._signals = signals
        self._leases = leases
        self._slots = slots
        self._name = name
        self.alarms = Alarms()
        self.functions: list[Function] = []
        self.executors: list[Executor] = []
        self.subscriptions = Subscriptions()
        self._cancellation = EventCancellation(wire, signals)
        self._places = SharedPlaces(wire, signals, leases)
        self.exits = Exits(wire, signals, self._places)
        self.feeds = Feeds(wire, signals, self.exits)
        self.courier = Courier(wire, signals, self.subscriptions, self._cancellation, self.exits, tracing)
        self.services = Services(wire, signals, self.feeds.expect_waits, stubs, tracing)
        self._limited: list[LimitedQueue | Intake] = []
        self._dispatchers: list[Dispatcher] = []
        self._events: list[_Events] = []
        self._failing = FailingEach(signals, "reading the events of a name failed")

    # -- building ---------------------------------------------------------------------------------------------------

    def add_executor(self, driver: Driver) -> Executor:
        """Make the executor of a bus, whose functions `driver` calls."""
        executor = Executor(
            self.services,
            self._slots,
            self.exits,
            self.subscriptions,
            self._cancellation,
            self.alarms,
            self._name,
            driver,
        )
        self.executors.append(executor)
        return executor

    async def add_functions(self, executor: Executor, functions: Sequence[Function]) -> None:
        """Register functions, and open their feeds, side by side."""
        for function in functions:
            self.services.kinds.add(function)
        await _side_by_side([self._add(executor, function) for function in functions])
        with contextlib.suppress(BusError):  # the registration tries again every minute, and tells of it
            await declare_types(self._wire, functions, 2.0)
        self.functions += functions

    async def _add(self, executor: Executor, function: Function) -> None:
        since = await register(self._wire, function)
        if function.flow.is_regulated:
            events = await self._open_limited_queue(executor, function, since)
        else:
            events = await self._open_queue(executor, function, since)
        for where in partitions(function.slug):
            read = StreamGroup.of_function("ends", function.slug, where)
            await self._open(read, function, self.courier, self.courier.slots)
        for name in dict.fromkeys(one.name for one in function.cancel_on):
            read = StreamGroup.of_events("cancels", name, group_of(function.slug))
            begin = await patiently(self._wire.moment)
            await self._open(read, function, self.courier, self.courier.slots, begin)
        for name in await events.discovery.unopened():
            is_exact = any(trigger.name == name for trigger in function.triggers)
            with contextlib.nullcontext() if is_exact else self._failing.of(name):
                await self._open_events(events, name)
        if events.discovery.has_patterns:
            self._events.append(events)

    async def _open_queue(self, executor: Executor, function: Function, since: dict[str, int]) -> _Events:
        slug = function.slug
        # A function that has no limits any more may have runs in its backlogs.
        if await patiently(lambda: self._wire.call("EXISTS", keys.ready(slug), keys.full(slug))):
            await self._open_dispatched(function, executor, self._backlog(function))
        else:
            for where in partitions(slug):
                await self._open(StreamGroup.of_function("queue", slug, where), function, executor, self._slots)
        return _Events(Discovery(self._wire, function), executor, self._slots, since)

    async def _open_limited_queue(self, executor: Executor, function: Function, since: dict[str, int]) -> _Events:
        backlog = self._backlog(function)
        intake = Intake(
            self._wire,
            self._signals,
            function,
            executor,
            self.subscriptions,
            self._cancellation,
            self.exits,
            backlog,
        )
        places = self._places if any(one.shared for one in function.flow.concurrency) else None
        queue = LimitedQueue(self._signals, self.exits, places, intake, executor)
        self._limited += [queue, intake]
        await self._open_dispatched(function, queue, backlog)
        return _Events(Discovery(self._wire, function), intake, intake.slots, since)

    def _backlog(self, function: Function) -> Backlog:
        return Backlog(self._wire, function.slug, self._slots, self.alarms.of(function.slug))

    async def _open_dispatched(self, function: Function, handler: EntryHandler, backlog: Backlog) -> None:
        """Open a queue that a dispatcher delivers to."""
        read = StreamGroup.of_function("queue", function.slug)
        feed = Feed(read, self._leases.add(read.workers_key), function, handler, backlog=backlog.wakeup)
        reader = await self.feeds.open(feed, self._slots, 0)
        self._dispatchers.append(Dispatcher(self._wire, self._signals, reader, backlog))

    async def _open_events(self, events: _Events, name: str) -> None:
        """Read the events of a name for a function, from when the first of its triggers was registered."""
        function = events.discovery.function
        triggers = function.triggers_of(name)
        from_start = any(trigger.from_start for trigger in triggers)
        start_ms = 0 if from_start else min(events.since[one.name] for one in triggers)
        read = StreamGroup.of_events("events", name, function.slug)
        feed = Feed(read, self._leases.add(read.workers_key), function, events.handler, triggers)
        await self.feeds.open(feed, events.slots, start_ms)
        events.discovery.opened(name)

    async def _open(
        self, read: StreamGroup, function: Function | None, handler: EntryHandler, slots: Slots, since_ms: int = 0
    ) -> None:
        feed = Feed(read, self._leases.add(read.workers_key), function, handler)
        await self.feeds.open(feed, slots, since_ms)

    def why_not_reading(self) -> str:
        """Return why nothing is read at the moment; empty when it is. Any thread may ask."""
        if self._wire.is_in_trouble:
            return f"Redis does not serve it now ({self._wire.trouble.state})"
        if not any(feed.lease.is_fresh() for feed in self.feeds):
            return "its leases are not in force: nothing is read until they are renewed"
        return ""

    # -- what comes later -------------------------------------------------------------------------------------------

    def start(self, tasks: TaskGroup) -> None:
        """Read, dispatch, and look for what is to be read besides, in tasks of a group."""
        self.feeds.start(tasks)
        for executor in self.executors:
            tasks.start_soon(executor.run)
        for dispatcher in self._dispatchers:
            tasks.start_soon(dispatcher.run)
        for events in self._events:
            slug = events.discovery.function.slug
            failing = Failing(self._signals, "looking for new event names failed", function=slug)
            tasks.start_soon(Chore(partial(self._open_new_names, events), failing).run)
        failing = Failing(self._signals, "looking for waits failed")
        tasks.start_soon(Chore(self._open_new_waits, failing, alarm=self.feeds.waits_expected).run)

    async def _open_new_names(self, events: _Events) -> None:
        """Open the events that a function's wildcards mean and that were published since."""
        for name in await events.discovery.new():
            with self._failing.of(name):
                await self._open_events(events, name)

    async def _open_new_waits(self) -> None:
        """Look who has subscribed to ends, and read, with the other workers, the events that runs wait for.

        The first wait has made the group. Where it is gone again the stream is new, or somebody destroyed it: all of it
        is read, for each wait knows behind which entry it waits.
        """
        await self.subscriptions.look(self._wire)
        for name in await names_waited_for(self._wire, await self._wire.moment()):
            # Without waits there would be nothing to answer: retention drops the group, and a new one reads all again.
            with self._failing.of(name):
                if not self.feeds.serves_waits(name) and await has_waits(self._wire, name):
                    read = StreamGroup.of_events("waits", name, WAITS)
                    await self._open(read, None, self.courier, self.courier.slots)

    async def settled(self) -> None:
        """Wait until all new runs that were read are decided on, and all turns that were read have their places."""
        for part in self._limited:
            await part.settled()


async def _side_by_side(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        await cancelled(*tasks)
        raise
