"""The page of the names of events, as plain values: who listens to each, and which nobody listens to."""

from urllib.parse import quote

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.read.events import EventNames, event_names
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.pages.views import when
from stepstream.web.store import wire_of

SHOWN_FUNCTIONS = 8
"""How many of the functions that listen to an event its row shows."""


class EventRow(msgspec.Struct, frozen=True):
    """A name of events, who starts on it, of whom it cancels runs; `more` functions are not shown."""

    name: str
    last: str
    ago: str
    entries: int
    waits: int
    functions: tuple[str, ...]
    cancels: tuple[str, ...]
    more: int


class EventsPage(View, frozen=True):
    """The page `/events`; `more` is the query of the next page, empty on the last."""

    names: tuple[EventRow, ...]
    unheard: int
    cut: int
    more: str


def events_page(found: EventNames, now: int) -> EventsPage:
    """Return the page of the names of events: those that no function listens to come first."""
    rows = tuple(
        EventRow(
            name=one.name,
            last=when(one.last)[:-4] if one.last else "",
            ago=f"{in_words(max(0, now - one.last))} ago" if one.last else "",
            entries=one.entries,
            waits=one.waits,
            functions=tuple(one.functions[:SHOWN_FUNCTIONS]),
            cancels=tuple(one.cancels[:SHOWN_FUNCTIONS]),
            more=len(one.functions[SHOWN_FUNCTIONS:]) + len(one.cancels[SHOWN_FUNCTIONS:]),
        )
        for one in found.names
    )
    more = f"?cursor={quote(found.cursor, safe='')}" if found.cursor else ""
    return EventsPage(rows, found.unheard, found.cut, more, topic=ALL.text)


async def _read(request: Request) -> EventsPage:
    found = await event_names(wire_of(request), cursor=request.query_params.get("cursor"))
    return events_page(found, now_ms())


routes = [page("/events", "events", _read)]
