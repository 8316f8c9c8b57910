"""Discovery: which streams a function reads. Those of a wildcard appear when an event of that name is published first.

A publisher writes a name to `bus:event-names` before its first event, and the group begins where the trigger was
registered, so nothing is missed between two looks.
"""

import asyncio
from collections.abc import Awaitable, Callable

from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.failing import Failing

LOOK_EVERY_S = 1.0


class Discovery:
    """The event names of one function; `open_name` begins to read one."""

    def __init__(self, wire: Wire, function: Function, open_name: Callable[[str], Awaitable[None]]) -> None:
        self._wire = wire
        self._function = function
        self._open_name = open_name
        self._open: set[str] = set()
        self._seen = 0

    @property
    def has_patterns(self) -> bool:
        """Whether new names may come."""
        return any(trigger.is_pattern for trigger in self._function.triggers)

    async def look(self) -> None:
        """Open the names that are not open yet."""
        names = [trigger.name for trigger in self._function.triggers if not trigger.is_pattern]
        if self.has_patterns:
            published = await patiently(lambda: self._wire.call("ZRANGE", keys.event_names(), 0, -1))
            names += [name for name in map(codec.text, published) if self._function.triggers_of(name)]
        for name in names:
            if name not in self._open:
                await self._open_name(name)
                self._open.add(name)

    async def watch(self, signals: Signals) -> None:
        """Look once a second whether there are more names than before; runs until cancelled."""
        failing = Failing(signals, "looking for new event names failed", function=self._function.slug)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with failing:
                count = await self._wire.call("ZCARD", keys.event_names())
                if count != self._seen:
                    await self.look()
                    self._seen = count
