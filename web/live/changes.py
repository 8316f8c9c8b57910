"""`GET /v1/live`: what changes on the whole server, as server-sent events: runs begin, wait and end, errors come."""

import asyncio
import re
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, FunctionNotFound
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.live.hub import Ended
from stepstream.checkpoint.registry import function_of
from stepstream.web.live.feed import ALL, Feed, Notice, Watcher, feed_of
from stepstream.web.live.journal import Journal
from stepstream.web.live.stream import HEADERS, Stream, event
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import EVENTS, About
from stepstream.web.table.parameters import Text, Texts

HEARTBEAT_S = 15.0
"""How long nothing may come before a comment is sent, so that nobody in between takes the connection for dead."""
_AGAIN_MS = 2_000
_ID = re.compile(r"[0-9A-Za-z]{1,64}-\d{1,15}", re.ASCII)

FUNCTION = Texts("function", "what changes of this function (its slug); may be given again; none given: of all")
AFTER = Text("after", "what changed after this id, as header Last-Event-ID")


async def _live(request: Request) -> Response:
    wire, wanted = wire_of(request), FUNCTION.of(request)
    after = request.headers.get("last-event-id") or AFTER.of(request)
    if after and not _ID.fullmatch(after):
        raise BadRequest(f"after must be the id of an event of /v1/live, got {after[:60]!r}; leave it out to begin")
    for slug in wanted:
        await function_of(wire, slug)
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type="text/event-stream")
    feed, entered = feed_of(wire), AsyncExitStack()
    watcher = await entered.enter_async_context(feed.watch(ALL, reads_journal=True))
    return Stream(entered, _events(feed, watcher, frozenset(wanted), after))


async def _events(feed: Feed, watcher: Watcher, wanted: Collection[str], place: str) -> AsyncGenerator[bytes]:
    """Yield what changes after a place, or from now on: it begins when all functions have been looked at."""
    yield b"retry: %d\n\n" % _AGAIN_MS
    is_away = False
    try:
        while True:
            if feed.journal.is_open:
                told, place = _behind(feed.journal, place, wanted)
                yield told or b":\nid: %s\n\n" % place.encode()
            elif not is_away:
                yield b":\n\n"
            notice = await _next(watcher)
            if notice is None:
                continue
            if notice.error:
                yield event(codec.encode({"error": notice.error, "code": "store_unavailable"}), kind="trouble")
            elif is_away:
                yield event(codec.encode({"at": now_ms()}), kind="now")
            is_away = bool(notice.error)
    except Ended as error:
        yield event(codec.encode({"error": str(error), "code": error.code}), kind="closing")


async def _next(watcher: Watcher) -> Notice | None:
    """Return the next notice; None when none comes for a while."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            return await watcher.next()
    except TimeoutError:
        return None


def _behind(journal: Journal, place: str, wanted: Collection[str]) -> tuple[bytes, str]:
    """Return what is told of what came after a place, and the place that is reached with it."""
    now = journal.place
    if not place:
        return event(codec.encode({"at": now_ms()}), now, "now"), now
    found = journal.since(place)
    if found is None:
        told = {"at": now_ms(), "error": "what changed meanwhile is not known here: look anew", "code": "gap"}
        return event(codec.encode(told), now, "gap"), now
    mine = [(id, one) for id, one in found if not wanted or one.function in wanted]
    return b"".join(event(codec.encode(one), id, "changed") for id, one in mine), now


routes = [
    NeedsRoute(
        "GET",
        "/v1/live",
        _live,
        needs="read",
        name="api_changes",
        about=About(
            summary="What changes on the whole server, as [server-sent events](../live.md#the-whole-server): of which "
            "`function` (repeatable) runs begin, wait, end or fail; `after`, `Last-Event-ID`.",
            query=(FUNCTION, AFTER),
            answer=EVENTS,
            errors=(FunctionNotFound,),
        ),
    )
]
