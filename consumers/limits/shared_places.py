"""Shared places: limits that several functions share. They lie in a slot of their own, so each place is a lease.

A turn that has its function's places asks for the shared ones before it starts. Without one its run goes back into the
backlog, and is tried when somebody gives one back, or within a second. So is a run that was reclaimed from an expired
consumer: its place may be another's by now.
"""

from collections.abc import Sequence

from stepstream.bus.errors import BusError
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.leases import Leases, Place
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.shared import give_place, take_place, try_backlog, wait_in_backlog
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.failing import tell


class SharedPlaces:
    """The shared places held for the entries in hand of one worker. The lease thread renews them."""

    def __init__(self, wire: Wire, signals: Signals, leases: Leases) -> None:
        self._wire = wire
        self._signals = signals
        self._leases = leases
        self._held: dict[Delivery, list[Place]] = {}
        self._giving = Background(signals)

    async def take(self, function: Function, delivery: Delivery) -> bool:
        """Take the shared places a turn needs. False: its run waits in the backlog again, and its entry may go."""
        run, turn = delivery.fields[b"run"].decode(), delivery.fields.get(b"turn", b"1").decode()
        for limit_key in delivery.fields.get(b"holds", b"").decode().split("\n"):
            rule = function.flow.rule_of(limit_key)
            if rule is None or rule.shared is None:
                continue
            # With the turn in its name, a turn that leaves late never gives back what the next one has taken.
            place = Place(f"{rule.shared}={limit_key.partition(':')[2]}", f"{function.slug}|{run}|{turn}", rule.limit)
            sure, over = self._leases.sure_until(), delivery.feed.overrides
            if await take_place(self._wire, place, function.slug, limit_key, sure, over):
                self._held.setdefault(delivery, []).append(place)
                self._leases.hold(place)
            else:
                # First: once its run is in the backlog it may be dispatched, and ask under the same name.
                await self._give_all(self._let_go(delivery))
                if await self._wait(function, delivery, run, limit_key):
                    return False
                # The run has moved on since, and start will say so.
        if not delivery.is_in_hand:  # its lease was lost meanwhile
            self.leave_to_lease(delivery)
        return True

    async def _wait(self, function: Function, delivery: Delivery, run: str, limit_key: str) -> bool:
        """Put a run back into the backlog of a limit; False when it is no longer this entry's."""
        entry = delivery.feed.entry_name(delivery.id)
        return await wait_in_backlog(self._wire, function.slug, run, entry, limit_key, delivery.owner)

    def give_back(self, delivery: Delivery) -> None:
        """Give back the places of an entry, if it has any, and wake who waits for them."""
        places = self._let_go(delivery)
        if not places:
            return
        self._giving.start(self._give_all(places))

    def leave_to_lease(self, delivery: Delivery) -> None:
        """Renew the places of an entry no more: its run may be another worker's, which has them by the same name."""
        self._let_go(delivery)

    def _let_go(self, delivery: Delivery) -> list[Place]:
        places = self._held.pop(delivery, [])
        for place in places:
            self._leases.let_go(place)
        return places

    async def settled(self) -> None:
        """Wait until all that was given back is free."""
        await self._giving.settled()

    async def _give_all(self, places: Sequence[Place]) -> None:
        if places:
            await self._leases.renewals_over()
        try:
            for place in places:
                for slug, key in await give_place(self._wire, place, patience=5.0):
                    await patiently(lambda slug=slug, key=key: try_backlog(self._wire, slug, key), 5.0)
        except BusError as error:  # then its lease ends
            tell(self._signals, "giving back a shared place failed", error)
