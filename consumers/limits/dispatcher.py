"""Dispatcher: runs of a function with limits that wait in line get their places as this worker has slots for them."""

from collections.abc import Callable

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.dispatch import pop
from stepstream.consumers.delivery.delivery import Source
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Wakeup
from stepstream.consumers.executor import Executor

LOOK_EVERY_S = 1.0
AT_ONCE = 50


class Dispatcher:
    """The lines of one function.

    `queue` is where what got its place is read; `line` rings when something may have a place: a run came, a place or a
    slot was given back; `expect` is told when a timer is due.
    """

    def __init__(
        self,
        wire: Wire,
        queue: Source,
        line: Wakeup,
        capacity: Slots,
        executor: Executor,
        signals: Signals,
        expect: Callable[[int], None],
    ) -> None:
        self._wire = wire
        self._queue = queue
        self._capacity = capacity
        self._executor = executor
        self._line = line
        self._failing = Failing(signals, "giving places failed", function=queue.group)
        self._expect = expect
        self._stopping = False

    def stop(self) -> None:
        """Take no more."""
        self._stopping = True

    async def run(self) -> None:
        """Look when the line rings, and once a second for what others have left; runs until cancelled."""
        while not self._stopping:
            await self._line.wait(LOOK_EVERY_S)
            await self._pop()

    async def _pop(self) -> None:
        with self._failing:  # what was read and is not in hand is taken up as a stranger; the next look is in a second
            while (room := self._capacity.room) > 0 and self._queue.lease.is_fresh() and not self._stopping:
                consumer, most = self._queue.lease.consumer, min(room, AT_ONCE)
                popped = await pop(self._wire, self._queue.function, consumer, most)
                deliveries = self._queue.receive(popped.entries, consumer)
                due = [delivery for delivery in deliveries if delivery.id not in popped.started]
                for delivery in deliveries:
                    if delivery.id in popped.started:
                        self._executor.begin_started(delivery, *popped.started[delivery.id])
                if due:
                    self._queue.handler.begin(due)
                if popped.next_ms is not None:
                    self._expect(popped.next_ms)
                if popped.taken < most:
                    break
