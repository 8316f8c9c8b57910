"""Event story: what became of an event: which functions it started, and why each other one that listens did not begin.

What is decided of an event leaves a record under the id of the run it would have made; where there is none, the entry
is still to be read, or the condition of the trigger was not true, or the function was registered later.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import RawEvent
from stepstream.bus.trigger import covers
from stepstream.bus.values import codec
from stepstream.bus.values.expression import Expression, compiled
from stepstream.bus.values.ids import entry_ms, entry_place, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.streams import Group, groups_of, stands
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import Controls, controls
from stepstream.checkpoint.read.event.kept import LATER, Kept
from stepstream.checkpoint.read.lists.arrivals import Arrival
from stepstream.checkpoint.read.lists.event_names import event_name
from stepstream.checkpoint.registry import functions, workers_of
from stepstream.checkpoint.run.record import Run, read

_SHOWN = 200
_NO_DEFAULTS = "a condition sees what was sent, without the defaults of a type"


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one function made of an event: in a sentence (`words`), by a word (`kind`), and the facts in it."""

    function: str
    kind: str
    """`started`; or why not: `condition`, `merged`, `rate_limited`, `singleton`, `paused`, `no_worker`, `unread`.

    Or `later`: it was registered behind the event; `gone`: nothing of it is kept any more; `lost`: the event was
    removed before it was read.
    """
    words: str
    run: str = ""
    """The run it started, is part of, or was kept out by."""
    status: str = ""
    """That run's status."""
    condition: str = ""
    values: dict[str, Any] = {}
    """What the condition saw: path → value; None where there was null, or nothing."""
    missing: list[str] = []
    """The paths of which there was nothing: what was not sent, though its type may have a default."""


class EventStory(msgspec.Struct):
    """An event, and what each function that listens to its name made of it."""

    name: str
    id: str
    entry: str
    received: int
    functions: list[Part]
    words: str
    """In a sentence: how many began, and how many did not."""
    kept_by: str = ""
    """The run that keeps the event, where its stream has let go of it; the entry is empty where it is not known."""
    note: str = ""
    """What is not known then, in a sentence."""
    also: str = ""
    """Who else listens to its name today, in words: whose runs it cancels, whose wait for such."""


async def event_story(wire: Wire, kept: Kept) -> EventStory:
    """Return what became of an event: every function that listens to its name today tells of it.

    Where its stream has let go of it, its runs tell: also those of functions that listen no more.
    """
    arrival = kept.arrival
    known, ordered, name = await asyncio.gather(functions(wire), controls(wire), event_name(wire, arrival.name))
    listening = [one for one in known if any(covers(name, arrival.name) for name in one.events)]
    groups = await groups_of(wire, keys.events(arrival.name)) if arrival.entry and listening else {}
    parts = await asyncio.gather(*(_part(wire, one, kept, ordered, groups) for one in listening))
    there = {one.slug for one in listening}
    others = [one for one in kept.runs if one.source not in LATER and one.function not in there]
    parts += await asyncio.gather(*(_decided(wire, one) for one in others))
    parts.sort(key=lambda part: (part.kind != "started", part.function))
    began = sum(part.kind == "started" and part.function in there for part in parts)
    words = f"started {began} of {len(there)} functions that listen to {arrival.name}"
    if not there:
        words = "it was published to nobody" if kept.is_called else f"no function listens to {arrival.name}"
        words = f"no function starts on {arrival.name}; {name.also}" if name.also else words
    head = (arrival.name, arrival.event.id, arrival.entry, arrival.received)
    return EventStory(*head, parts, words, kept.by, kept.note, name.also)


async def _part(wire: Wire, function: Registered, kept: Kept, ordered: Controls, groups: Mapping[str, Group]) -> Part:
    arrival = kept.arrival
    slug, name, entry = function.slug, arrival.name, arrival.entry
    if not entry:
        own = [one for one in kept.runs if one.function == slug and one.source not in LATER]
        words = "not known: none of its runs that was found has the event"
        gone = Part(function=slug, kind="gone", words=words)
        return await _decided(wire, own[0]) if own else refused_by_condition(function, arrival.event) or gone
    run = run_id(slug, "event", f"{name}|{entry}", entry_ms(entry))
    [found] = await read(wire, Run, [(slug, run)])
    is_later = found is None and await _is_later(wire, function, arrival)
    if found is None and await stands(wire, keys.events(name), slug, entry, without_group=not is_later, groups=groups):
        if kept.stands:
            return await _unread(wire, function, arrival, ordered, groups.get(slug))
        lost = "did not begin: its stream let go of the event before it was read"
        return Part(function=slug, kind="lost", words=lost)
    if found is None:  # begun, and perhaps done with, since we looked
        [found] = await read(wire, Run, [(slug, run)])
    if found is not None and found.status:
        return await _decided(wire, found)
    if is_later:
        return Part(function=slug, kind="later", words="did not begin: it was registered after the event came")
    return _passed(function, arrival)


