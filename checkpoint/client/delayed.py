"""Delayed: `app.delayed` lists the events that are to be published later, and takes them back."""

from typing import Any

from stepstream.bus.bus import Bus
from stepstream.checkpoint.delayed import DelayedEvent, list_delayed, take_back


class Delayed:
    """The delayed events of the installation an application belongs to."""

    def __init__(self, bus: Bus[Any]) -> None:
        self._bus = bus

    async def list(self, name: str | None = None, *, limit: int = 100) -> list[DelayedEvent]:
        """Return the events of all names, or of one, the earliest first."""
        return await list_delayed(self._bus.wire, name, limit)

    async def cancel(self, name: str, id: str) -> None:
        """Take an event back. Raises DelayedNotFound when it has been published, or never was."""
        await take_back(self._bus.wire, name, id)


class DelayedSync:
    """What Delayed does, for code without an event loop."""

    def __init__(self, bus: Bus[Any], delayed: Delayed) -> None:
        self._bus = bus
        self._delayed = delayed

    def list(self, name: str | None = None, *, limit: int = 100) -> list[DelayedEvent]:
        """Return the events, as Delayed.list does."""
        return self._bus.sync(
            lambda: self._delayed.list(name, limit=limit), "app.delayed_sync.list", "app.delayed.list"
        )

    def cancel(self, name: str, id: str) -> None:
        """Take an event back, as Delayed.cancel does."""
        self._bus.sync(lambda: self._delayed.cancel(name, id), "app.delayed_sync.cancel", "app.delayed.cancel")
