"""Cancelling: carry on the bulk actions that are not over, whichever functions they are about."""

from collections.abc import Awaitable, Callable, Sequence

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions import cancel_many, operations
from stepstream.checkpoint.actions.stepping import Stepped
from stepstream.consumers.delivery.failing import FailingEach

EVERY_S = 5.0
_FOR_S = 1.0


class Cancelling:
    """The bulk cancellations and the operations, looked at by every worker."""

    def __init__(self, wire: Wire, signals: Signals) -> None:
        self._wire = wire
        self._failing = FailingEach(signals, "a bulk action failed")

    async def once(self) -> float | None:
        """Take steps of each for a second; the next look comes at once while there is more to do."""
        more = await self._each(keys.cancellations(), cancel_many.cancellations, cancel_many.carry_on)
        more = await self._each(keys.operations(), operations.operations, operations.carry_on) or more
        return 0.0 if more else None

    async def _each(
        self,
        key: str,
        there: Callable[[Wire], Awaitable[Sequence[Stepped]]],
        carry_on: Callable[[Wire, str, float], Awaitable[bool]],
    ) -> bool:
        if not await self._wire.load("EXISTS", key):
            return False
        more = False
        for one in await there(self._wire):
            if not one.over:
                with self._failing.of(one.id):
                    more = await carry_on(self._wire, one.id, _FOR_S) or more
        return more
