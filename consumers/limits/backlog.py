"""Backlog: what one worker knows of a function's runs that wait for a place of a limit."""

from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Alarm, Wakeup


class Backlog:
    """Wakes the dispatcher of a function: here, or in another worker.

    `wakeup` is rung when a run may get a place: a run came, or a place or a slot was given back. `slots` are the
    worker's; `alarm` is that of the function's timers.
    """

    def __init__(self, wire: Wire, slug: str, slots: Slots, alarm: Alarm) -> None:
        self.slots = slots
        self.alarm = alarm
        self.wakeup = Wakeup()
        self._wire = wire
        self._slug = slug

    def grew(self) -> None:
        """Runs were added: dispatch here when there is a free slot; if not, perhaps another worker has one."""
        if self.slots.room > 0:
            self.wakeup.ring()
        else:
            self._wire.tell("XADD", keys.queue(self._slug, FIRST), "*", "bell", "admitted")
