"""Subscriptions: which ends somebody hears of beside a run's caller: on_failure, and functions on `bus/function.…`.

Workers write nothing for ends that nobody hears of. Who begins to listen is known within a second.
"""

from stepstream.bus.function import Function
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import trigger_names
from stepstream.checkpoint.waits.ends import LISTENED


class Subscriptions:
    """What one worker knows of listeners."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self._words: dict[str, str] = {}

    async def look(self, wire: Wire) -> None:
        """Look who listens."""
        names = frozenset(name for name in await trigger_names(wire) if name in LISTENED)
        if names != self.names:
            self.names = names
            self._words.clear()

    def statuses(self, function: Function) -> str:
        """Return the statuses of a function's ends that somebody hears of, as words."""
        words = self._words.get(function.slug)
        if words is None:
            heard = {status for name in self.names for status in LISTENED[name].split()}
            if function.failure is not None:
                heard.add("failed")
            words = self._words[function.slug] = " ".join(sorted(heard))
        return words
