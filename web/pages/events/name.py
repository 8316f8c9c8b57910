"""The page of a name of events: its newest events, who listens to it, and a form to send one."""

import asyncio
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.errors import BusError, StoreUnavailable
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.events import paces
from stepstream.checkpoint.at_work.redis_cli import of_event_name
from stepstream.checkpoint.controls.ordered import controls
from stepstream.checkpoint.read.lists.arrivals import arrivals
from stepstream.checkpoint.read.lists.event_names import EventName, event_name
from stepstream.checkpoint.types import schemas_of
from stepstream.checkpoint.waits.event_waits import Wait, some_waits
from stepstream.web.live.feed import ALL
from stepstream.web.pages.events.names import pace_in_words, paused_in_words
from stepstream.web.pages.page import View, page
from stepstream.web.pages.typed import TypedForm, typed_form
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hide

SHOWN = 20
SHOWN_WAITS = 20
_SHOWN_CHARS = 160


class ArrivalRow(msgspec.Struct, frozen=True):
    """An event of the list: `data` is as much of its payload as fits into a line; `entry` is its own."""

    entry: str
    id: str
    asked: str
    """The query by which its page is found, also when its id is not remembered any more."""
    received: int
    ago: str
    data: str
    is_again: bool


class NamePage(View, frozen=True):
    """The page `/event-names/{name}`; `error` is why its events could not be looked up."""

    name: str
    heard: EventName
    pace: str
    paused: str
    form: TypedForm
    waits: tuple[Wait, ...] = ()
    """Some of the steps that wait for one."""
    rows: tuple[ArrivalRow, ...] = ()
    is_first: bool = True
    more: str = ""
    error: str = ""


async def read_name(wire: Wire, name: str, cursor: str = "") -> NamePage:
    """Return the page of a name, which need not have been published."""
    heard, ordered, pace, schemas, waits = await asyncio.gather(
        event_name(wire, name), controls(wire), paces(wire, [name]), schemas_of(wire, name),
        some_waits(wire, name, SHOWN_WAITS),
    )  # fmt: skip
    now = now_ms()
    view = NamePage(
        name, heard, pace_in_words(pace[name]), paused_in_words(ordered, name, now), typed_form(schemas),
        tuple(hide(waits)), is_first=not cursor, looks=tuple(of_event_name(name)), topic=ALL.text,
    )  # fmt: skip
    try:
        found = await arrivals(wire, name=name, limit=SHOWN, cursor=cursor or None)
    except StoreUnavailable:
        raise
    except BusError as error:
        return msgspec.structs.replace(view, error=str(error), topic="")
    rows = tuple(
        ArrivalRow(
            one.entry, one.event.id, urlencode({"name": one.name, "entry": one.entry}), one.received,
            f"{in_words(max(0, now - one.received))} ago",
            bytes(hide(one.event).data)[: 4 * _SHOWN_CHARS].decode(errors="ignore")[:_SHOWN_CHARS],
            is_again=not one.entry.startswith(f"{one.received}-"),
        )
        for one in found.events
    )  # fmt: skip
    more = f"?cursor={quote(found.cursor, safe='')}" if found.cursor else ""
    return msgspec.structs.replace(view, rows=rows, more=more)


async def _read(request: Request) -> NamePage:
    return await read_name(wire_of(request), request.path_params["event"], request.query_params.get("cursor", ""))


routes = [page("/event-names/{event:path}", "event_name", _read, section="events")]
