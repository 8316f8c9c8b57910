"""Line: entries in hand that have no slot yet, oldest first. Those that get none within a second are given back."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable

from consumers.capacity import Capacity
from consumers.delivery import Delivery, Source

LONGEST_S = 1.0


class Line:
    """Starts, once a loop tick, as many as there are free slots: those of one source together."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, capacity: Capacity, start: Callable[[list[Delivery]], None]
    ) -> None:
        self._loop = loop
        self._capacity = capacity
        self._start = start
        self._entries: deque[tuple[float, Delivery]] = deque()
        self._filling = False
        self._context = contextvars.Context()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, delivery: Delivery) -> None:
        """Let an entry wait."""
        self._entries.append((time.monotonic(), delivery))
        self._capacity.waiting += 1

    def slot_freed(self) -> None:
        """A slot was given back."""
        if self._entries and not self._filling:
            self._filling = True
            self._loop.call_soon(self._fill, context=self._context)

    def _fill(self) -> None:
        self._filling = False
        ready: dict[Source, list[Delivery]] = {}
        while self._entries and self._capacity.take():
            delivery = self._pop()
            ready.setdefault(delivery.source, []).append(delivery)
        for deliveries in ready.values():
            self._start(deliveries)

    def _pop(self) -> Delivery:
        self._capacity.waiting -= 1
        return self._entries.popleft()[1]

    def overdue(self, now: float) -> list[Delivery]:
        """Take out those that have waited for a second."""
        late: list[Delivery] = []
        while self._entries and now - self._entries[0][0] > LONGEST_S:
            late.append(self._pop())
        return late

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those for which `is_meant` is true."""
        out = [delivery for _, delivery in self._entries if is_meant(delivery)]
        self._entries = deque((since, delivery) for since, delivery in self._entries if not is_meant(delivery))
        self._capacity.waiting -= len(out)
        return out
