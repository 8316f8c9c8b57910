"""The store: the site's connection to Redis, opened by the first request that needs it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from starlette.requests import Request

from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings, has_moved, read
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire


class Store:
    """One connection, opened in the loop that serves: an application that mounts the site does not run its lifespan.

    Without settings it reads the environment when it opens, as the bus does when it first sends: a test imports the
    application, and only then says where its Redis is.
    """

    def __init__(self, settings: Settings | None, buses: Sequence[Bus]) -> None:
        self._settings = settings
        self._buses = buses
        self._opened: tuple[asyncio.AbstractEventLoop, Wire, Publisher] | None = None
        self._listeners: Listeners | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def wire(self) -> Wire:
        """The connection to Redis, in the running loop."""
        return self._open()[1]

    @property
    def publisher(self) -> Publisher:
        """What appends events."""
        return self._open()[2]

    def _open(self) -> tuple[asyncio.AbstractEventLoop, Wire, Publisher]:
        loop = asyncio.get_running_loop()
        opened = self._opened
        if opened is not None and opened[0] is loop and opened[1].is_in_trouble and has_moved(opened[1].settings):
            # The bus dev of this folder has been started since.
            self._opened, self._closing = None, loop.create_task(opened[1].close())
        if self._opened is None or self._opened[0] is not loop:  # a test's loop has ended, and its connection with it
            wire = Wire(self._settings or read()[0], "bus-web", structlog.get_logger("web").warning)
            listeners = self._listeners = Listeners(wire, [bus.functions for bus in self._buses])
            self._opened = (loop, wire, Publisher(wire, self._kinds_of, listeners))
        return self._opened

    async def register(self) -> None:
        """Register the functions of the buses, as far as nobody has: as soon as Redis answers, if it takes for ever."""

        async def once() -> None:
            wire = self.wire  # of the server that is meant now
            assert self._listeners is not None
            await self._listeners.get_ready(set(), wire.settings.timeout_ms / 1_000)

        await patiently(once)

    def _kinds_of(self, name: str) -> list[type[Any]]:
        return [kind for bus in self._buses for kind in bus.kinds.of(name)]

    async def close(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] is asyncio.get_running_loop():
            await opened[1].close()


def wire_of(request: Request) -> Wire:
    """Return the connection to Redis of the site that serves a request."""
    return request.app.state.store.wire
