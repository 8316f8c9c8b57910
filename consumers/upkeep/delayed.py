"""Delayed: publish the events whose time has come, whoever is to read them. Every worker looks."""

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.delayed import AT_ONCE, due_names, publish_due, put_off
from stepstream.consumers.delivery.failing import FailingEach

_LOOK_EVERY_S = 1.0


class Delayed:
    """The delayed events of all names."""

    def __init__(self, wire: Wire, signals: Signals) -> None:
        self._wire = wire
        self._signals = signals
        self._failing = FailingEach(signals, "publishing the delayed events of a name failed")

    async def once(self) -> float:
        """Publish what is due; return seconds until the next look."""
        names, next_ms = await due_names(self._wire)
        more = len(names) == AT_ONCE
        for name in names:
            more = await self._publish(name) or more
        if more:
            return 0.0
        return _LOOK_EVERY_S if next_ms is None else min(_LOOK_EVERY_S, (next_ms + 1) / 1_000)

    async def _publish(self, name: str) -> bool:
        """Publish what is due of a name; return whether more is. A name that fails is put off."""
        with self._failing.of(name):
            due = await publish_due(self._wire, name)
            for lost in due.lost:
                self._signals.notice("a delayed event is lost: its fields are gone", name=name, id=lost)
            return due.more
        await put_off(self._wire, name)
        return False
