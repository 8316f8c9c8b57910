"""Capacity: a worker's slots, one for each turn that runs. Who goes on with a run is served before who begins one."""

import asyncio
from collections import deque


class Capacity:
    """`total` slots; `free` of them left."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._first: deque[asyncio.Future[None]] = deque()
        self._then: deque[asyncio.Future[None]] = deque()
        self._empty: list[asyncio.Future[None]] = []

    def take(self) -> bool:
        """Take a slot, if one is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def give_back(self) -> None:
        """Give a slot back and wake one who waits for it."""
        self.free += 1
        for waiting in (self._first, self._then):
            while waiting:
                future = waiting.popleft()
                if not future.done():
                    future.set_result(None)
                    return
        if self.free == self.total:
            for future in self._empty:
                if not future.done():
                    future.set_result(None)
            self._empty.clear()

    def share(self) -> int:
        """Return how many entries one read may bring: a quarter of the slots, so that reads and bodies overlap."""
        return max(1, min(self.free, self.total // 4))

    async def wait_free(self, *, first: bool) -> None:
        """Wait until a slot is free; `first` goes before the others."""
        while self.free <= 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._first if first else self._then).append(future)
            await future

    async def wait_idle(self) -> None:
        """Wait until every slot is free."""
        while self.free < self.total:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._empty.append(future)
            await future
