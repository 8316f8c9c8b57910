"""Delayed events: kept until their time, seen and taken back before. Any worker publishes those whose time has come.

An event is kept in the slot of its name, so that publishing it and forgetting it are one act. Which names have any is
a list of its own, a hint: it is written after the event, and by retention where it is lost.
"""

import heapq
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from stepstream.bus.errors import NotFound
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import event_of, fields_of
from stepstream.bus.wire.wire import Wire

_DUE = script(__file__, "events_due")
_DROP = script(__file__, "delayed_drop")

AT_ONCE = 100
"""Events published by one script call (one may hold 3 MiB), and names that are looked at in one round."""

_PUT_OFF_MS = 60_000


class DelayedEvent(msgspec.Struct, frozen=True):
    """An event that is to be published at `due`, Unix ms."""

    id: str
    name: str
    due: int
    data: Raw


class DelayedNotFound(NotFound):
    """No event of this name and id waits for its time."""

    code = "delayed_not_found"

    def __init__(self, name: str, event_id: str) -> None:
        self.name = name
        self.id = event_id
        super().__init__(f"no event {name[:150]!r} with id {event_id[:150]!r} waits for its time (any more)")


class Due(msgspec.Struct, frozen=True):
    """What a look at one name found: how many events were published, whether more are due, and ids that are lost."""

    published: int
    more: bool
    lost: list[str]


async def list_delayed(wire: Wire, name: str | None = None, limit: int = 100) -> list[DelayedEvent]:
    """Return the events that are to be published later, of all names or of one, the earliest first."""
    names = (
        [name]
        if name is not None
        else [codec.text(one) for one in await wire.load("ZRANGE", keys.delayed_names(), 0, -1)]
    )
    rows = await wire.loads(*(("ZRANGE", keys.delayed(one), 0, limit - 1, "WITHSCORES") for one in names))
    found = [
        [(int(float(row[i + 1])), one, unquote(codec.text(row[i]))) for i in range(0, len(row), 2)]
        for one, row in zip(names, rows, strict=True)
    ]
    first = [place for place, _ in zip(heapq.merge(*found), range(limit), strict=False)]
    stored = await wire.loads(*(("HGETALL", keys.delayed_event(one, event)) for _, one, event in first))
    return [
        DelayedEvent(event, one, due, event_of(one, "0-0", fields_of(flat)).data)
        for (due, one, event), flat in zip(first, stored, strict=True)
        if flat  # published, or taken back, since we looked
    ]


async def take_back(wire: Wire, name: str, event_id: str) -> None:
    """Let an event not be published; its id may be sent again. DelayedNotFound when it is not there (any more)."""
    own = [keys.delayed(name), keys.delayed_event(name, event_id), keys.seen(name, event_id)]
    if not await wire.lasting_script(_DROP, own, keys.coded(event_id), patience=10.0):
        raise DelayedNotFound(name, event_id)


async def publish_due(wire: Wire, name: str) -> Due:
    """Publish events of a name whose time has come, at most AT_ONCE, and note when the next is due."""
    # As a publisher does, before and after: a worker that drops a stream forgets its name.
    await wire.call("ZADD", keys.event_names(), "NX", await wire.clock(), name)
    own = [keys.events(name), keys.delayed(name)]
    published, more, next_due, lost = await wire.script(_DUE, own, wire.settings.dedupe_ms, AT_ONCE)
    reached("delayed.published")
    await wire.call("ZADD", keys.event_names(), "NX", await wire.clock(), name)
    if next_due >= 0:
        await wire.call("ZADD", keys.delayed_names(), "XX", next_due, name)
    else:
        await wire.call("ZREM", keys.delayed_names(), name)
    await expect_delayed(wire, name)  # one may have come since
    return Due(published, bool(more), [unquote(codec.text(one)) for one in lost])


async def expect_delayed(wire: Wire, name: str) -> None:
    """Write a name that has delayed events into the list of those, if it is not there."""
    first = await wire.call("ZRANGE", keys.delayed(name), 0, 0, "WITHSCORES")
    if first:
        await wire.call("ZADD", keys.delayed_names(), "LT", first[1], name)


async def put_off(wire: Wire, name: str) -> None:
    """Look at a name again in a minute: publishing its events failed, and the others are not to wait behind it."""
    await wire.call("ZADD", keys.delayed_names(), "XX", await wire.moment() + _PUT_OFF_MS, name)


async def due_names(wire: Wire) -> tuple[list[str], int | None]:
    """Return the names that have events whose time has come, and in how many ms that of the next comes."""
    now = await wire.moment()
    names = await wire.call("ZRANGEBYSCORE", keys.delayed_names(), "-inf", now, "LIMIT", 0, AT_ONCE)
    first = await wire.call("ZRANGEBYSCORE", keys.delayed_names(), f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1)
    return [codec.text(name) for name in names], int(float(first[1])) - now if first else None
