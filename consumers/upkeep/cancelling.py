"""Cancelling: carry on the bulk cancellations that are not done, whichever function they are about."""

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel_many import cancellations, carry_on
from stepstream.consumers.delivery.failing import FailingEach

EVERY_S = 5.0
_FOR_S = 1.0


class Cancelling:
    """The bulk cancellations, looked at by every worker."""

    def __init__(self, wire: Wire, signals: Signals) -> None:
        self._wire = wire
        self._failing = FailingEach(signals, "a bulk cancellation failed")

    async def once(self) -> float | None:
        """Take steps of each for a second; the next look comes at once while there is more to do."""
        if not await self._wire.load("EXISTS", keys.cancellations()):
            return None
        more = False
        for one in await cancellations(self._wire):
            if not one.done:
                with self._failing.of(one.id):
                    more = await carry_on(self._wire, one.id, _FOR_S) or more
        return 0.0 if more else None
