"""Realtime, for the SDKs: an application publishes to a channel, and asks for what lets a page listen to it.

The channels are those of live messages, so what a Python function publishes comes to who listens through an SDK, and
the other way round. Who listens: web/sdk/listening.py.
"""

import codecs
from collections.abc import AsyncGenerator

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, EventInvalid
from stepstream.bus.trust.tickets import Topic
from stepstream.bus.values import codec
from stepstream.bus.values.ids import token, ulid_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.messages import MAX_MESSAGE_BYTES, check_channel, check_topic, publish
from stepstream.producers.body import MAX_BODY_BYTES, RequestRefused, bounds_its_body, pieces, read_body
from stepstream.producers.strict import Malformed, parse, parse_as
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.trust.keys import keys_of
from stepstream.web.trust.principal import principal_of

PIECE_WITHIN_S = 300.0
"""How long a stream that is published may say nothing."""
RAW_TOPIC = "$stream"
"""The topic of what `publish/tee` passes on: to who has asked for it, for others could not read it."""
_STREAM = "text/stream"
_MOST_OF_A_PIECE = 64 * 1024
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""Between JSON's values lines may end, within its texts they cannot; a server-sent event is one line."""


class _Sender(msgspec.Struct, frozen=True):
    """Where an application publishes: a topic of a channel, for a run or for none."""

    wire: Wire
    channel: str
    topic: str
    run: str
    stream: str = ""

    async def send(self, data: bytes, kind: str = "data") -> None:
        """Publish a message; the data is JSON."""
        await publish(self.wire, self.channel, self.topic, data, run=self.run, kind=kind, stream=self.stream)


async def _token(request: Request) -> Response:
    """Return what lets whoever has it listen to the topics that are asked for, if it connects within a minute."""
    topics = parse_as(await read_body(request), list[Topic])
    if len({topic.channel for topic in topics}) != 1:
        raise BadRequest("a token is for one channel: post a list of its topics, with channel and name, at least one")
    check_channel(topics[0].channel)
    for topic in topics:
        check_topic(topic.name)
    return value({"jwt": keys_of(request).ticket(topics, principal_of(request))}, 201)


async def _publish(request: Request) -> Response:
    several = request.query_params.getlist("topic")
    if len(several) > 1:
        raise BadRequest(f"a message has one topic, got {len(several)}: publish it to each")
    sender = _sender(request, several[0] if several else "")
    if request.headers.get("content-type", "").partition(";")[0].strip() == _STREAM:
        await _send_stream(request, sender)
    else:
        await sender.send(_json(await read_body(request, MAX_MESSAGE_BYTES)))
    return Response()


async def _tee(request: Request) -> Response:
    """Pass on what comes, as it comes."""
    sender = _sender(request, RAW_TOPIC)
    async for text in _texts(request):
        await sender.send(codec.encode(text), "raw")
    return Response()


def _sender(request: Request, topic: str) -> _Sender:
    channel, run = request.query_params.get("channel", ""), request.query_params.get("run_id", "")
    check_channel(channel)
    check_topic(topic)
    if run and ulid_ms(run) is None:
        raise BadRequest(f"run_id must be the id of a run, 26 letters and digits, got {run[:60]!r}")
    return _Sender(wire_of(request), channel, topic, run)


def _json(body: bytes) -> bytes:
    """Return a message's data: JSON as it is, anything else as a text, for SDKs send a text without its quotes."""
    try:
        parse(body)
    except Malformed:
        try:
            return codec.encode(body.decode())
        except UnicodeDecodeError as error:
            raise BadRequest(f"a message is JSON or text in UTF-8; byte {error.start} is neither") from None
    except EventInvalid as error:
        raise BadRequest(error.reason) from None
    return body.translate(_ONE_LINE)


async def _send_stream(request: Request, sender: _Sender) -> None:
    """Publish a stream in pieces as they come. Who listens is told of its end however it ends."""
    sender = msgspec.structs.replace(sender, stream=token())
    told = codec.encode(sender.stream)
    await sender.send(told, "datastream-start")
    try:
        async for text in _texts(request):
            await sender.send(codec.encode(text), "chunk")
    finally:
        await sender.send(told, "datastream-end")


async def _texts(request: Request) -> AsyncGenerator[str]:
    """Yield the text of a body as it comes; a letter that is cut in two comes with its second half."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    coming = pieces(request, MAX_BODY_BYTES)
    bounds_its_body(request.scope)
    is_over = False
    while not is_over:
        try:
            with anyio.fail_after(PIECE_WITHIN_S):
                piece = await anext(coming, None)
        except TimeoutError:
            raise RequestRefused(408, f"nothing came for {PIECE_WITHIN_S:.0f} s") from None
        is_over = piece is None
        text = decoder.decode(piece or b"", final=is_over)
        for start in range(0, len(text), _MOST_OF_A_PIECE):
            yield text[start : start + _MOST_OF_A_PIECE]


routes = [
    NeedsRoute("POST", "/v1/realtime/token", _token, needs="read", name="sdk_realtime_token"),
    NeedsRoute("POST", "/v1/realtime/publish", _publish, needs="operate", name="sdk_realtime_publish"),
    NeedsRoute("POST", "/v1/realtime/publish/tee", _tee, needs="operate", name="sdk_realtime_tee"),
]
