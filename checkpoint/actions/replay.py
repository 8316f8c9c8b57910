"""Replay: begin runs for an event that came before: of one function that listens to it today, or of all.

A run is begun for each as a call of it is, so that neither the memory of ids nor a rate limit, debounce, batch or
singleton swallows it; concurrency and throttle count. The runs are marked: their source is `replay`.
"""

from collections.abc import Sequence

import msgspec

from stepstream.bus.errors import BadRequest, listed
from stepstream.bus.event import RawEvent
from stepstream.bus.system_events import INVOKED
from stepstream.bus.trigger import covers
from stepstream.bus.values.ids import run_id, ulid, ulid_ms
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.event.kept import Clue, find_kept
from stepstream.checkpoint.read.event.story import refused_by_condition
from stepstream.checkpoint.registry import function_of, functions
from stepstream.checkpoint.run.begin import begin

_NAMED = 10


class Begun(msgspec.Struct, frozen=True):
    """A function, and its run that begins."""

    function: str
    run: str


class LeftOut(msgspec.Struct, frozen=True):
    """A function that listens to the event, and why it does not begin."""

    function: str
    why: str


class Replay(msgspec.Struct, frozen=True):
    """An event, the runs that begin for it, and the functions that do not."""

    event: str
    name: str
    runs: list[Begun]
    left_out: list[LeftOut]


async def replay(wire: Wire, event_id: str, function: str = "", request: str = "", clue: Clue | None = None) -> Replay:
    """Begin runs for an event: of a function (its slug), or of all that listen to its name today.

    Functions whose condition is not true of it begin none. The event may be past what its stream keeps, as long as a
    run keeps it: that of the `clue`, or one that is found. The same `request`, a ULID of the caller's, makes the same
    runs, however often it is repeated.
    EventNotFound when nothing keeps it, FunctionNotFound, BadRequest for a function that does not listen to its name.
    """
    asked = ulid_ms(request)
    if request and asked is None:
        raise BadRequest(f"request {request[:60]!r} is no ULID (26 letters); leave it out, or take a new one")
    if function:
        await function_of(wire, function)
    event = (await find_kept(wire, event_id, clue or Clue())).arrival.event
    listening = [one for one in await functions(wire) if any(covers(name, event.name) for name in one.events)]
    meant = [one for one in listening if function in ("", one.slug)]
    if not meant:
        raise BadRequest(_nobody(event, function, listening))
    now = await patiently(wire.moment, 2.0)
    begun: list[Begun] = []
    left_out: list[LeftOut] = []
    cause = f"{event.id}|{request or ulid()}"
    for one in meant:
        refusal = refused_by_condition(one, event)
        if refusal is not None:
            left_out.append(LeftOut(one.slug, refusal.words))
            continue
        new = run_id(one.slug, "replay", cause, now if asked is None else min(asked, now))
        await begin(wire, one.slug, new, "replay", event, patience=10.0)
        begun.append(Begun(one.slug, new))
    return Replay(event.id, event.name, begun, left_out)


def _nobody(event: RawEvent, function: str, listening: Sequence[Registered]) -> str:
    if event.name == INVOKED:
        return f"event {event.id} is that of a run that was invoked: run that again, with bus rerun"
    there = listed([one.slug for one in listening], _NAMED) if listening else "no function"
    if function:
        return (
            f"function '{function}' does not listen to {event.name}; {there} listen{'' if listening[1:] else 's'} to it"
        )
    return f"no function listens to {event.name}"
