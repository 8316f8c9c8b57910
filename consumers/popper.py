"""Popper: runs of a function with limits that wait in line get their places as this worker has slots for them."""

import asyncio
from collections.abc import Callable

from bus.errors import BusError, StoreUnavailable
from bus.observe.signals import Signals
from bus.wire.wire import Wire
from checkpoint.pop import pop
from consumers.acks import Taker
from consumers.capacity import Capacity
from consumers.delivery import Source
from consumers.executor import Executor
from consumers.quiet import outside

LOOK_EVERY_S = 1.0
AT_ONCE = 50


class Popper:
    """The lines of one function. `queue` is where what got its place is read; `expect` is told when a timer is due."""

    def __init__(
        self,
        wire: Wire,
        queue: Source,
        capacity: Capacity,
        executor: Executor,
        taker: Taker,
        signals: Signals,
        expect: Callable[[int], None],
    ) -> None:
        self._wire = wire
        self._queue = queue
        self._capacity = capacity
        self._executor = executor
        self._taker = taker
        self._signals = signals
        self._expect = expect
        self._loop = asyncio.get_running_loop()
        self._popping: asyncio.Task[None] | None = None
        self._again = False
        self._stopping = False

    def look(self) -> None:
        """Something may have a place now: a run came, a place or a slot was given back, a bell rang."""
        self._again = True
        if self._popping is None and not self._stopping:
            self._popping = outside(self._loop, self._pop())

    def stop(self) -> None:
        """Take no more."""
        self._stopping = True

    async def run(self) -> None:
        """Look once a second, for what others have left; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    async def _pop(self) -> None:
        try:
            while self._again and not self._stopping:
                self._again = False
                while (room := self._capacity.room) > 0 and self._queue.lease.begun and not self._stopping:
                    consumer, most = self._queue.lease.consumer, min(room, AT_ONCE)
                    popped = await pop(self._wire, self._queue.function, consumer, most)
                    deliveries = self._queue.receive(popped.entries, consumer)
                    due = [delivery for delivery in deliveries if delivery.id not in popped.started]
                    for delivery in deliveries:
                        if delivery.id in popped.started:
                            self._executor.begin_started(delivery, *popped.started[delivery.id])
                    if due:
                        self._taker.begin(due)
                    if popped.next_ms is not None:
                        self._expect(popped.next_ms)
                    if popped.taken < most:
                        break
        except StoreUnavailable:
            pass  # what was read is taken up as a stranger; the next look is in a second
        except BusError as error:
            self._signals.notice("giving places failed", function=self._queue.group, error=str(error))
        finally:
            self._popping = None
