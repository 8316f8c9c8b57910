"""Subscriptions: which ends of runs have subscribers beside a run's caller: on_failure, functions on `bus/function.…`.

Workers write nothing for an end without subscribers. A new subscriber is known within a second.
"""

from stepstream.bus.function import Function
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.ends.ends import LISTENED
from stepstream.checkpoint.registry import trigger_names


class Subscriptions:
    """What one worker knows of subscribers."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self._statuses: dict[str, str] = {}

    async def look(self, wire: Wire) -> None:
        """Look which ends functions subscribe to."""
        names = frozenset(name for name in await trigger_names(wire) if name in LISTENED)
        if names != self.names:
            self.names = names
            self._statuses.clear()

    def statuses(self, function: Function) -> str:
        """Return the statuses with which the ends of a function have subscribers, as words."""
        statuses = self._statuses.get(function.slug)
        if statuses is None:
            subscribed = {status for name in self.names for status in LISTENED[name].split()}
            if function.failure is not None:
                subscribed.add("failed")
            statuses = self._statuses[function.slug] = " ".join(sorted(subscribed))
        return statuses
