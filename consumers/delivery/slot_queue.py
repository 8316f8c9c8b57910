"""SlotQueue: started runs that have no slot yet, oldest first. Those that get none within a second are given back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.checkpoint.run.start import StartReply, StartRequest
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.slots import Slots

LONGEST_S = 1.0


class StartedRun(msgspec.Struct, frozen=True, eq=False):
    """A run that may have its code run: the entry in hand, what start was asked for it, and what it replied.

    `event` is the entry's own, if that has begun the run.
    """

    delivery: Delivery
    request: StartRequest
    reply: StartReply
    event: RawEvent | None = None

    def first_event(self) -> RawEvent:
        """Return the event that began the run: as it is stored, where it is."""
        stored = self.reply.event or (self.request.event if self.event is None else None)
        if stored is None:
            assert self.event is not None
            return self.event
        try:
            return codec.decode_as(stored, RawEvent)
        except msgspec.MsgspecError:
            return self.event or RawEvent("", "", msgspec.Raw(stored), 0)


class SlotQueue:
    """Lower parts add runs and say when a slot is free; the executor awaits `next`."""

    def __init__(self, slots: Slots) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._runs: deque[tuple[float, StartedRun]] = deque()
        self._awaited: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: StartedRun) -> None:
        """Let a run have a slot when it is its turn."""
        self._runs.append((time.monotonic(), run))
        self._wake()

    def slot_freed(self) -> None:
        """A slot was given back."""
        self._wake()

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done() and self._runs and self._slots.free > 0:
            self._awaited.set_result(None)

    async def next(self) -> list[StartedRun]:
        """Wait for runs that can have a slot; each that is returned has one."""
        while True:
            ready: list[StartedRun] = []
            while self._runs and self._slots.take_waiting():
                ready.append(self._runs.popleft()[1])
            if ready:
                return ready
            self._awaited = self._loop.create_future()
            await self._awaited

    def overdue(self, now: float) -> list[Delivery]:
        """Take out those that have waited for a second."""
        late = 0
        while late < len(self._runs) and now - self._runs[late][0] > LONGEST_S:
            late += 1
        self._slots.wait_no_more(late)
        return [self._runs.popleft()[1].delivery for _ in range(late)]

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those for which `is_meant` is true."""
        out = [run.delivery for _, run in self._runs if is_meant(run.delivery)]
        self._runs = deque(entry for entry in self._runs if not is_meant(entry[1].delivery))
        self._slots.wait_no_more(len(out))
        return out
