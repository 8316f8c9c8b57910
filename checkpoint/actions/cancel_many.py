"""Cancel many: the runs of a function that were made in a time, and whose event an expression is true of.

It is done in steps of a page, so it may be about a million runs, and how far it has come is in Redis: whoever asked for
it takes the first steps, workers the others, whichever process dies. A step is claimed, so that runs are counted once.

The runs are gone through in the order in which they move: entries of the event's streams that nobody has read, those
that are in hand, the queue, then the runs that have begun. So none is missed that moves meanwhile.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.errors import BadRequest, ConfigError, InUse, NotFound
from stepstream.bus.event import RawEvent
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec, dialect
from stepstream.bus.values.expression import compiled
from stepstream.bus.values.ids import entry_ms, partitions, run_id, ulid, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.streams import event_of, fields_of, stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import AT_ONCE, cancel_of, cancel_several
from stepstream.checkpoint.read.events import MOST_NAMES
from stepstream.checkpoint.read.find import find
from stepstream.checkpoint.read.listing import list_runs
from stepstream.checkpoint.registry import REGISTER, Registered, functions
from stepstream.checkpoint.run.record import Record, Run, read

_ACTIVE = ("queued", "running", "waiting")
_CLAIM_MS = 30_000
"""How long a step may take until another process takes it over."""
_KEPT_MS = 7 * 86_400_000
_AT_MOST = 100
"""How many there may be that are not done."""


class Cancellation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which runs are cancelled, those made from `after` to `before`, and how far that has come. Times are server ms."""

    id: str
    app: str
    function: str
    """The function's slug."""
    before: int
    after: int = 0
    if_: str = msgspec.field(default="", name="if")
    created: int = 0
    done: int = 0
    """When it was done; 0: not yet."""
    looked_at: int = 0
    """How many runs were looked at so far."""
    cancelled: int = 0
    """How many of them are cancelled, or will be within seconds by the worker that has them."""
    source: str = ""
    """Where it stands: what it goes through, and the place in that."""
    place: str = ""
    claimed: int = 0
    """Until when the process that takes the next step may do so alone."""

    def is_about(self, run: str, event: RawEvent | None) -> bool:
        """Whether it is about a run, by the time in its id and by its event."""
        if not self.after <= (ulid_ms(run) or 0) <= self.before:
            return False
        if not self.if_:
            return True
        try:
            return event is not None and compiled(dialect.of_sdk(self.if_), "if").matches(event.plain())
        except msgspec.MsgspecError:  # an event that cannot be read
            return False


class CancellationNotFound(NotFound):
    """There is no bulk cancellation of this id."""

    code = "cancellation_not_found"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"there is no cancellation {id[:60]!r} (any more)")


class _Page(NamedTuple):
    """What one step has come to: where it goes on in the same source (empty: it is at its end), and what it counted."""

    place: str
    looked_at: int
    cancelled: int


async def cancellations(wire: Wire) -> list[Cancellation]:
    """Return the bulk cancellations there are, newest first; those that were done long ago are removed."""
    found: list[Cancellation] = []
    for raw in await wire.load("HVALS", keys.cancellations(), patience=2.0):
        with contextlib.suppress(msgspec.MsgspecError):  # written by hand
            found.append(codec.decode_as(raw, Cancellation))
    old = await wire.moment() - _KEPT_MS if found else 0
    for one in found:
        if one.done and one.done < old:
            await wire.call("HDEL", keys.cancellations(), one.id)
    kept = [one for one in found if not one.done or one.done >= old]
    return sorted(kept, key=lambda one: (one.created, one.id), reverse=True)


async def cancellation(wire: Wire, id: str) -> Cancellation:
    """Return one; CancellationNotFound when there is none of that id."""
    raw = await wire.load("HGET", keys.cancellations(), id, patience=2.0)
    if raw is None:
        raise CancellationNotFound(id)
    return codec.decode_as(raw, Cancellation)


async def cancel_many(
    wire: Wire, app: str, slug: str, *, before: int, after: int = 0, if_: str = "", seconds: float = 1.0
) -> Cancellation:
    """Cancel runs of a function made between two times; return how far that came within `seconds`: workers go on.

    BadRequest for an expression that is none, or a time to come; InUse when too many are not done.
    """
    now = await patiently(wire.moment, 2.0)
    if before > now or after > before:
        raise BadRequest(
            f"started_before must lie in the past, behind started_after; got {before} and {after} (Unix ms)"
        )
    if if_:
        try:
            compiled(dialect.of_sdk(if_), "if")
        except ConfigError as error:
            raise BadRequest(str(error)) from None
    if sum(not one.done for one in await cancellations(wire)) >= _AT_MOST:
        raise InUse(f"{_AT_MOST} cancellations are not done yet; wait for one, or delete one")
    made = Cancellation(id=ulid(now), app=app, function=slug, before=before, after=after, if_=if_, created=now)
    await patiently(lambda: wire.call("HSET", keys.cancellations(), made.id, codec.encode(made)), 2.0)
    await carry_on(wire, made.id, seconds)
    return await cancellation(wire, made.id)


