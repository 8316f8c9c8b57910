"""Anything: what a word that somebody has in hand means: a run, an event, a function, the value of a limit's key."""

import asyncio

import msgspec

from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.event.kept import EventNotFound, Kept, find_kept
from stepstream.checkpoint.read.lists.arrivals import find_arrival
from stepstream.checkpoint.read.lists.search import RunQuery, search
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.registry import slugs

_MOST_FUNCTIONS = 10
_MOST_RUNS = 5
_LOOKS = 2_000
"""How many runs under way are asked for their keys, which the newest of all may not be among."""
_GOING = ("queued", "running", "waiting")


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a word names: a `run`, an `event`, an `event_name`, a `function`, or a limit's `key`."""

    kind: str
    id: str
    words: str


class Hits(msgspec.Struct):
    """What a word names, and where it was looked for, in words: for who finds nothing."""

    found: list[Hit]
    looked: list[str]


async def find_anything(wire: Wire, text: str) -> Hits:
    """Return what a word names: a run's id, an event's id (ours or the caller's), names, the value of a limit's key.

    That of a key is looked for where nothing else has the word.
    """
    text = text.strip()
    if not text:
        return Hits([], [])
    run, event, known, is_name = await asyncio.gather(
        find(wire, text),
        find_arrival(wire, text),
        slugs(wire),
        wire.load("ZSCORE", keys.event_names(), text, patience=2.0),
    )
    found = [Hit("run", run.id, f"run of {run.function}, {run.status}")] if run is not None else []
    found += [Hit("event", event.event.id, f"event {event.name}")] if event is not None else []
    near = sorted((slug for slug in known if text.lower() in slug.lower()), key=lambda slug: (slug != text, slug))
    found += [Hit("function", slug, "function") for slug in near[:_MOST_FUNCTIONS]]
    found += [Hit("event_name", text, "events of this name")] if is_name is not None else []
    looked = [
        "the ids of runs",
        "the ids of events, those of their senders too",
        f"the slugs of {len(known)} functions",
        "the names of events",
    ]
    if found:  # of nothing else there is an index, and what a key may be is asked of thousands of runs
        return Hits(found, looked)
    going, newest = await asyncio.gather(
        search(wire, RunQuery(key=text, statuses=_GOING), limit=_MOST_RUNS, looks=_LOOKS),
        search(wire, RunQuery(key=text), limit=_MOST_RUNS),
    )
    told = going if going.runs else newest
    if told.runs:
        more = "" if told.exact else " or more"
        found.append(Hit("key", text, f"the value of a limit's key: {told.count}{more} runs"))
    looked.append(f"the limits' keys of the {newest.looked_at:,} newest runs, and of {going.looked_at:,} under way")
    if found:
        return Hits(found, looked)
    kept = await _kept(wire, text)
    found += [Hit("event", text, f"event {kept.arrival.name}, which a run keeps")] if kept is not None else []
    looked.append("the events of runs about the time in it" if ulid_ms(text) else "the events of the newest runs")
    return Hits(found, looked)


async def _kept(wire: Wire, text: str) -> Kept | None:
    """Return the event of an id that only runs keep."""
    try:
        return await find_kept(wire, text)
    except EventNotFound:
        return None
