"""Wires: the connections of one application, or of one site: one for each event loop that uses them."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stepstream.bus import settings
from stepstream.bus.function import Function
from stepstream.bus.observe import log
from stepstream.bus.process.background import Background
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.types.check import KindsOf
from stepstream.bus.wire.wire import Wire


class Opened(NamedTuple):
    """A wire, and what publishes through it."""

    wire: Wire
    publisher: Publisher


class PerLoop:
    """What is opened by its first use in an event loop, and used in that loop from then on."""

    def __init__(
        self, opens: Callable[[], Opened], opened: Mapping[asyncio.AbstractEventLoop, Opened] | None = None
    ) -> None:
        self._opens = opens
        self._opened = dict(opened or {})
        self._closing: asyncio.Task[None] | None = None

    def here(self) -> Opened:
        """Return what is open in the running loop."""
        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is not None and opened.wire.is_in_trouble and settings.has_moved(opened.wire.settings):
            self._closing = loop.create_task(opened.wire.close())  # the bus dev of this folder has been started since
            opened = None
        return opened or self.keep(self._opens())

    def keep(self, opened: Opened) -> Opened:
        """Use this in the running loop."""
        for other in [one for one in self._opened if one.is_closed()]:
            del self._opened[other]
        self._opened[asyncio.get_running_loop()] = opened
        return opened

    def without(self, loop: asyncio.AbstractEventLoop | None) -> "PerLoop":
        """Return a copy that has nothing open in a loop."""
        return PerLoop(self._opens, {one: opened for one, opened in self._opened.items() if one is not loop})

    async def close(self) -> None:
        """Close what is open in the running loop; its next use opens another."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.wire.close()


class Wires:
    """Those that an application sends through. A loop that a worker or a test has connected uses that wire instead."""

    def __init__(
        self,
        name: str,
        kinds_of: KindsOf,
        functions: Mapping[str, Function[Any, Any]],
        per_loop: PerLoop | None = None,
    ) -> None:
        """Make them; `functions` are registered before a first event, `kinds_of` are the types they give to a name."""
        self._name = name
        self._kinds_of = kinds_of
        self._functions = functions
        self._per_loop = per_loop or PerLoop(self._open)
        self._connected: tuple[int, asyncio.AbstractEventLoop] | None = None
        """The loop that was connected last, and its process: a forked child has a copy that nobody drives."""
        self._closed_at_exit_of: Background | None = None

    @property
    def publisher(self) -> Publisher:
        """What publishes in the running loop."""
        return self._per_loop.here().publisher

    @property
    def wire(self) -> Wire:
        """The wire of the running loop."""
        return self._per_loop.here().wire

    @property
    def connected_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of a worker or a test, while it runs in this process."""
        process, loop = self._connected or (0, None)
        return loop if loop is not None and process == os.getpid() and loop.is_running() else None

    def connected(self, wire: Wire) -> "Wires":
        """Return these with a wire that is open already, for the running loop; it has a worker's patience.

        A copy: an application may be in two harnesses at once.
        """
        made = Wires(self._name, self._kinds_of, self._functions, self._per_loop.without(None))
        made.use(wire)
        return made

    def use(self, wire: Wire) -> None:
        """Use a wire that is open already in the running loop."""
        self._connected = os.getpid(), asyncio.get_running_loop()
        self._per_loop.keep(Opened(wire, Publisher(wire, self._kinds_of, Listeners(wire, []))))

    def disconnected(self) -> "Wires":
        """Return these without the wire that was connected, which who lent it closes."""
        lent = self._connected[1] if self._connected is not None else None
        return Wires(self._name, self._kinds_of, self._functions, self._per_loop.without(lent))

    def close_at_exit(self, background: Background) -> None:
        """Close what is opened in the loop of the background before that ends."""
        if self._closed_at_exit_of is not background:
            self._closed_at_exit_of = background
            background.at_exit(self.close)

    async def close(self) -> None:
        """Close the wire of the running loop."""
        await self._per_loop.close()

    def _open(self) -> Opened:
        configured = settings.for_publisher()
        wire = Wire(configured, self._name, log.notice)
        listeners = Listeners(wire, [self._functions])
        return Opened(wire, Publisher(wire, self._kinds_of, listeners, configured.timeout_ms / 1_000))
