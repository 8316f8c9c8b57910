"""Streams: follow one; make groups, acknowledge, release and claim entries, and read undelivered ones again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stepstream.bus.errors import BusError, GroupMissing, KeyMissing, StoreUnavailable
from stepstream.bus.event import LATEST_MS, RawEvent
from stepstream.bus.observe.traceparent import is_stored
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, entry_place
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import Tries, patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

RELEASED = "@released"
"""The consumer that never has a lease: its pending entries may be claimed at once."""

_BLOCK_S = 2.0
_AGAIN_S = 2.0
"""How soon a stream is read again that cannot be read: another key has its name."""
_LONGEST_TS = len(str(LATEST_MS))

TAKE = script(__file__, "entries_take")
_CLAIM = script(__file__, "entries_claim")
_RELEASE = script(__file__, "entries_release")
MAKE_GROUP = script(__file__, "group_make")
_LEAVE = script(__file__, "consumer_leave")
_ACKNOWLEDGE_TURNS = script(__file__, "turns_acknowledge")

Fields = dict[bytes, bytes]


async def ensure_group(wire: Wire, stream: str, group: str, start_ms: int) -> None:
    """Make a consumer group that sees entries from `start_ms` (server's clock) on; one that exists is left alone."""
    await wire.lasting_script(MAKE_GROUP, [stream], group, start_ms)


async def acknowledge(wire: Wire, stream: str, group: str, ids: Sequence[str]) -> None:
    """Acknowledge entries of an event stream."""
    for part in parts(ids):
        await patiently(lambda part=part: wire.call("XACK", stream, group, *part))


async def acknowledge_turns(wire: Wire, stream: str, group: str, ids: Sequence[str]) -> None:
    """Acknowledge and delete entries of a stream with one group, in one script, so that the stream never grows."""
    for part in parts(ids):
        await wire.lasting_script(_ACKNOWLEDGE_TURNS, [stream], group, *part)


async def is_pending_for(wire: Wire, stream: str, group: str, entry: str, consumer: str) -> bool:
    """Return whether an entry is pending for this consumer."""
    try:
        rows = await patiently(lambda: wire.call("XPENDING", stream, group, entry, entry, 1))
    except GroupMissing:
        return False
    return bool(rows) and rows[0][1].decode() == consumer


class Group(NamedTuple):
    """A consumer group of a stream, and how far it has come."""

    delivered: str
    """The id of the last entry that it was given; `0-0`: none yet."""
    pending: int
    """How many entries it was given and has not finished with."""
    lag: int | None
    """How many it has yet to be given. None where the server does not know: it began in the middle of the stream."""


async def groups_of(wire: Wire, stream: str, patience: float | None = None) -> dict[str, Group]:
    """Return the consumer groups of a stream by name; none where there is no such stream."""
    try:
        rows = await wire.look("XINFO", "GROUPS", stream, patience=patience)
    except KeyMissing:
        return {}
    found: dict[str, Group] = {}
    for row in rows:
        told: dict[bytes, Any] = fields_of(row)
        lag = told.get(b"lag")
        delivered, pending = told[b"last-delivered-id"].decode(), int(told[b"pending"])
        found[codec.text(told[b"name"])] = Group(delivered, pending, None if lag is None else int(lag))
    return found


async def stands(
    wire: Wire, stream: str, group: str, entry: str, *, without_group: bool, groups: Mapping[str, Group] | None = None
) -> bool:
    """Return whether a group has not finished with an entry: it is still to be delivered, or it is pending.

    `without_group` is returned when there is no such stream or group. Who asks for many groups of a stream reads them
    once (`groups`, by `groups_of`).
    """
    found = (await groups_of(wire, stream) if groups is None else groups).get(group)
    if found is None:
        return without_group
    # In this order: an entry that is delivered between the two looks is pending at the second.
    if entry_place(found.delivered) < entry_place(entry):
        return True
    return bool(await wire.load("XPENDING", stream, group, entry, entry, 1))


async def newest_entry(wire: Wire, stream: str, patience: float | None = None) -> str:
    """Return the id of a stream's newest entry: what comes behind it is new. `0-0` when there is none."""
    rows = await wire.load("XREVRANGE", stream, "+", "-", "COUNT", 1, patience=patience)
    return rows[0][0].decode() if rows else "0-0"


async def news(
    wire: Wire, stream: str, after: str = "", *, unread: str, **about: object
) -> AsyncGenerator[list[tuple[str, Fields]]]:
    """Yield what comes into a stream, as (entry id, fields), on a connection of its own, until it is closed.

    The first list is empty, and so is the first one after each time that the stream could not be read: something may
    have been missed. Nothing is missed behind an entry given as `after`; else it begins, each time, with what is new.
    While another key has the stream's name, `unread` is told once, with the error and `about`.
    """
    pipe, tries, seen, told = wire.pipe(extra_timeout=_BLOCK_S), Tries(), after, ""
    try:
        while True:
            try:
                newest = await newest_entry(wire, stream)
                seen = seen if after else newest
                told = ""
                yield []
                while True:
                    read = await pipe.call("XREAD", "BLOCK", round(_BLOCK_S * 1_000), "STREAMS", stream, seen)
                    tries = Tries()
                    if read:
                        rows = [(entry.decode(), fields_of(fields)) for entry, fields in read[0][1]]
                        seen = rows[-1][0]
                        yield rows
            except StoreUnavailable as error:
                await asyncio.sleep(tries.pause(error))
            except BusError as error:
                if told != str(error):
                    told = str(error)
                    wire.notice(unread, error=told, **about)
                await asyncio.sleep(_AGAIN_S)
    finally:
        await pipe.close()


async def pending(wire: Wire, stream: str, group: str, consumer: str, count: int) -> list[str]:
    """Return the ids of the entries pending for a consumer, oldest first."""
    rows = await patiently(lambda: wire.call("XPENDING", stream, group, "-", "+", count, consumer))
    return [row[0].decode() for row in rows]


async def reclaim(
    wire: Wire, stream: str, workers: str, group: str, me: str, *, lease_ms: int, count: int, sure: int
) -> list[tuple[str, str, Fields]]:
    """Claim up to `count` entries of consumers without a lease; return (entry id, previous consumer, fields).

    `sure` is until when the caller trusts the server's clock, ms: past that time nothing is claimed.
    """
    rows = await wire.script(_CLAIM, [stream, workers], group, me, lease_ms, count, sure)
    return [(entry.decode(), owner.decode(), fields_of(fields)) for entry, owner, fields in rows]


async def take(wire: Wire, stream: str, group: str, me: str, ids: Sequence[str]) -> list[tuple[str, Fields]]:
    """Read again entries that are pending for `me`; those claimed by others meanwhile are left out."""
    rows: list[Any] = []
    for part in parts(ids):
        rows += await wire.script(TAKE, [stream], group, me, *part)
    return [(entry.decode(), fields_of(fields)) for entry, fields in rows]


async def release(wire: Wire, stream: str, group: str, me: str, ids: Sequence[str]) -> None:
    """Release entries, so that others may claim them at once."""
    for part in parts(ids):
        await wire.lasting_script(_RELEASE, [stream], group, me, *part, patience=2.0)


async def leave_group(wire: Wire, stream: str, workers: str, group: str, consumer: str) -> None:
    """End a consumer's lease, and remove it from the group if nothing is pending for it."""
    await wire.script(_LEAVE, [stream, workers], group, consumer)


def event_of(name: str, entry: str, fields: Fields) -> RawEvent:
    """Return the event of a stream entry. One added by hand may have nothing but data: the rest is filled in."""
    given = fields.get(b"name")
    event_id = fields.get(b"id")
    ts = fields.get(b"ts", b"")
    version, trace = fields.get(b"v"), codec.text(fields.get(b"trace", b""))
    return RawEvent(
        id=codec.text(event_id) if event_id else entry,
        name=codec.text(given) if given else name,
        data=msgspec.Raw(fields.get(b"data", b"{}")),
        ts=int(ts) if ts.isdigit() and len(ts) <= _LONGEST_TS else entry_ms(entry),
        v=codec.text(version) if version else None,
        trace=trace if trace and is_stored(trace) else None,
    )


def fields_of(flat: Sequence[bytes]) -> Fields:
    """Return a flat list of names and values as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
