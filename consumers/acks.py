"""Acks: acknowledgements of a loop tick share one command per stream, in a later write than the end they follow."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from bus.failpoints import reached
from bus.wire.streams import acknowledge, acknowledge_turns, release
from bus.wire.wire import Wire
from consumers.delivery import Delivery, Source
from consumers.quiet import outside


class Taker(Protocol):
    """Who does what is read: the executor runs runs, the courier carries what others wait for."""

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Take entries of one source."""

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give entries of one source back."""


class Acks:
    """Collects what is done and tells Redis, until it has heard."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._done: dict[Source, list[tuple[Delivery, str]]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def add(self, delivery: Delivery, failpoint: str = "") -> None:
        """Acknowledge a delivery with this tick's others; it stays in hand until Redis has answered."""
        if not self._done:
            self._loop.call_soon(self._flush)
        self._done.setdefault(delivery.source, []).append((delivery, failpoint))

    async def settled(self) -> None:
        """Wait until everything added so far is told."""
        while self._done or self._telling:
            await asyncio.sleep(0)
            if self._telling:
                await asyncio.wait(tuple(self._telling))

    def _flush(self) -> None:
        done, self._done = self._done, {}
        for source, deliveries in done.items():
            task = outside(self._loop, self._tell(source, deliveries))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, source: Source, deliveries: list[tuple[Delivery, str]]) -> None:
        ids = [delivery.id for delivery, _ in deliveries]
        if source.is_deleted_when_done:
            await acknowledge_turns(self._wire, source.stream, source.group, ids)
        else:
            await acknowledge(self._wire, source.stream, source.group, ids)
        for delivery, failpoint in deliveries:
            source.drop(delivery)
            if failpoint:
                reached(failpoint)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give entries of one source back for any worker to claim."""
        source = deliveries[0].source
        for delivery in deliveries:
            source.drop(delivery)
        ids = [delivery.id for delivery in deliveries]
        await release(self._wire, source.stream, source.group, deliveries[0].consumer, ids)
        reached("release.replied")
