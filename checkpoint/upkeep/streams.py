"""Streams: how long those of events and the queues of functions are, how far behind each reader is, since when."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.errors import KeyMissing
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of, groups_of
from stepstream.bus.wire.wire import Wire

_MOST = 100
"""How many streams of events are looked at: those whose name was published first most lately."""


class Reader(msgspec.Struct, frozen=True):
    """A function that reads a stream: `lag` entries it has yet to read (None: the server cannot tell), `pending` are
    read and not done."""

    function: str
    lag: int | None
    pending: int


class StreamView(msgspec.Struct, frozen=True):
    """A stream: the events of a name, or the turns that are due of a function (`queue`).

    It keeps `entries`, the `oldest` and `newest` of which were added then, server ms. Events that all have read are
    kept for a while (BUS_KEEP_EVENTS); a queue has only what is not done.
    """

    kind: str
    name: str
    entries: int
    oldest: int | None
    newest: int | None
    readers: tuple[Reader, ...]


class Streams(msgspec.Struct, frozen=True):
    """The streams, those with most to read first; `more` streams of events were not looked at."""

    streams: list[StreamView]
    more: int = 0


async def streams_of(wire: Wire, slugs: Sequence[str]) -> Streams:
    """Return the streams of events, and the queues of functions: two reads for each."""
    rows, count = await wire.loads(
        ("ZREVRANGE", keys.event_names(), 0, _MOST - 1), ("ZCARD", keys.event_names())
    )  # fmt: skip
    asked = [("events", name, keys.events(name)) for name in map(codec.text, rows)]
    asked += [("queue", slug, keys.queue(slug, where)) for slug in slugs for where in partitions(slug)]
    found = await asyncio.gather(*(_stream(wire, *one) for one in asked))
    told = [one for one in found if one is not None]
    return Streams(sorted(told, key=lambda one: (-behind(one), one.kind, one.name)), max(0, int(count) - len(rows)))


def behind(one: StreamView) -> int:
    """Return how many entries the last of the readers has yet to read or to finish."""
    return max(((reader.lag or 0) + reader.pending for reader in one.readers), default=0)


async def _stream(wire: Wire, kind: str, name: str, key: str) -> StreamView | None:
    try:
        about, groups = await asyncio.gather(wire.load("XINFO", "STREAM", key), groups_of(wire, key))
    except KeyMissing:  # there is none: nothing was published for long, or nothing has run yet
        return None
    fields: dict[bytes, Any] = fields_of(about)
    return StreamView(
        kind, name, int(fields[b"length"]), _at(fields[b"first-entry"]), _at(fields[b"last-entry"]),
        tuple(Reader(slug, group.lag, group.pending) for slug, group in groups.items()),
    )  # fmt: skip


def _at(entry: Any) -> int | None:
    return entry_ms(codec.text(entry[0])) if entry else None
