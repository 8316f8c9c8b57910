"""Delivery: one stream entry in hand; Source: one stream a worker reads for one group, under a lease."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.trigger import Trigger, is_wanted
from stepstream.bus.wire.leases import Lease
from stepstream.bus.wire.streams import Fields, event_of
from stepstream.consumers.delivery.wakeup import Wakeup

Kind = Literal["queue", "events", "ends", "waits", "cancels"]
"""What a source brings: due turns, events that begin runs, ends to be told, events that answer waits or cancel runs."""


class Delivery:
    """An entry that was read, claimed or taken up, and is not acknowledged yet."""

    __slots__ = ("consumer", "fields", "id", "owner", "run", "source")

    def __init__(self, source: "Source", id: str, fields: Fields, consumer: str, owner: str = "") -> None:
        self.source = source
        self.id = id
        self.fields = fields
        self.consumer = consumer
        self.owner = owner
        """The dead consumer it was claimed from; empty when there is none to blame."""
        self.run = ""
        """The run it is for, once start has been asked for that."""

    @property
    def is_in_hand(self) -> bool:
        """Whether it has not left yet."""
        return self.source.in_hand.get(self.id) is self

    def wanted_event(self) -> RawEvent | None:
        """Return the event it brings, None when no trigger wants that; ValueError for what makes no sense."""
        event = event_of(self.source.name, self.id, self.fields)
        return event if any(is_wanted(trigger, event) for trigger in self.source.triggers) else None


class EntryHandler(Protocol):
    """Who does what is read: the executor runs runs, the intake decides, the courier carries what others wait for."""

    def begin(self, deliveries: "Sequence[Delivery]") -> None:
        """Take entries of one source."""


class Source:
    """A stream, the group that reads it, who takes what it brings, and what is in hand.

    `name` is the event's name, or `queue` or `ends`; `function` is None where events are read for whoever waits. `line`
    is rung when a place of the function may have come free; None where it has no limits.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        stream: str,
        group: str,
        workers_key: str,
        lease: Lease,
        function: Function | None,
        handler: EntryHandler,
        triggers: tuple[Trigger, ...] = (),
        line: Wakeup | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.name = name
        self.stream = stream
        self.group = group
        self.workers_key = workers_key
        self.lease = lease
        self._function = function
        self.handler = handler
        self.triggers = triggers
        self.line = line
        self.in_hand: dict[str, Delivery] = {}

    @property
    def function(self) -> Function:
        """The function it is read for."""
        assert self._function is not None
        return self._function

    @property
    def is_deleted_when_done(self) -> bool:
        """Whether an entry has one reader only, and goes when that has acknowledged it."""
        return self.kind in ("queue", "ends")

    def entry_name(self, entry: str) -> str:
        """Return how a run names an entry: `queue|<id>`, or `event|<event name>|<id>`."""
        return f"queue|{entry}" if self.kind == "queue" else f"event|{self.cause(entry)}"

    def cause(self, entry: str) -> str:
        """Return what names an event's entry among those of all streams: run ids are derived from it."""
        return f"{self.name}|{entry}"

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
        """Forget an entry; Exits alone calls it."""
        if delivery.is_in_hand:
            del self.in_hand[delivery.id]