async def end_cancellation(wire: Wire, id: str) -> None:
    """Let a bulk cancellation go no further, and forget it. What it has cancelled stays so."""
    if not await patiently(lambda: wire.call("HDEL", keys.cancellations(), id), 2.0):
        raise CancellationNotFound(id)


async def carry_on(wire: Wire, id: str, seconds: float) -> bool:
    """Take steps of a bulk cancellation for `seconds`, at least one; return whether there is more to do for us."""
    until = time.monotonic() + seconds
    mine = 0
    while True:
        raw = await wire.load("HGET", keys.cancellations(), id)
        now = await wire.moment()
        at = codec.decode_as(raw, Cancellation) if raw else None
        if raw is None or at is None or at.done or (at.claimed > now and at.claimed != mine):
            return False
        claimed = msgspec.structs.replace(at, claimed=max(now, at.claimed) + _CLAIM_MS)
        if not await _write(wire, raw, claimed):
            return False  # another process was first
        mine = claimed.claimed
        stepped = await _step(wire, claimed)
        is_last = bool(stepped.done) or time.monotonic() >= until
        stepped = msgspec.structs.replace(stepped, claimed=0 if is_last else mine)
        if not await _write(wire, codec.encode(claimed), stepped) or is_last:
            return not stepped.done


async def _write(wire: Wire, stands_now: bytes, new: Cancellation) -> bool:
    """Put a new state in place of one that must still stand."""
    there = await wire.lasting_script(REGISTER, [keys.cancellations()], new.id, codec.encode(new), stands_now)
    return not there


async def _step(wire: Wire, at: Cancellation) -> Cancellation:
    """Go through one page; return how far that has come."""
    known = await functions(wire, [at.function])
    sources = await _sources(wire, known[0], at) if known else []
    source = at.source or (sources[0] if sources else "")
    page = _Page("", 0, 0)
    if source in sources:  # else its name is used no longer, or the function is gone
        kind, _, name = source.partition(" ")
        page = await _GO_THROUGH[kind](wire, at, name)
    rest = [one for one in sources if _rank(one) > _rank(source)]
    moved = msgspec.structs.replace(
        at,
        source=source if page.place else (rest[0] if rest else source),
        place=page.place,
        looked_at=at.looked_at + page.looked_at,
        cancelled=at.cancelled + page.cancelled,
    )
    return moved if page.place or rest else msgspec.structs.replace(moved, done=await wire.moment())


async def _sources(wire: Wire, function: Registered, at: Cancellation) -> list[str]:
    """Return what is gone through, in the order in which runs move."""
    names = {name for name in function.events if not name.endswith("*")}
    patterns = [name for name in function.events if name.endswith("*")]
    if patterns:
        published = await wire.load("ZREVRANGE", keys.event_names(), 0, MOST_NAMES - 1)
        names |= {one for one in map(codec.text, published) if any(covers(pattern, one) for pattern in patterns)}
    kinds = [f"{kind} {name}" for kind in ("new", "pending") for name in names]
    return sorted([*kinds, *(f"queue {where}" for where in partitions(at.function)), "runs "], key=_rank)


def _rank(source: str) -> tuple[int, str]:
    kind, _, rest = source.partition(" ")
    return list(_GO_THROUGH).index(kind), rest


async def _new(wire: Wire, at: Cancellation, name: str) -> _Page:
    """Go through the entries of an event's stream that have not been delivered."""
    start = f"({at.place}" if at.place else (f"({await _delivered(wire, at, name)}")
    if entry_ms(start[1:]) < at.after:
        start = str(at.after)
    rows = await wire.load("XRANGE", keys.events(name), start, at.before, "COUNT", AT_ONCE)
    entries = [row[0].decode() for row in rows]
    return await _entries(wire, at, name, entries, {row[0].decode(): row[1] for row in rows})


