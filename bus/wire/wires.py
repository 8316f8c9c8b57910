"""Wires: the connections of one application, one for each event loop that sends from it."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from stepstream.bus import settings
from stepstream.bus.function import Function
from stepstream.bus.observe import log
from stepstream.bus.process.background import Background
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.types.check import KindsOf
from stepstream.bus.wire.wire import Wire

_Opened = tuple[Wire, Publisher]


class Wires:
    """Opened by their first use. A loop that a worker or a test has connected uses that wire instead."""

    def __init__(
        self,
        name: str,
        kinds_of: KindsOf,
        functions: Mapping[str, Function[Any, Any]],
        opened: Mapping[asyncio.AbstractEventLoop, _Opened] = {},
    ) -> None:
        """Make them; `functions` are registered before a first event, `kinds_of` are the types they give to a name."""
        self._name = name
        self._kinds_of = kinds_of
        self._functions = functions
        self._opened = dict(opened)
        self._connected: tuple[int, asyncio.AbstractEventLoop] | None = None
        """The loop that was connected last, and its process: a forked child has a copy that nobody drives."""
        self._closed_at_exit_of: Background | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def publisher(self) -> Publisher:
        """What publishes in the running loop."""
        return self._here()[1]

    @property
    def wire(self) -> Wire:
        """The wire of the running loop."""
        return self._here()[0]

    @property
    def connected_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of a worker or a test, while it runs in this process."""
        process, loop = self._connected or (0, None)
        return loop if loop is not None and process == os.getpid() and loop.is_running() else None

    def connected(self, wire: Wire) -> "Wires":
        """Return these with a wire that is open already, for the running loop; it has a worker's patience.

        A copy: an application may be in two harnesses at once.
        """
        made = Wires(self._name, self._kinds_of, self._functions, self._opened)
        made.use(wire)
        return made

    def use(self, wire: Wire) -> None:
        """Use a wire that is open already in the running loop."""
        loop = asyncio.get_running_loop()
        self._connected = os.getpid(), loop
        self._keep(loop, wire, Publisher(wire, self._kinds_of, Listeners(wire, [])))

    def disconnected(self) -> "Wires":
        """Return these without the wire that was connected, which who lent it closes."""
        lent = self._connected[1] if self._connected is not None else None
        left = {loop: opened for loop, opened in self._opened.items() if loop is not lent}
        return Wires(self._name, self._kinds_of, self._functions, left)

    def close_at_exit(self, background: Background) -> None:
        """Close what is opened in the loop of the background before that ends."""
        if self._closed_at_exit_of is not background:
            self._closed_at_exit_of = background
            background.at_exit(self.close)

    async def close(self) -> None:
        """Close the wire of the running loop."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[0].close()

    def _here(self) -> _Opened:
        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is not None and opened[0].is_in_trouble and settings.has_moved(opened[0].settings):
            self._closing = loop.create_task(opened[0].close())  # the bus dev of this folder has been started since
            opened = None
        return opened or self._open(loop)

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Opened:
        configured = settings.for_publisher()
        wire = Wire(configured, self._name, log.notice)
        listeners = Listeners(wire, [self._functions])
        return self._keep(loop, wire, Publisher(wire, self._kinds_of, listeners, configured.timeout_ms / 1_000))

    def _keep(self, loop: asyncio.AbstractEventLoop, wire: Wire, publisher: Publisher) -> _Opened:
        for other in [one for one in self._opened if one.is_closed()]:
            del self._opened[other]
        self._opened[loop] = wire, publisher
        return wire, publisher
