"""Discovery: which event names a function reads. Those of a wildcard appear when such an event is published first.

A publisher writes a name to `bus:event-names` before its first event, and the group begins where the trigger was
registered, so nothing is missed between two looks.
"""

from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire


class Discovery:
    """The event names of one function. Whoever opens one says so."""

    def __init__(self, wire: Wire, function: Function) -> None:
        self.function = function
        self._wire = wire
        self._opened: set[str] = set()
        self._count = 0

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
        """Return what unopened() does; all names are read only when their number has changed since all were open."""
        count = await self._wire.call("ZCARD", keys.event_names())
        if count == self._count:
            return []
        names = await self.unopened()
        if not names:
            self._count = count
        return names

    def opened(self, name: str) -> None:
        """A name is open."""
        self._opened.add(name)
