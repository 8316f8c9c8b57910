"""Discovery: which event names a function reads. Those of a wildcard appear when such an event is published first.

A publisher writes a name to `bus:event-names` before its first event, and the group begins where the trigger was
registered, so nothing is missed between two looks.
"""

import time

from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire

ALL_AGAIN_S = 15.0
"""How long the number of names is believed to tell whether there is a new one."""


class Discovery:
    """The event names of one function. Whoever opens one says so."""

    def __init__(self, wire: Wire, function: Function, all_again_s: float = ALL_AGAIN_S) -> None:
        self._all_again_s = all_again_s
        self.function = function
        self._wire = wire
        self._opened: set[str] = set()
        self._count, self._until = 0, 0.0

    @property
    def has_patterns(self) -> bool:
        """Whether new names may come."""
        return any(trigger.is_pattern for trigger in self.function.triggers)

    async def unopened(self) -> list[str]:
        """Return the names to read that are not open yet."""
        names = [trigger.name for trigger in self.function.triggers if not trigger.is_pattern]
        if self.has_patterns:
            published = await patiently(lambda: self._wire.call("ZRANGE", keys.event_names(), 0, -1))
            names += [name for name in map(codec.text, published) if self.function.triggers_of(name)]
        return [name for name in dict.fromkeys(names) if name not in self._opened]

    async def new(self) -> list[str]:
        """Return what unopened() does; all names are read when their number has changed since all were open.

        And every `all_again_s`: one may have come while another went.
        """
        count, now = await self._wire.call("ZCARD", keys.event_names()), time.monotonic()
        if count == self._count and now < self._until:
            return []
        names = await self.unopened()
        if not names:
            self._count, self._until = count, now + self._all_again_s
        return names

    def opened(self, name: str) -> None:
        """A name is open."""
        self._opened.add(name)
