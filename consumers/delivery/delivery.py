"""Delivery: one stream entry in hand. Feed: one stream that a worker reads for one group, under a lease."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.trigger import Trigger, is_wanted
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.leases import Lease
from stepstream.bus.wire.streams import Fields, event_of
from stepstream.checkpoint.run.start import StartReply, StartRequest
from stepstream.consumers.delivery.wakeup import Wakeup

Kind = Literal["queue", "events", "ends", "waits", "cancels"]
"""What a feed brings: due turns, events that begin runs, ends of runs, events that resolve waits or cancel runs."""


class Delivery:
    """An entry that was read or claimed, and is not acknowledged yet."""

    __slots__ = ("consumer", "feed", "fields", "id", "owner", "run", "started")

    def __init__(self, feed: "Feed", id: str, fields: Fields, consumer: str, owner: str = "") -> None:
        self.feed = feed
        self.id = id
        self.fields = fields
        self.consumer = consumer
        self.owner = owner
        """The expired consumer it was claimed from; empty when there is none to blame."""
        self.run = ""
        """The run it is for, once start has been asked for that."""
        self.started: tuple[StartRequest, StartReply] | None = None
        """How its run was started, by the script that delivered it; the starter clears it."""

    @property
    def is_in_hand(self) -> bool:
        """Whether it has not left yet."""
        return self.feed.in_hand.get(self.id) is self

    def wanted_event(self) -> RawEvent | None:
        """Return the event it brings, None when no trigger wants that; ValueError for what makes no sense."""
        event = event_of(self.feed.name, self.id, self.fields)
        return event if any(is_wanted(trigger, event) for trigger in self.feed.triggers) else None


class EntryHandler(Protocol):
    """What a feed's entries go to, whichever way they came: an executor, an intake, a courier."""

    def begin(self, deliveries: "Sequence[Delivery]") -> None:
        """Handle entries of one feed, until each leaves by Exits."""


class StreamGroup(NamedTuple):
    """A stream, and the consumer group that reads it; `name` is the event's, or `queue` or `ends`."""

    kind: Kind
    name: str
    stream: str
    group: str
    workers_key: str
    """Where the leases of its consumers are kept."""

    @classmethod
    def of_function(cls, kind: Literal["queue", "ends"], slug: str, where: str = FIRST) -> "StreamGroup":
        """Return a function's queue, or the ends of its runs, in one of its partitions."""
        stream = keys.queue(slug, where) if kind == "queue" else keys.ends(slug, where)
        return cls(kind, kind, stream, slug, keys.function_workers(slug, where))

    @classmethod
    def of_events(cls, kind: Literal["events", "waits", "cancels"], name: str, group: str) -> "StreamGroup":
        """Return the events of a name as a group reads them."""
        return cls(kind, name, keys.events(name), group, keys.events_workers(name))


class Feed:
    """What one worker reads of a stream for a group: who handles the entries, and which are in hand.

    `function` is None where events are read for whoever waits. `backlog` is rung when a place of the function may have
    come free; None where it has no limits. `overrides` are those of its limits that people have set otherwise, as
    scripts take them (checkpoint/controls/limits.py).
    """

    def __init__(
        self,
        read: StreamGroup,
        lease: Lease,
        function: Function | None,
        handler: EntryHandler,
        triggers: tuple[Trigger, ...] = (),
        backlog: Wakeup | None = None,
    ) -> None:
        self.kind, self.name, self.stream, self.group, self.workers_key = read
        self.lease = lease
        self._function = function
        self.handler = handler
        self.triggers = triggers
        self.backlog = backlog
        self.in_hand: dict[str, Delivery] = {}
        self.overrides = ""

    @property
    def function(self) -> Function:
        """The function it is read for."""
        assert self._function is not None
        return self._function

    @property
    def slug(self) -> str:
        """The function it is read for; empty where events are read for whoever waits."""
        return "" if self._function is None else self._function.slug

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
