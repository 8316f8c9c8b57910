"""The page of the names of events: who listens to each, how fast they come, and which nobody listens to."""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.events import HOUR_MS, LOOKED_AT, Pace, paces
from stepstream.checkpoint.at_work.redis_cli import of_event_names
from stepstream.checkpoint.controls.ordered import Controls, controls
from stepstream.checkpoint.read.lists.event_names import EventNames, event_names
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

SHOWN_FUNCTIONS = 8
"""How many of the functions that listen to an event its row shows."""


class EventRow(msgspec.Struct, frozen=True):
    """A name of events, who starts on it, of whom it cancels runs, whose runs wait; `more` functions are not shown."""

    name: str
    last: int
    ago: str
    pace: str
    entries: int
    waits: int
    waited: bool
    waiting: tuple[str, ...]
    functions: tuple[str, ...]
    cancels: tuple[str, ...]
    more: int
    paused: str


class EventsPage(View, frozen=True):
    """The page `/events`; `more` is the query of the next page, empty on the last."""

    names: tuple[EventRow, ...]
    unheard: int
    cut: int
    more: str


def events_page(found: EventNames, pace: Mapping[str, Pace], ordered: Controls, now: int) -> EventsPage:
    """Return the page of the names of events: those that nobody listens to come first."""
    rows = tuple(
        EventRow(
            name=one.name,
            last=one.last or 0,
            ago=f"{in_words(max(0, now - one.last))} ago" if one.last else "",
            pace=pace_in_words(pace[one.name]),
            entries=one.entries,
            waits=one.waits,
            waited=one.waited,
            waiting=tuple(one.waiting[:SHOWN_FUNCTIONS]),
            functions=tuple(one.functions[:SHOWN_FUNCTIONS]),
            cancels=tuple(one.cancels[:SHOWN_FUNCTIONS]),
            more=sum(len(slugs[SHOWN_FUNCTIONS:]) for slugs in (one.functions, one.cancels, one.waiting)),
            paused=paused_in_words(ordered, one.name, now),
        )
        for one in found.names
    )
    more = f"?cursor={quote(found.cursor, safe='')}" if found.cursor else ""
    looks = tuple(of_event_names([one.name for one in found.names]))
    return EventsPage(rows, found.unheard, found.cut, more, looks=looks, topic=ALL.text)


def pace_in_words(pace: Pace) -> str:
    """Return how fast events come, in words; empty when none came in the last hour."""
    if not pace.events:
        return ""
    within = "the last hour" if pace.within == HOUR_MS else f"the last {in_words(pace.within)}"
    more = " or more" if pace.events >= LOOKED_AT else ""  # so many were looked at
    return f"{pace.events}{more} in {within}"


def paused_in_words(ordered: Controls, name: str, now: int) -> str:
    """Return since when a name is paused, and by whom; empty when it is not."""
    one = ordered.events.get(name)
    return f"paused for {in_words(max(0, now - one.since))} by {one.by}" if one is not None else ""


async def _read(request: Request) -> EventsPage:
    wire = wire_of(request)
    found, ordered = await asyncio.gather(event_names(wire, cursor=request.query_params.get("cursor")), controls(wire))
    return events_page(found, await paces(wire, [one.name for one in found.names]), ordered, now_ms())


routes = [page("/events", "events", _read)]
