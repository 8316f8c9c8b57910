"""The page of an event: what came, and what each function that listens made of it, or why it did not begin."""

import asyncio

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.events import remembered_until
from stepstream.checkpoint.read.event.story import Part, event_story
from stepstream.web.api.events import event_and_runs
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.pages.views import RunRow, Text, listed, shown
from stepstream.web.store import wire_of


class EventPage(View, frozen=True):
    """The page `/events/{id}`. `name` is empty of the event by which a run was invoked: no name listens to it."""

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


async def _read(request: Request) -> EventPage:
    wire = wire_of(request)
    found, runs = await event_and_runs(request, request.path_params["id"], with_runs=False)
    event, now = found.event, now_ms()
    view = EventPage(
        id=event.id,
        name=event.name,
        internal=found.internal if found.internal != event.id else "",
        received=found.received,
        ago=f"{in_words(max(0, now - found.received))} ago",
        ts=event.ts,
        entry=found.entry,
        data=shown(event.data),
        remembered="",
        parts=(),
        words="",
        runs=listed(runs, now),
        topic=ALL.text,
    )
    if not found.entry:  # a run was invoked by it
        return view
    story, until = await asyncio.gather(event_story(wire, found), remembered_until(wire, found))
    remembered = in_words(max(0, until - now)) if until is not None else ""
    return msgspec.structs.replace(view, parts=tuple(story.functions), words=story.words, remembered=remembered)


routes = [page("/events/{id:path}", "event", _read, section="events")]