async def _is_later(wire: Wire, function: Registered, arrival: Arrival) -> bool:
    """Whether all triggers of a function that mean an event were registered after it came."""
    names = [name for name in function.events if covers(name, arrival.name)]
    since = await wire.looks(*(("HGET", keys.triggers(), f"{function.slug} {name}") for name in names))
    return all(at is not None and int(at) > arrival.received for at in since)


async def _decided(wire: Wire, run: Run) -> Part:
    """What is recorded under the id of the run."""
    if run.status != "skipped":
        return Part(function=run.function, kind="started", words=f"started run {run.id}", run=run.id, status=run.status)
    if run.why == "rate_limit":
        words = "was dropped: more events came than its rate limit lets pass"
        return Part(function=run.function, kind="rate_limited", words=words)
    [other] = await read(wire, Run, [(run.function, run.by)]) if run.by else [None]
    status = "queued" if other is None else other.status
    if run.why == "singleton":
        words = f"was skipped: run {run.by} ran, and it runs one at a time"
        return Part(function=run.function, kind="singleton", words=words, run=run.by, status=status)
    words = f"was {run.why or 'put'} into run {run.by}"
    return Part(function=run.function, kind="merged", words=words, run=run.by, status=status)


async def _unread(wire: Wire, function: Registered, arrival: Arrival, ordered: Controls, group: Group | None) -> Part:
    """No worker is done with its entry."""
    slug = function.slug
    paused = ordered.events.get(arrival.name) or ordered.functions.get(slug)
    if paused is not None:
        what = f"events {arrival.name} are" if arrival.name in ordered.events else "it is"
        return Part(function=slug, kind="paused", words=f"has not begun: {what} paused, by {paused.by}")
    if not await workers_of(wire, slug):
        return Part(function=slug, kind="no_worker", words=f"has not begun: no worker serves {slug}")
    if group is not None and entry_place(group.delivered) >= entry_place(arrival.entry):
        return Part(function=slug, kind="unread", words="has not begun: a worker has taken it in hand")
    lag = group.lag if group is not None else None
    behind = f"; it has {lag:,} events of this name to read" if lag is not None and lag > 1 else ""
    return Part(function=slug, kind="unread", words=f"has not begun: a worker is about to read it{behind}")


def _passed(function: Registered, arrival: Arrival) -> Part:
    """Its entry is done with, and there is no run: why."""
    words = "nothing is kept of it: its run ended long ago, or was forgotten"
    return refused_by_condition(function, arrival.event) or Part(function=function.slug, kind="gone", words=words)


def refused_by_condition(function: Registered, event: RawEvent) -> Part | None:
    """Return which condition of a function is not true of an event, and what it saw; None when one of them is."""
    refusal = None
    for name in (name for name in function.events if covers(name, event.name)):
        condition = _condition(function, name)
        if condition is None or _is_true(condition, event):
            return None
        refusal = refusal or _refused(function.slug, condition, event)
    return refusal


def _refused(slug: str, condition: Expression, event: RawEvent) -> Part:
    """Return what a condition that is not true of an event saw of it, and what of that it cannot compare."""
    words = f"did not begin: {condition.text} is not true"
    try:
        plain = event.plain()
    except (msgspec.MsgspecError, CannotOpen) as error:
        words += f": {error}" if isinstance(error, CannotOpen) else ": the event's data is no JSON"
        return Part(function=slug, kind="condition", words=words, condition=condition.text)
    values, missing = condition.seen_of(plain), condition.missing_in(plain)
    told = {path: "not there" if path in missing else _shown(value) for path, value in values.items()}
    words += ": " if told else ""
    words += ", ".join(f"{path} is {text}" for path, text in told.items())
    why = condition.why_not(plain) or (_NO_DEFAULTS if missing else "")
    words += f" ({why})" if why else ""
    return Part(function=slug, kind="condition", words=words, condition=condition.text, values=values, missing=missing)


def _condition(function: Registered, name: str) -> Expression | None:
    """Return the condition of a trigger, as its function declares it today."""
    with contextlib.suppress(ConfigError):
        return compiled(function.conditions[name], "if_") if name in function.conditions else None
    return None


def _is_true(condition: Expression, event: RawEvent) -> bool:
    try:
        return condition.matches(event.plain())
    except (msgspec.MsgspecError, CannotOpen):
        return False


def _shown(value: Any) -> str:
    text = codec.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
