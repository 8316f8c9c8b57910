"""The page of an event: what came, and what each function that listens made of it, or why it did not begin."""

import asyncio
from urllib.parse import urlencode

from msgspec.structs import asdict
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.events import remembered_until
from stepstream.checkpoint.at_work.redis_cli import of_event
from stepstream.checkpoint.read.event.kept import Clue, find_kept
from stepstream.checkpoint.read.event.story import Part, event_story
from stepstream.web.api.events import clue_of
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.pages.views import RunRow, Text, listed, shown
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hide


class EventPage(View, frozen=True):
    """The page `/events/{id}`. `is_called`: it was in no stream, a run was invoked by it, or has a schedule."""

    id: str
    name: str
    internal: str
    received: int
    ago: str
    ts: int
    entry: str
    data: Text | None
    remembered: str
    """For how long an event of this id counts as a repetition, in words; empty: it does no more."""
    parts: tuple[Part, ...]
    words: str
    runs: tuple[RunRow, ...]
    """Those that have it, where its stream has let go of it."""
    is_called: bool
    clue: Clue
    """By what it is found again."""
    asked: str
    """The same, as a query."""
    kept_by: str
    """The run that keeps it; empty: its stream does."""
    note: str
    """What is not known of it, in words."""
    also: str
    """Who else listens to its name, in words."""


async def _read(request: Request) -> EventPage:
    wire = wire_of(request)
    kept = await find_kept(wire, request.path_params["id"], clue_of(request))
    found, event, now = kept.arrival, kept.arrival.event, now_ms()
    clue = Clue(run=kept.by) if kept.by else Clue(name=found.name, entry=found.entry)
    story, until = await asyncio.gather(event_story(wire, kept), remembered_until(wire, found))
    return EventPage(
        id=event.id,
        name=event.name,
        internal=found.internal if found.internal != event.id else "",
        received=found.received,
        ago=f"{in_words(max(0, now - found.received))} ago",
        ts=event.ts,
        entry=found.entry,
        data=shown(hide(event).data),
        remembered=in_words(max(0, until - now)) if until is not None else "",
        parts=tuple(hide(story).functions),
        words="" if kept.is_called else story.words,
        runs=() if kept.stands else listed(kept.runs, now),
        is_called=kept.is_called,
        clue=clue,
        asked=urlencode({name: text for name, text in asdict(clue).items() if text}),
        kept_by=kept.by,
        note=kept.note,
        looks=tuple(of_event(kept)),
        also=story.also,
        topic=ALL.text,
    )


routes = [page("/events/{id:path}", "event", _read, section="events")]
