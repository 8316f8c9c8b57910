"""Find: a run by its id alone, which names its function (bus/values/ids.py).

A run that nobody has started has no hash yet. It is found by what will begin it: an event's entry, an entry of the
queue, or a buffer (debounce, batch).
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from stepstream.bus.errors import RunNotFound
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.ids import is_run_of, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.streams import Fields, event_of, fields_of, stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions, slugs
from stepstream.checkpoint.run.begin import begun_event
from stepstream.checkpoint.run.record import Run, read, stored_json

_ENTRIES = 1_000
"""How many entries of a stream are looked at: those from the id's own millisecond on, oldest first."""


async def find(wire: Wire, run: str) -> Run | None:
    """Return a run by its id; one that is still to be started is `queued`. None when there is none."""
    ms = ulid_ms(run)
    owners = [slug for slug in await slugs(wire) if is_run_of(run, slug)] if ms is not None else []
    if ms is None or not owners:
        return None
    found = await _begun(wire, owners, run)
    found = found or await _of_event(wire, owners, run, ms) or await _buffered(wire, owners, run, ms)
    found = found or await _in_queue(wire, owners, run, ms)  # last: what leaves a buffer goes there
    return found or await _begun(wire, owners, run)  # it may have begun while we looked at the entries


async def get(wire: Wire, run: str) -> Run:
    """Return a run by its id as `find` does; RunNotFound when there is none."""
    found = await find(wire, run)
    if found is None:
        raise RunNotFound(run)
    return found


async def _begun(wire: Wire, owners: Sequence[str], run: str) -> Run | None:
    found = await read(wire, Run, [(slug, run) for slug in owners])
    return next(filter(None, found), None)


async def _of_event(wire: Wire, owners: Sequence[str], run: str, ms: int) -> Run | None:
    """Look at the events of that millisecond: run ids are derived from name, entry and function."""
    published = [name.decode() for name in await wire.load("ZRANGE", keys.event_names(), 0, 999)]
    pairs = [
        (function.slug, name)
        for function in await functions(wire, owners)
        for pattern in function.events
        for name in (filter(partial(covers, pattern), published) if pattern.endswith("*") else [pattern])
    ]
    replies = await wire.loads(*(("XRANGE", keys.events(name), ms, ms, "COUNT", _ENTRIES) for _, name in pairs))
    for (slug, name), entries in zip(pairs, replies, strict=True):
        for entry, flat in ((raw.decode(), flat) for raw, flat in entries):
            if run_id(slug, "event", f"{name}|{entry}", ms) != run:
                continue
            # Where there is no group, no worker has read the stream yet: one will, from the first entry on.
            if not await stands(wire, keys.events(name), slug, entry, without_group=True):
                return None
            return yet_to_begin(
                slug, run, ms, {b"event": codec.encode(event_of(name, entry, fields_of(flat))), b"source": b"event"}
            )
    return None


async def _buffered(wire: Wire, owners: Sequence[str], run: str, ms: int) -> Run | None:
    """Look at the buffers: a debounced run, or a batch, that has not begun; with the events it has so far."""
    names = await wire.looks(*(("HGET", keys.buffered(slug), run) for slug in owners))
    slug, name = next(((slug, codec.text(name)) for slug, name in zip(owners, names, strict=True) if name), ("", ""))
    if not slug:
        return None
    fields = fields_of(await wire.load("HGETALL", keys.buffer(slug, name)))
    if fields.get(b"run") != run.encode():
        return None
    several = [
        fields[entry]
        for n in range(1, min(codec.whole(fields.get(b"n", b"0")), len(fields)) + 1)
        if (entry := f"e:{n}".encode()) in fields
    ]
    if several:
        fields |= {b"event": several[0], b"batch": b"[" + b",".join(several) + b"]"}
    return yet_to_begin(slug, run, ms, fields | {b"source": b"batch" if several else b"debounce"})


async def _in_queue(wire: Wire, owners: Sequence[str], run: str, ms: int) -> Run | None:
    """Look at the queues: an entry that begins a run was added after the time in its id, by the server's clock."""
    queues = await wire.loads(*(("XRANGE", keys.queue(slug, run), ms, "+", "COUNT", _ENTRIES) for slug in owners))
    for slug, entries in zip(owners, queues, strict=True):
        for fields in (fields_of(flat) for _, flat in entries):
            if fields.get(b"run") == run.encode() and b"event" in fields:
                return yet_to_begin(slug, run, ms, fields)
    return None


def yet_to_begin(slug: str, run: str, ms: int, fields: Fields) -> Run:
    """Return a run that has yet to begin, from what will begin it, named as in an entry of the queue."""
    return Run(
        id=run,
        function=slug,
        status="queued",
        queued=ms,
        event=stored_json(begun_event(fields)),
        source=fields.get(b"source", b"").decode(),
        rerun_of=fields.get(b"rerun_of", b"").decode(),
        parent=fields.get(b"parent", b"").decode(),
    )


async def wait_for_end(wire: Wire, run: str, seconds: float, patience: float = 0.0) -> Run | None:
    """Return a run when it has ended, or as it is after `seconds`; looks 4 times a second, workers write nothing.

    Redis may be away for `patience` s meanwhile.
    """
    until = time.monotonic() + seconds
    pause = 0.02
    while True:
        found = await patiently(lambda: find(wire, run), patience)
        left = until - time.monotonic()
        if (found is not None and found.has_ended) or left <= 0:
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(0.25, pause * 2)
