"""Streams: how long the queues of functions and those of events are, since when, and how far behind each reader is."""

import asyncio
from typing import Literal

import msgspec

from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import Group, groups_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.event_names import Seen, all_names, page_of, stream_seen
from stepstream.checkpoint.registry import functions

Kind = Literal["queue", "events"]


class Reader(msgspec.Struct, frozen=True):
    """A function that reads a stream: `unread` entries it has yet to read (None: the server cannot tell), and those in
    hand it has read and not finished with."""

    function: str
    unread: int | None
    in_hand: int


class Stream(msgspec.Struct, frozen=True):
    """A stream: the turns that are due of a function (`queue`, in all its partitions), or the events of a name.

    The `oldest` of its `entries` and the `newest`, also one that is gone, were added then, server ms. Events that all
    have read are kept for a while (BUS_KEEP_EVENTS); a queue has only what is not done.
    """

    kind: Kind
    name: str
    """The slug of a function, or the name of events."""
    entries: int
    oldest: int | None
    newest: int | None
    waits: int
    """How many steps wait for such an event."""
    readers: list[Reader]
    """One for each consumer group: none has been made for a function that no worker has served yet."""

    @property
    def behind(self) -> int:
        """How many entries the last of the readers has yet to read or to finish with."""
        return max(((reader.unread or 0) + reader.in_hand for reader in self.readers), default=0)


class Streams(msgspec.Struct, frozen=True):
    """A page of streams, and where the next begins. `count`: how many there may be on all pages."""

    streams: list[Stream]
    cursor: str | None
    count: int


async def streams(wire: Wire, *, limit: int = 100, cursor: str | None = None) -> Streams:
    """Return a page of streams: queues, then events that somebody listens to, then the others; each by name.

    BadRequest for a cursor that none of its pages gave.
    """
    known = await functions(wire)
    names = await all_names(wire, known)
    groups = {"queue": sorted(one.slug for one in known), "heard": names.heard, "unheard": names.unheard}
    page, after = page_of(groups, limit, cursor)
    found = await asyncio.gather(
        *(_queue(wire, name) if kind == "queue" else _events(wire, name) for kind, name in page)
    )
    return Streams([one for one in found if one is not None], after, sum(map(len, groups.values())))


async def _events(wire: Wire, name: str) -> Stream | None:
    stream = keys.events(name)
    seen, groups = await asyncio.gather(
        stream_seen(wire, stream, keys.waits(name), keys.waits_if(name)), groups_of(wire, stream)
    )
    return _told("events", name, [seen], [groups]) if seen.is_there or seen.waits else None


async def _queue(wire: Wire, slug: str) -> Stream | None:
    own = [keys.queue(slug, where) for where in partitions(slug)]
    seen = await asyncio.gather(*(stream_seen(wire, one) for one in own))
    groups = await asyncio.gather(*(groups_of(wire, one) for one in own))
    return _told("queue", slug, seen, groups) if any(one.is_there for one in seen) else None


def _told(kind: Kind, name: str, seen: list[Seen], groups: list[dict[str, Group]]) -> Stream:
    """Return a stream that lies in one partition or in several."""
    readers = [
        Reader(
            slug,
            _sum([one[slug].lag for one in groups if slug in one]),
            sum(one[slug].pending for one in groups if slug in one),
        )
        for slug in sorted({slug for one in groups for slug in one})
    ]
    return Stream(
        kind, name, sum(one.entries for one in seen),
        min((one.oldest for one in seen if one.oldest is not None), default=None),
        max((one.newest for one in seen if one.newest is not None), default=None),
        sum(one.waits for one in seen), readers,
    )  # fmt: skip


def _sum(counts: list[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if len(known) == len(counts) else None
