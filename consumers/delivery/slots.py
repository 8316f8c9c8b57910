"""Slots: how many turns a worker runs at once. Queue entries, which continue runs, come before new events."""

import asyncio
from collections import deque

from stepstream.bus.wire.bounds import MOST_ENTRIES

BEAT_S = 0.1
_AHEAD_S = 0.005


class Slots:
    """`total` slots; `free` of them left; `waiting` entries in hand have none yet."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self.waiting = 0
        self._ahead = 0
        self._given_back = 0
        self._first: deque[asyncio.Future[None]] = deque()
        self._then: deque[asyncio.Future[None]] = deque()
        self._empty: list[asyncio.Future[None]] = []

    @property
    def room(self) -> int:
        """How many more entries may be read: for the free slots, and for those that will be free within 5 ms.

        Short bodies would otherwise leave their slot empty while the next entry is on its way; where bodies take long,
        nothing is read ahead, and entries are left to workers that have a slot.
        """
        return self.free + self._ahead - self.waiting

    @property
    def _is_idle(self) -> bool:
        return self.free == self.total and not self.waiting

    def beat(self, *, busy: bool) -> None:
        """Called every 100 ms while there is work, and once with busy=False when there is none left."""
        self._ahead = min(self.total // 4, int(self._given_back * _AHEAD_S / BEAT_S)) if busy else 0
        self._given_back = 0

    def take(self) -> bool:
        """Take a slot, if one is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def take_waiting(self) -> bool:
        """Take a slot for one of those that wait, if one is free."""
        if not self.take():
            return False
        self.waiting -= 1
        return True

    def wait(self, count: int = 1) -> None:
        """So many entries in hand will want a slot."""
        self.waiting += count

    def wait_no_more(self, count: int = 1) -> None:
        """So many of those that wait want no slot any more."""
        for _ in range(count):
            self.waiting -= 1
            self._wake()

    def give_back(self) -> None:
        """Give a slot back and wake one who waits for it."""
        self.free += 1
        self._given_back += 1
        self._wake()

    def _wake(self) -> None:
        for waiting in (self._first, self._then):
            while waiting:
                future = waiting.popleft()
                if not future.done():
                    future.set_result(None)
                    return
        if self._is_idle:
            for future in self._empty:
                if not future.done():
                    future.set_result(None)
            self._empty.clear()

    def share(self) -> int:
        """Return how many entries one read may bring: a quarter of the slots, so that reads and bodies overlap."""
        return max(1, min(self.room, self.total // 4, MOST_ENTRIES))

    async def wait_room(self, *, first: bool) -> None:
        """Wait until there is room for an entry; `first` goes before the others."""
        while self.room <= 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._first if first else self._then).append(future)
            await future

    def decline(self) -> None:
        """Let the next have the room that wait_room() waited for."""
        self._wake()

    async def wait_idle(self) -> None:
        """Wait until every slot is free, and nothing waits for one."""
        while not self._is_idle:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._empty.append(future)
            await future
