"""Listening, for the SDKs: the messages of a channel over a WebSocket, or as server-sent events, in the SDKs' words.

A page says by its ticket what it may hear. It gets what comes from then on.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from msgspec import Raw
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from stepstream.bus.errors import BusError
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.trust.redaction import Redaction
from stepstream.bus.values import codec
from stepstream.checkpoint.live.hub import Ended, Listener, TooSlow, hub_of
from stepstream.checkpoint.live.messages import Message
from stepstream.web.api.live import stream
from stepstream.web.api.shapes import moment
from stepstream.web.hosts import OriginRefused, hosts_of
from stepstream.web.live.stream import TAKEN_WITHIN_S, event
from stepstream.web.routing import NeedsRoute, NeedsSocket
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import NOTHING, hidden_by
from stepstream.web.trust.keys import keys_of

_LONG_S = 3_600.0
_GOING_AWAY, _BROKEN, _AGAIN_LATER = 1001, 1011, 1013
_MOST_REASON = 123
"""Bytes of the reason in a close frame (RFC 6455)."""
_ANY_PAGE = {"Access-Control-Allow-Origin": "*"}


async def _sse(request: Request) -> Response:
    channel, topics, hidden = await _heard(request)
    return await stream(request, channel, topics, partial(_event, hidden), _ANY_PAGE)


def _event(hidden: Redaction, message: Message) -> bytes:
    return _raw(hidden, message).encode() if message.kind == "raw" else event(_told(hidden, message), message.id)


def _raw(hidden: Redaction, message: Message) -> str:
    return hidden.text(str(message.data))


async def _connect(socket: WebSocket) -> None:
    channel, topics, hidden = await _heard(socket)
    async with hub_of(wire_of(socket)).listen(channel, topics) as listener:
        await socket.accept()
        telling = asyncio.create_task(_tell(socket, listener, hidden))
        gone = asyncio.create_task(_until_gone(socket))
        try:
            await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(telling, gone)
        if not telling.cancelled():
            telling.result()


async def _tell(socket: WebSocket, listener: Listener, hidden: Redaction) -> None:
    """Send what comes, until the listener hears no more; one that takes nothing is cut off without a word."""
    try:
        while True:
            for message in await listener.next(_LONG_S):
                text = _raw(hidden, message) if message.kind == "raw" else _told(hidden, message).decode()
                async with asyncio.timeout(TAKEN_WITHIN_S):
                    await socket.send_text(text)
    except (WebSocketDisconnect, TimeoutError):
        return
    except BusError as error:
        code = _AGAIN_LATER if isinstance(error, TooSlow) else _GOING_AWAY if isinstance(error, Ended) else _BROKEN
        reason = f"{error.code}: {error}".encode()[:_MOST_REASON].decode(errors="ignore")
        await socket.close(code, reason)


async def _until_gone(socket: WebSocket) -> None:
    """Wait until the other side has closed; what it says is nothing to us."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _heard(request: HTTPConnection) -> tuple[str, Sequence[str], Redaction]:
    """Return the channel and the topics of a ticket, and what is hidden: nothing, if an admin has asked for it.

    Without keys a ticket is no secret: then foreign pages are refused.
    """
    keys = keys_of(request)
    heard = keys.heard(request)
    topics = heard.topics
    if keys.kind == "dev" and not hosts_of(request).is_near(request.headers):
        raise OriginRefused(request.headers)
    hidden = NOTHING if heard.is_whole else (await hidden_by(request)).of_any
    return topics[0].channel, [topic.name for topic in topics], hidden


def _told(hidden: Redaction, message: Message) -> bytes:
    """Return a message as SDKs read it."""
    told = {
        "kind": message.kind,
        "channel": message.channel,
        "topic": message.topic,
        "data": Raw(hidden.json(message.json)),
        "created_at": moment(message.at),
    }
    if message.run:
        told["run_id"] = message.run
    if message.kind == "chunk":
        told["stream_id"] = message.stream
    return codec.encode(told)


routes = [
    NeedsRoute("GET", "/v1/realtime/sse", _sse, needs="listen", name="sdk_realtime_sse"),
    NeedsSocket("/v1/realtime/connect", _connect, needs="listen", name="sdk_realtime_connect", any_origin=True),
]