async def _delivered(wire: Wire, at: Cancellation, name: str) -> str:
    for row in await _groups(wire, name):
        fields = fields_of(row)
        if fields[b"name"] == at.function.encode():
            return fields[b"last-delivered-id"].decode()
    return "0-0"


async def _groups(wire: Wire, name: str) -> Sequence[list[bytes]]:
    there = await wire.load("EXISTS", keys.events(name))
    return await wire.load("XINFO", "GROUPS", keys.events(name)) if there else []


async def _pending(wire: Wire, at: Cancellation, name: str) -> _Page:
    """Go through the entries that are in some worker's hand."""
    if not any(fields_of(row)[b"name"] == at.function.encode() for row in await _groups(wire, name)):
        return _Page("", 0, 0)
    start = f"({at.place}" if at.place else str(at.after)
    rows = await wire.load("XPENDING", keys.events(name), at.function, start, at.before, AT_ONCE)
    entries = [row[0].decode() for row in rows]
    found = await wire.loads(*(("XRANGE", keys.events(name), entry, entry) for entry in entries))
    kept = {entry: one[0][1] for entry, one in zip(entries, found, strict=True) if one}
    return await _entries(wire, at, name, entries, kept)


async def _entries(
    wire: Wire, at: Cancellation, name: str, entries: Sequence[str], kept: dict[str, list[bytes]]
) -> _Page:
    """Cancel the runs that entries of an event's stream would make, but for those that have begun."""
    events = {
        run_id(at.function, "event", f"{name}|{entry}", entry_ms(entry)): (
            entry,
            event_of(name, entry, fields_of(flat)),
        )
        for entry, flat in kept.items()
    }
    begun = await read(wire, _Begun, [(at.function, run) for run in events])
    new = [run for run, one in zip(events, begun, strict=True) if one is None and at.is_about(run, events[run][1])]

    async def cancelled(run: str) -> bool:
        entry, event = events[run]
        if not await stands(wire, keys.events(name), at.function, entry, without_group=True):
            return False
        unstarted = Run(
            id=run,
            function=at.function,
            status="queued",
            queued=entry_ms(entry),
            event=msgspec.Raw(codec.encode(event)),
        )
        return await cancel_of(wire, at.function, run, _why(at), unstarted=unstarted) in ("cancelled", "asked")

    done = await asyncio.gather(*map(cancelled, new))
    more = entries[-1] if len(entries) == AT_ONCE else ""
    return _Page(more, sum(one is None for one in begun), sum(done))


class _Begun(Record):
    status: str = ""


async def _queued(wire: Wire, at: Cancellation, where: str) -> _Page:
    """Go through the queue, for runs that no event starts and that have not begun."""
    start = f"({at.place}" if at.place else str(at.after)
    rows = await wire.load("XRANGE", keys.queue(at.function, where), start, at.before, "COUNT", AT_ONCE)
    fields = [fields_of(row[1] or ()) for row in rows]
    runs = [codec.text(one[b"run"]) for one in fields if one.get(b"event") and one.get(b"run")]
    shown = await asyncio.gather(*(find(wire, run) for run in runs))
    new = [one for one in shown if one is not None and one.status == "queued" and one.started is None]
    meant = [one for one in new if at.is_about(one.id, _event(one))]
    done = [await cancel_of(wire, at.function, one.id, _why(at), unstarted=one) for one in meant]
    more = rows[-1][0].decode() if len(rows) == AT_ONCE else ""
    return _Page(more, len(new), sum(one in ("cancelled", "asked") for one in done))


async def _runs(wire: Wire, at: Cancellation, _: str) -> _Page:
    """Go through the runs that have begun."""
    page = await list_runs(
        wire, [at.function], _ACTIVE, limit=AT_ONCE, cursor=at.place, since=at.after, until=at.before
    )
    ids = [run.id for run in page.runs]
    if at.if_:
        whole = await read(wire, _Own, [(at.function, run) for run in ids])
        ids = [one.id for one in whole if one is not None and at.is_about(one.id, _event(one))]
    else:
        ids = [run for run in ids if at.is_about(run, None)]
    return _Page(page.cursor or "", len(page.runs), await cancel_several(wire, at.function, ids, _why(at)))


class _Own(Record):
    event: msgspec.Raw | None = None


def _event(run: Run | _Own) -> RawEvent | None:
    try:
        return codec.decode_as(run.event, RawEvent) if run.event is not None else None
    except msgspec.MsgspecError:
        return None


def _why(at: Cancellation) -> str:
    return f"cancelled with others ({at.id})"


_GO_THROUGH = {"new": _new, "pending": _pending, "queue": _queued, "runs": _runs}
