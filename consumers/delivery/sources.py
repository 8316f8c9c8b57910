"""Sources: the streams one worker reads, each with its reader and its reclaimer, from when it is opened."""

from collections.abc import Iterator
from typing import NamedTuple

from anyio.abc import TaskGroup

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.streams import ensure_group
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.delivery import Source
from stepstream.consumers.delivery.eager_starts import EagerStarts
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.reader import Reader
from stepstream.consumers.delivery.reclaimer import Reclaimer
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Alarm


class _Opened(NamedTuple):
    source: Source
    reader: Reader
    reclaimer: Reclaimer
    failing: Failing


class Sources:
    """Opens sources, and reads them from start() on.

    `waits_expected` is set when a run begins to wait for an event whose waits this worker does not serve yet.
    """

    def __init__(self, wire: Wire, signals: Signals, exits: Exits) -> None:
        self.waits_expected = Alarm()
        self._wire = wire
        self._signals = signals
        self._exits = exits
        self._opened: list[_Opened] = []
        self._waits: set[str] = set()
        self._tasks: TaskGroup | None = None

    def __iter__(self) -> Iterator[Source]:
        """Return the open sources."""
        return iter([opened.source for opened in self._opened])

    @property
    def readers(self) -> list[Reader]:
        """The readers of the open sources."""
        return [opened.reader for opened in self._opened]

    async def open(self, source: Source, slots: Slots, since_ms: int) -> Reader:
        """Open a source whose entries are read as there are slots; a group that is not there begins at `since_ms`."""
        await ensure_group(self._wire, source.stream, source.group, since_ms)
        eager = EagerStarts(self._wire, source) if source.kind == "events" and EagerStarts.are_for(source) else None
        reader = Reader(self._wire, source, slots, self._exits, self._signals, since_ms, eager)
        failing = Failing(self._signals, "reclaiming pending entries failed", stream=source.stream)
        opened = _Opened(source, reader, Reclaimer(self._wire, reader, slots, self._signals), failing)
        self._opened.append(opened)
        if source.kind == "waits":
            self._waits.add(source.name)
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
            self._waits.discard(opened.source.name)

    async def reclaim(self) -> None:
        """Look once for pending entries to reclaim in each source; one that fails is logged and stops no other."""
        for opened in tuple(self._opened):
            with opened.failing:
                await opened.reclaimer.once()

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
        for source in self:
            if source.kind in ("events", "waits", "cancels"):
                names.setdefault(source.name, []).append(source.group)
        return names
