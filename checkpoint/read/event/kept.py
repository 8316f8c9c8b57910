"""Kept: an event by its id, from whatever still has it: its stream, or a run that was made of it.

A stream lets go of its events long before runs are cut. Which entry an event had is then told by the memory of ids, or
by the id of a run that it started, which is made of it; with the entry every other run that it started is found.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from stepstream.bus.errors import BadRequest, NotFound, RunNotFound
from stepstream.bus.event import RESERVED, RawEvent
from stepstream.bus.system_events import SYSTEM
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.clock import utc
from stepstream.bus.values.ids import entry_ms, is_entry, run_id, ulid_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.arrivals import Arrival, arrival_at, event_place, runs_of
from stepstream.checkpoint.read.lists.runs import whole
from stepstream.checkpoint.read.lists.search import RunQuery, search
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.run.record import Run, read

LATER = ("rerun", "replay")
"""The sources of runs that have an event without being what a function made of it when it came."""
_ABOUT_MS = 120_000
"""How far from the time in an event's id its runs may have been queued."""
_OF_A_MS = 5_000
"""How many entries of one millisecond are tried for the one that a run was made of."""
_RUNS = 20
_NAMED = 5
R = TypeVar("R")


class EventNotFound(NotFound):
    """No event of this id is kept."""

    code = "event_not_found"

    def __init__(self, event_id: str, why: str = "it never was, or is no longer kept") -> None:
        self.id = event_id
        super().__init__(f"there is no event {event_id[:150]!r}: {why}")


class Clue(msgspec.Struct, frozen=True):
    """What is known of an event beside its id: a `run` that was made of it, or the `name` and `entry` of its stream."""

    run: str = ""
    name: str = ""
    entry: str = ""

    @property
    def place(self) -> tuple[str, str] | None:
        """Its name and its entry; BadRequest for half of that, and for what is no entry."""
        if bool(self.name) is not bool(self.entry):
            raise BadRequest("name and entry say together where an event stands; give both, or neither")
        if self.entry and not is_entry(self.entry):
            raise BadRequest(f"entry {self.entry[:60]!r} is none of a stream: 1795783503372-0")
        return (self.name, self.entry) if self.entry else None


_NO_CLUE = Clue()


class Kept(msgspec.Struct, frozen=True):
    """An event, and what has it: its stream (`stands`), or else the first of `runs`; `entry` is empty if unknown."""

    arrival: Arrival
    stands: bool = True
    runs: tuple[Run, ...] = ()

    @property
    def by(self) -> str:
        """The run that keeps it, where its stream does not."""
        return "" if self.stands else self.runs[0].id

    @property
    def is_called(self) -> bool:
        """Whether it never was in a stream: a run was called by it, or has a schedule."""
        name = self.arrival.name
        return not self.stands and name.startswith(RESERVED) and name not in SYSTEM

    @property
    def note(self) -> str:
        """What is not known of it, and why, in words; empty when its stream has it."""
        if self.stands:
            return ""
        if self.is_called:
            return f"it was in no stream: run {self.by} was begun by it"
        told = f"its stream has let go of it, and run {self.by} keeps it"
        if self.arrival.entry:
            return f"{told}; of a function whose run is kept no more it is not known what it made of it"
        return f"{told}; not known are its entry, when it came, and what was made of it by functions without such a run"


async def find_kept(wire: Wire, event_id: str, clue: Clue = _NO_CLUE) -> Kept:
    """Return an event by its id, or by that of its sender's SDK; of several with one id, that of which a clue is.

    Without a clue it is looked for among those about the time in the id, or, of an id without a time, among the ten
    thousand newest. EventNotFound says what is known of one that nothing keeps, or that the run is not of.
    """
    run = clue.run
    if run and (own := await find(wire, run)) is not None:
        event = event_in(own, event_id)
        if event is None:
            raise EventNotFound(event_id, f"run {run} is not of it; leave the run out")
        return await _of_run(wire, event, [own])
    told = clue.place
    there = await arrival_at(wire, *told) if told is not None else None
    if there is not None and event_id in (there.event.id, there.internal):
        return Kept(there)
    place = await event_place(wire, event_id) or told
    found = await arrival_at(wire, *place, event_id) if place is not None and place != told else None
    if found is not None:
        return Kept(found)
    runs = await _at(wire, *place) if place is not None else []
    runs = runs or await _called(wire, event_id) or await _looked_for(wire, event_id)
    has_it = [(one, event) for one in runs if (event := event_in(one, event_id)) is not None]
    if has_it:
        has_it.sort(key=lambda pair: _rank(pair[0]))
        return await _of_run(wire, has_it[0][1], [one for one, _ in has_it], place)
    if place is None or place == told:
        raise EventNotFound(event_id)
    came = f"{utc(entry_ms(place[1])):%Y-%m-%d %H:%M:%S} UTC"
    raise EventNotFound(event_id, f"it came as {place[0]} at {came}; its stream has let go of it, and no run keeps it")


