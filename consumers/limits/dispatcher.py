"""Dispatcher: gives places to the runs that wait in a function's backlog, as this worker has slots for them."""

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.dispatch import dispatch
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.reader import Reader
from stepstream.consumers.limits.backlog import Backlog

LOOK_EVERY_S = 1.0
AT_ONCE = 50


class Dispatcher:
    """The dispatcher of one function.

    The act that gives a place also queues the turn and delivers it to this worker; `queue` takes it in hand, as it does
    what it reads itself.
    """

    def __init__(self, wire: Wire, signals: Signals, queue: Reader, backlog: Backlog) -> None:
        self._wire = wire
        self._queue = queue
        self._backlog = backlog
        self._failing = Failing(signals, "giving places failed", function=queue.feed.group)

    async def run(self) -> None:
        """Dispatch when the backlog wakes it, and once a second for what others have left; ends with its reader."""
        while not self._queue.is_stopping:
            await self._backlog.wakeup.wait(LOOK_EVERY_S)
            await self._dispatch()

    async def _dispatch(self) -> None:
        feed, slots = self._queue.feed, self._backlog.slots
        with self._failing:  # what was delivered and is not in hand is read again; the next look is in a second
            while (room := slots.room) > 0 and feed.lease.is_fresh() and self._may_take:
                is_one = self._queue.is_paused
                consumer, most = feed.lease.consumer, 1 if is_one else min(room, AT_ONCE)
                dispatched = await dispatch(self._wire, feed.function, consumer, most, feed.overrides)
                self._queue.receive(dispatched.entries, consumer, dispatched.started)
                if dispatched.next_ms is not None:
                    self._backlog.alarm.expect(dispatched.next_ms)
                if is_one and dispatched.taken:
                    self._queue.lets_one = False
                if dispatched.taken < most:
                    break

    @property
    def _may_take(self) -> bool:
        return not self._queue.is_stopping and (not self._queue.is_paused or self._queue.lets_one)
