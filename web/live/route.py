"""`GET /live?of=TOPIC`: what an open page holds, as server-sent events: that something of its topic changed."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.values import codec
from stepstream.checkpoint.live.hub import Ended
from stepstream.web.live.feed import Watcher, feed_of, topic_of
from stepstream.web.live.stream import HEADERS, Stream, event
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

_AGAIN_MS = 2_000


async def _live(request: Request) -> Response:
    topic = topic_of(request.query_params.get("of", ""))
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type="text/event-stream")
    entered = AsyncExitStack()
    watcher = await entered.enter_async_context(feed_of(wire_of(request)).watch(topic))
    return Stream(entered, _notices(watcher))


async def _notices(watcher: Watcher) -> AsyncGenerator[bytes]:
    yield b"retry: %d\n\n" % _AGAIN_MS
    try:
        while True:
            yield event(codec.encode(await watcher.next()))
    except Ended as error:
        yield event(codec.encode({"error": str(error), "code": error.code}), kind="closing")


routes = [NeedsRoute("GET", "/live", _live, needs="read", name="live")]