def event_in(run: Run, event_id: str) -> RawEvent | None:
    """Return the event of an id that a run has, alone or in its batch; None when it has none that can be read."""
    try:
        event = None if run.event is None else codec.decode_as(run.event, RawEvent)
    except msgspec.MsgspecError:
        return None
    found = next((one for one in event.several() if one.id == event_id), None) if event is not None else None
    return None if found is None else msgspec.structs.replace(found, batch=None)


async def runs_of_kept(wire: Wire, kept: Kept) -> list[Run]:
    """Return the runs that functions made of an event, or will make; as far as they are kept."""
    if kept.stands:
        return await runs_of(wire, kept.arrival)
    return [one for one in kept.runs if one.source not in LATER] or [*kept.runs]


async def of_run(wire: Wire, run: str, asked: Awaitable[R]) -> R:
    """Return what is asked of a run; RunNotFound names the event whose id was given in place of it, and its runs."""
    try:
        return await asked
    except RunNotFound as error:
        try:
            kept = await find_kept(wire, run)
        except EventNotFound:
            raise error from None
        made = [f"{one.id} ({one.function}, {one.status})" for one in await runs_of_kept(wire, kept)]
        more = f" and {len(made) - _NAMED} more" if len(made) > _NAMED else ""
        told = f"its runs are {', '.join(made[:_NAMED])}{more}" if made else "no function has made a run of it"
        raise RunNotFound(run, f"that is the id of an event, {kept.arrival.name}; {told}") from None


def _rank(run: Run) -> tuple[bool, bool, bool, int]:
    """Return a run's place among those of an event: first who was made of it; a record that made no run is cut soon."""
    return run.source in LATER, run.status == "skipped", run.source != "event", run.queued


async def _of_run(wire: Wire, event: RawEvent, runs: Sequence[Run], place: tuple[str, str] | None = None) -> Kept:
    """Return an event that runs have: as its stream has it, if it does."""
    by = runs[0]
    entry = _entry_of(by, event.name) or (place[1] if place is not None and place[0] == event.name else "")
    if entry:
        found = await arrival_at(wire, event.name, entry, event.id)
        there = {one.id for one in runs}
        others = [one for one in await _at(wire, event.name, entry) if one.id not in there]
        if found is not None:
            return Kept(found, runs=(*runs, *others))
        return Kept(Arrival(event.name, entry, event, event.id, entry_ms(entry)), False, (*runs, *others))
    place = await event_place(wire, event.id)
    found = await arrival_at(wire, *place, event.id) if place is not None else None
    if found is not None and (found.name, found.event.ts) == (event.name, event.ts):
        return Kept(found, runs=(*runs,))
    came = event.ts if 0 < event.ts < by.queued else by.queued
    return Kept(Arrival(event.name, "", event, event.id, came), False, (*runs,))


def _entry_of(run: Run, name: str) -> str:
    """Return the entry that a run was made of, which its id is derived from; empty when it was made otherwise."""
    ms = ulid_ms(run.id)
    if run.source != "event" or ms is None:
        return ""
    entries = (f"{ms}-{n}" for n in range(_OF_A_MS))
    return next((one for one in entries if run_id(run.function, "event", f"{name}|{one}", ms) == run.id), "")


async def _at(wire: Wire, name: str, entry: str) -> list[Run]:
    """Return what is kept of the runs that functions which listen to a name today have made of an entry."""
    ms = entry_ms(entry)
    slugs = [one.slug for one in await functions(wire) if any(covers(pattern, name) for pattern in one.events)]
    found = await read(wire, Run, [(slug, run_id(slug, "event", f"{name}|{entry}", ms)) for slug in slugs])
    return [one for one in found if one is not None and one.status]


async def _called(wire: Wire, event_id: str) -> list[Run]:
    """Return the run of the same id: the event by which a run was called has the run's."""
    found = await find(wire, event_id)
    return [] if found is None else [found]


async def _looked_for(wire: Wire, event_id: str) -> list[Run]:
    ms = ulid_ms(event_id)
    query = RunQuery(where=f"event.id == {codec.encode(event_id).decode()}")
    if ms is not None:
        query = msgspec.structs.replace(query, since=max(0, ms - _ABOUT_MS), until=ms + _ABOUT_MS)
    return await whole(wire, (await search(wire, query, limit=_RUNS)).runs)
