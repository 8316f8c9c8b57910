"""The store: the site's connection to Redis, opened by the first request that needs it."""

from collections.abc import Sequence
from typing import Any

import structlog
from starlette.requests import HTTPConnection

from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings, read
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire
from stepstream.bus.wire.wires import Opened, PerLoop

PATIENCE_S = 4.0
"""How long who looks at something waits for Redis: then they are told what is wrong, though others wait on."""


class Store:
    """One connection, opened in the loop that serves: an application that mounts the site does not run its lifespan.

    Without settings it reads the environment when it opens, as the bus does when it first sends: a test imports the
    application, and only then says where its Redis is.
    """

    def __init__(self, settings: Settings | None, buses: Sequence[Bus]) -> None:
        self._settings = settings
        self._buses = buses
        self._per_loop = PerLoop(self._open)

    @property
    def wire(self) -> Wire:
        """The connection to Redis, in the running loop."""
        return self._per_loop.here().wire

    @property
    def publisher(self) -> Publisher:
        """What appends events."""
        return self._per_loop.here().publisher

    def _open(self) -> Opened:
        wire = Wire(self._settings or read()[0], "bus-web", structlog.get_logger("web").warning)
        wire.open_blobs()
        return Opened(wire, Publisher(wire, self._kinds_of, Listeners(wire, [bus.functions for bus in self._buses])))

    async def register(self) -> None:
        """Register the functions of the buses, as far as nobody has: as soon as Redis answers, if it takes for ever."""

        async def once() -> None:
            opened = self._per_loop.here()  # of the server that is meant now
            await opened.publisher.register(opened.wire.settings.timeout_ms / 1_000)

        await patiently(once)

    def _kinds_of(self, name: str) -> list[type[Any]]:
        return [kind for bus in self._buses for kind in bus.kinds.of(name)]

    async def close(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        await self._per_loop.close()


def publisher_of(request: HTTPConnection) -> Publisher:
    """Return what appends events for the site that serves a request."""
    return request.app.state.store.publisher


def wire_of(request: HTTPConnection) -> Wire:
    """Return the connection to Redis of the site that serves a request."""
    return request.app.state.store.wire
