"""Delayed events: kept until their time, seen and taken back before. Any worker publishes those whose time has come.

An event is kept in the slot of its name, so that publishing it and forgetting it are one act. Which names have any is
a list of its own, a hint: it is written after the event, and by retention where it is lost.
"""

import asyncio
import heapq
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from stepstream.bus.errors import BadRequest, NotFound
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import event_of, fields_of
from stepstream.bus.wire.wire import Wire

_DUE = script(__file__, "events_due")
_DROP = script(__file__, "delayed_drop")
_PAGE = script(__file__, "delayed_page")

AT_ONCE = 100
"""Events published by one script call (one may hold 3 MiB), and names that are looked at in one round."""

_PUT_OFF_MS = 60_000


class DelayedEvent(msgspec.Struct, frozen=True):
    """An event that is to be published at `due`, Unix ms."""

    id: str
    name: str
    due: int
    data: Raw


class DelayedPage(msgspec.Struct, frozen=True):
    """A page of delayed events, the earliest first; `cursor` is where the next begins, None when there is none."""

    events: list[DelayedEvent]
    cursor: str | None


class _Place(NamedTuple):
    """Where an event stands among all: when it is due, its name, and its id as it stands in keys."""

    due: int
    name: str
    member: str

    @property
    def cursor(self) -> str:
        return f"{self.due}|{self.member}|{self.name}"


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
    return (await delayed_page(wire, name, limit)).events


async def delayed_page(wire: Wire, name: str | None = None, limit: int = 100, cursor: str = "") -> DelayedPage:
    """Return a page of the events that are to be published later, the earliest first; BadRequest for a wrong cursor."""
    names = (
        [name]
        if name is not None
        else [codec.text(one) for one in await wire.load("ZRANGE", keys.delayed_names(), 0, -1)]
    )
    begin = _parsed(cursor) if cursor else None
    rows = await asyncio.gather(*(_behind(wire, one, begin, limit + 1) for one in names))
    found = [
        [_Place(codec.whole(row[i + 1]), one, codec.text(row[i])) for i in range(0, len(row), 2)]
        for one, row in zip(names, rows, strict=True)
    ]
    first = [place for place, _ in zip(heapq.merge(*found), range(limit + 1), strict=False)]
    page = first[:limit]
    stored = await wire.loads(*(("HGETALL", keys.delayed_event(one.name, unquote(one.member))) for one in page))
    events = [
        DelayedEvent(unquote(one.member), one.name, one.due, event_of(one.name, "0-0", fields_of(flat)).data)
        for one, flat in zip(page, stored, strict=True)
        if flat  # published, or taken back, since we looked
    ]
    return DelayedPage(events, page[-1].cursor if len(first) > limit else None)


async def _behind(wire: Wire, name: str, begin: _Place | None, most: int) -> Any:
    """Return the next ids of a name, each with when it is due, behind a place among those of all names."""
    key = keys.delayed(name)
    if begin is None:
        return await wire.look("ZRANGE", key, 0, most - 1, "WITHSCORES")
    if name != begin.name:
        least = begin.due if name > begin.name else f"({begin.due}"
        return await wire.look("ZRANGEBYSCORE", key, least, "+inf", "WITHSCORES", "LIMIT", 0, most)
    return await wire.look_script(_PAGE, [key], begin.due, begin.member, most)


def _parsed(cursor: str) -> _Place:
    due, _, rest = cursor.partition("|")
    member, between, name = rest.partition("|")
    if not (due.isascii() and due.isdecimal() and len(due) <= 15 and between):
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    return _Place(int(due), name, member)


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
    return [codec.text(name) for name in names], codec.whole(first[1]) - now if first else None
