"""SlotQueue: started runs that have no slot yet, oldest first. Those that get none within a second are given back."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable

from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.slots import Slots

LONGEST_S = 1.0


class SlotQueue:
    """Begins, once a loop tick, as many as there are free slots."""

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: Slots) -> None:
        self._loop = loop
        self._capacity = capacity
        self._entries: deque[tuple[float, Delivery, Callable[[], None]]] = deque()
        self._filling = False
        self._context = contextvars.Context()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, delivery: Delivery, begin: Callable[[], None]) -> None:
        """Call `begin` when there is a slot: now, or later."""
        if not self._entries and self._capacity.take_waiting():
            begin()
        else:
            self._entries.append((time.monotonic(), delivery, begin))

    def slot_freed(self) -> None:
        """A slot was given back."""
        if self._entries and not self._filling:
            self._filling = True
            self._loop.call_soon(self._fill, context=self._context)

    def _fill(self) -> None:
        self._filling = False
        while self._entries and self._capacity.take_waiting():
            self._entries.popleft()[2]()

    def overdue(self, now: float) -> list[Delivery]:
        """Take out those that have waited for a second."""
        late = 0
        while late < len(self._entries) and now - self._entries[late][0] > LONGEST_S:
            late += 1
        return [self._left() for _ in range(late)]

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those for which `is_meant` is true."""
        others = [entry for entry in self._entries if not is_meant(entry[1])]
        out = [entry[1] for entry in self._entries if is_meant(entry[1])]
        self._entries = deque(others)
        self._capacity.wait_no_more(len(out))
        return out

    def _left(self) -> Delivery:
        self._capacity.wait_no_more()
        return self._entries.popleft()[1]
