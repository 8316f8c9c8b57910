"""LimitedQueue: what the queue of a function with limits brings, and where each goes.

Turns that have their places take the shared ones and start; new runs (a call, a schedule, a buffer whose time is over)
go to the intake; an entry without a run only woke this worker.
"""

import asyncio
from collections.abc import Sequence

from stepstream.bus.observe.signals import Signals
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery, EntryHandler
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.limits.intake import Intake
from stepstream.consumers.limits.shared_places import SharedPlaces


class LimitedQueue:
    """Handles the queue of one function; `places` is None when it shares no limit with others."""

    def __init__(
        self, signals: Signals, exits: Exits, places: SharedPlaces | None, intake: Intake, executor: EntryHandler
    ) -> None:
        self._signals = signals
        self._exits = exits
        self._places = places
        self._intake = intake
        self._executor = executor
        self._placing = Background(signals)

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the turns, let new runs be decided on."""
        turns: list[Delivery] = []
        new: list[Delivery] = []
        for delivery in deliveries:
            if b"run" not in delivery.fields:
                self._exits.leave(delivery, "passed")
            elif b"event" in delivery.fields:
                new.append(delivery)
            else:
                turns.append(delivery)
        if turns and self._places is not None:
            self._placing.start(self._place(self._places, turns))
        elif turns:
            self._executor.begin(turns)
        if new:
            self._intake.begin(new)

    async def settled(self) -> None:
        """Wait until every turn that was read has its shared places, or waits in the backlog again."""
        await self._placing.settled()

    async def _place(self, places: SharedPlaces, turns: Sequence[Delivery]) -> None:
        """Start those turns that get their shared places; the others wait in the backlog again."""
        found = await asyncio.gather(*(self._is_placed(places, delivery) for delivery in turns))
        ready = [delivery for delivery, is_placed in zip(turns, found, strict=True) if is_placed]
        if ready:
            self._executor.begin(ready)

    async def _is_placed(self, places: SharedPlaces, delivery: Delivery) -> bool:
        function = delivery.feed.function
        try:
            if await places.take(function, delivery):
                return delivery.is_in_hand
            self._exits.leave(delivery, "passed")
        except ValueError as error:
            self._exits.drop_senseless(delivery, error)
        except Exception as error:  # noqa: BLE001 - the loop's top: it stays pending and is read again
            self._exits.leave(delivery, "lost")
            self._signals.notice("asking for shared places failed", function=function.slug, error=repr(error))
        return False
