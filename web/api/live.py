"""`GET /v1/live/{channel}`: the messages of a channel as server-sent events, as they come."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BusError
from stepstream.bus.trust.redaction import Redaction
from stepstream.bus.values import codec
from stepstream.checkpoint.live.hub import Ended, Listener, TooSlow, check_after, hub_of
from stepstream.checkpoint.live.messages import Message as Told
from stepstream.checkpoint.live.messages import check_channel
from stepstream.web.live.stream import HEADERS, Stream, event
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import EVENTS, About
from stepstream.web.table.parameters import Text, Texts
from stepstream.web.trust.hiding import hidden_now

HEARTBEAT_S = 15.0
"""How long nothing may come before a comment is sent, so that nobody in between takes the connection for dead."""
_AGAIN_MS = 1_000

TOPIC = Texts("topic", "messages of this topic; none given: of all")
AFTER = Text("after", "messages behind the one of this id, as header Last-Event-ID; 0: from the oldest that is kept")

Shown = Callable[[Told], bytes]


async def _live(request: Request) -> Response:
    return await stream(
        request, request.path_params["channel"], TOPIC.of(request), partial(_shown, hidden_now().of_any)
    )


def _shown(hidden: Redaction, message: Told) -> bytes:
    data = hidden.plain(message.data)
    told = {"channel": message.channel, "topic": message.topic, "data": data, "at": message.at}
    more = {"run": message.run, "kind": "" if message.kind == "data" else message.kind, "stream": message.stream}
    return event(codec.encode(told | {name: text for name, text in more.items() if text}), message.id)


async def stream(
    request: Request, channel: str, topics: Sequence[str], shown: Shown, headers: dict[str, str] | None = None
) -> Response:
    """Return the messages of a channel as events, behind Last-Event-ID or `?after=`. Errors are told before it begins.

    It ends when the client goes, when the server stops (`event: closing`), and when the client does not take what
    comes (`event: dropped`); clients connect again by themselves, and go on after the last id they have got.
    """
    after = request.headers.get("last-event-id") or AFTER.of(request)
    check_channel(channel)
    check_after(after)
    if request.method == "HEAD":
        return Response(headers={**HEADERS, **(headers or {})}, media_type="text/event-stream")
    entered = AsyncExitStack()
    listener = await entered.enter_async_context(hub_of(wire_of(request)).listen(channel, topics, after))
    body = _events(listener, shown)
    return Stream(entered, body, headers)


async def _events(listener: Listener, shown: Shown) -> AsyncGenerator[bytes]:
    yield b"retry: %d\n\n" % _AGAIN_MS
    is_whole = True  # what SDKs send raw may end within an event
    while True:
        try:
            messages = await listener.next(HEARTBEAT_S)
        except BusError as error:
            kind = "dropped" if isinstance(error, TooSlow) else "closing" if isinstance(error, Ended) else "error"
            told = event(codec.encode({"error": str(error), "code": error.code}), kind=kind)
            yield told if is_whole else b"\n\n" + told
            return
        if listener.is_gap:
            listener.is_gap = False
            yield event(codec.encode({"error": "messages before these are no longer kept", "code": "gap"}), kind="gap")
        if sent := b"".join(map(shown, messages)):
            is_whole = sent.endswith(b"\n\n")
            yield sent
        elif is_whole:
            yield b":\n\n"


routes = [
    NeedsRoute(
        "GET",
        "/v1/live/{channel:path}",
        _live,
        needs="read",
        name="api_live",
        about=About(
            summary="The messages of a channel as [server-sent events](../live.md): `topic` (repeatable), `after`, "
            "`Last-Event-ID`.",
            query=(TOPIC, AFTER),
            answer=EVENTS,
        ),
    )
]
