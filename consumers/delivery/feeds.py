"""Feeds: the streams one worker reads, each with its reader and its reclaimer, from when it is opened."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from anyio.abc import TaskGroup

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.leases import Lease
from stepstream.bus.wire.streams import ensure_group
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import lines_of
from stepstream.checkpoint.controls.ordered import Controls
from stepstream.consumers.delivery.delivery import Delivery, Feed
from stepstream.consumers.delivery.eager_starts import EagerStarts
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.reader import Reader
from stepstream.consumers.delivery.reclaimer import Reclaimer
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Alarm


class _Opened(NamedTuple):
    feed: Feed
    reader: Reader
    reclaimer: Reclaimer
    failing: Failing


class Feeds:
    """Opens feeds, and reads them from start() on.

    `waits_expected` is set when a run begins to wait for an event whose waits this worker does not serve yet,
    `limits_changed` when people have set a limit otherwise, or taken that back.
    """

    def __init__(self, wire: Wire, signals: Signals, exits: Exits) -> None:
        self.waits_expected = Alarm()
        self.limits_changed = Alarm()
        self._wire = wire
        self._signals = signals
        self._exits = exits
        self._opened: list[_Opened] = []
        self._waits: set[str] = set()
        self.controls = Controls()
        self._tasks: TaskGroup | None = None

    def __iter__(self) -> Iterator[Feed]:
        """Return the open feeds."""
        return iter([opened.feed for opened in self._opened])

    @property
    def readers(self) -> list[Reader]:
        """The readers of the open feeds."""
        return [opened.reader for opened in self._opened]

    async def open(self, feed: Feed, slots: Slots, since_ms: int) -> Reader:
        """Open a feed whose entries are read as there are slots; a group that is not there begins at `since_ms`."""
        await ensure_group(self._wire, feed.stream, feed.group, since_ms)
        eager = EagerStarts(self._wire, feed) if feed.kind == "events" and EagerStarts.are_for(feed) else None
        reader = Reader(self._wire, feed, slots, self._exits, self._signals, since_ms, eager)
        failing = Failing(self._signals, "reclaiming pending entries failed", stream=feed.stream)
        opened = _Opened(feed, reader, Reclaimer(self._wire, reader, slots, self._signals), failing)
        self._opened.append(opened)
        feed.overrides = _overrides(feed, self.controls)
        if _is_paused(feed, self.controls):
            await reader.pause()
        if feed.kind == "waits":
            self._waits.add(feed.name)
        if self._tasks is not None:
            self._tasks.start_soon(self._read, opened)
        return reader

    def start(self, tasks: TaskGroup) -> None:
        """Read what is open, and what will be, in tasks of a group."""
        self._tasks = tasks
        for opened in self._opened:
            tasks.start_soon(self._read, opened)

    async def _read(self, opened: _Opened) -> None:
        await opened.reader.run()
        if not opened.reader.is_stopping:  # nobody waits for this event any more; it is opened again when somebody does
            self._opened.remove(opened)
            self._waits.discard(opened.feed.name)

    async def reclaim(self) -> None:
        """Look once for pending entries to reclaim in each feed; one that fails is logged and stops no other."""
        for opened in tuple(self._opened):
            with opened.failing:
                await opened.reclaimer.once()

    async def apply(self, controls: Controls) -> tuple[list[str], list[str]]:
        """Read no more of what is paused, and go on with what is not any more; return the streams of both.

        Limits that are set otherwise count from the next admission and dispatch on.
        """
        self.controls = controls
        for one in self._opened:
            before, one.feed.overrides = one.feed.overrides, _overrides(one.feed, controls)
            if before != one.feed.overrides:
                self.limits_changed.expect(0)
        turned = [one for one in self._opened if _is_paused(one.feed, controls) != one.reader.is_paused]
        resumed = [one for one in turned if one.reader.is_paused]
        paused = [one for one in turned if one not in resumed]
        for one in resumed:
            one.reader.resume()
        await asyncio.gather(*(one.reader.pause() for one in paused))
        return [one.feed.stream for one in paused], [one.feed.stream for one in resumed]

    def paused_functions(self) -> list[str]:
        """Return the functions whose queue is not read, as they are paused."""
        return sorted(
            {one.feed.function.slug for one in self._opened if one.feed.kind == "queue" and one.reader.is_paused}
        )

    def leases_missing(self, slug: str) -> list[Lease]:
        """Return the leases without which nothing of a paused function may be read: of a worker that has just begun."""
        return [one.feed.lease for one in self._read_by_order(slug) if not one.feed.lease.is_fresh()]

    async def let_one_through(self, slug: str) -> bool:
        """Take one run of a paused function in hand: a turn that is due, else the next event; return whether there is.

        Of a function with limits its dispatcher lets the next one through that gets its places.
        """
        for one in self._read_by_order(slug):
            while deliveries := await one.reader.read_one():
                if any(_is_run(delivery) for delivery in deliveries):
                    return True
            if one.feed.kind == "queue" and one.feed.backlog is not None:
                one.reader.lets_one = True
                one.feed.backlog.ring()
                return True
        return False

    def _read_by_order(self, slug: str) -> list[_Opened]:
        """Return what is read of a paused function when one is let through, the queue first."""
        paused = [one for one in self._opened if one.reader.is_paused and one.feed.kind in ("queue", "events")]
        mine = [one for one in paused if one.feed.function.slug == slug and one.feed.name not in self.controls.events]
        return sorted(mine, key=lambda one: one.feed.kind != "queue")

    def serves_waits(self, name: str) -> bool:
        """Whether this worker reads the events of a name for the runs that wait for them."""
        return name in self._waits

    def expect_waits(self, name: str) -> None:
        """A run of this worker waits for an event: its waits are to be served."""
        if name not in self._waits:
            self.waits_expected.expect(0)

    def names_read(self) -> dict[str, list[str]]:
        """Return the event names this worker reads, with the groups it reads each for."""
        names: dict[str, list[str]] = {}
        for feed in self:
            if feed.kind in ("events", "waits", "cancels"):
                names.setdefault(feed.name, []).append(feed.group)
        return names


def _is_run(delivery: Delivery) -> bool:
    """Whether a run begins, or goes on, by an entry having been read: one that waits for a limit then does not."""
    feed = delivery.feed
    if feed.kind == "events":
        try:
            return delivery.wanted_event() is not None
        except (ValueError, CannotOpen):
            return False
    return b"run" in delivery.fields and not (b"event" in delivery.fields and feed.function.flow.is_regulated)


def _overrides(feed: Feed, controls: Controls) -> str:
    return lines_of(controls, feed.function) if controls.limits and feed.kind in ("queue", "events") else ""


def _is_paused(feed: Feed, controls: Controls) -> bool:
    """Whether nothing of a feed is read. Ends, and events that resolve waits or cancel runs, are always.

    The events of a paused function with limits are read, too: its intake decides on them as they come, and starts none.
    """
    if feed.kind == "queue":
        return feed.function.slug in controls.functions
    if feed.kind == "events":
        is_decided_on = feed.function.flow.is_regulated
        return feed.name in controls.events or (feed.function.slug in controls.functions and not is_decided_on)
    return False
