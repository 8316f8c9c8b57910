"""Delivery: one stream entry in hand; Source: one stream a function reads, under a lease."""

from collections.abc import Iterable

from bus.function import Function
from bus.trigger import Trigger
from bus.wire.leases import Lease
from bus.wire.streams import Fields


class Delivery:
    """An entry that was read, claimed or taken up, and is not acknowledged yet."""

    __slots__ = ("consumer", "fields", "id", "owner", "source")

    def __init__(self, source: "Source", id: str, fields: Fields, consumer: str, owner: str = "") -> None:
        self.source = source
        self.id = id
        self.fields = fields
        self.consumer = consumer
        self.owner = owner
        """The dead consumer it was claimed from; empty when there is none to blame."""


class Source:
    """A stream, the group that reads it, and what is in hand. `trigger` is None for the function's queue."""

    def __init__(
        self, function: Function, stream: str, workers_key: str, lease: Lease, trigger: Trigger | None
    ) -> None:
        self.function = function
        self.stream = stream
        self.workers_key = workers_key
        self.group = function.slug
        self.lease = lease
        self.trigger = trigger
        self.in_hand: dict[str, Delivery] = {}

    @property
    def is_queue(self) -> bool:
        """Whether this is the function's queue of due turns."""
        return self.trigger is None

    def entry_name(self, entry: str) -> str:
        """Return how a run names an entry: `<event name or queue>|<id>`."""
        return f"{self.trigger.name if self.trigger else 'queue'}|{entry}"

    def receive(self, rows: Iterable[tuple[str, Fields]], consumer: str, owner: str = "") -> list[Delivery]:
        """Take entries in hand; those that are there already, or came to a name that lost its lease, are left."""
        if consumer != self.lease.consumer:
            return []
        new: list[Delivery] = []
        for entry, fields in rows:
            if entry not in self.in_hand:
                delivery = Delivery(self, entry, fields, consumer, owner)
                self.in_hand[entry] = delivery
                new.append(delivery)
        return new

    def drop(self, delivery: Delivery) -> None:
        """Let an entry go, without a word to Redis."""
        if self.in_hand.get(delivery.id) is delivery:
            del self.in_hand[delivery.id]
