"""`POST /v0/connect/start`, `/v0/connect/flush`, and the WebSocket: how workers of applications connect."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from stepstream.bus.errors import BusError
from stepstream.checkpoint.connections.calls import answer, app_of_call
from stepstream.checkpoint.connections.workers import promise
from stepstream.producers.body import read_body
from stepstream.web.connect import messages
from stepstream.web.connect.gateway import CLOSING, gateway_of
from stepstream.web.connect.protobuf import Message
from stepstream.web.connect.replies import reply_of
from stepstream.web.routing import NeedsRoute, NeedsSocket, link
from stepstream.web.store import wire_of

_PATIENCE_S = 2.0


class Draining(BusError):
    """This process stops: who asks again soon reaches another."""

    code = CLOSING
    status = 503

    def __init__(self) -> None:
        super().__init__("this server stops, ask again: connect_gateway_closing")


async def _start(request: Request) -> Response:
    gateway = gateway_of(request)
    messages.StartRequest.decoded(
        await read_body(request)
    )  # the gateways it does not want are not looked at: there may be no other
    if gateway.is_draining:
        raise Draining
    connection, secret = await promise(wire_of(request))
    scheme = "wss" if request.url.scheme == "https" else "ws"
    endpoint = f"{scheme}://{request.headers['host']}{link(request, 'connect_gateway')}"
    return _protobuf(
        messages.StartResponse(
            connection_id=connection,
            gateway_endpoint=endpoint,
            gateway_group=gateway.id,
            session_token=secret,
            sync_token=secret,
        )
    )


async def _flush(request: Request) -> Response:
    said = messages.Response.decoded(await read_body(request))
    await answer(wire_of(request), app_of_call(said.request_id), said.request_id, reply_of(said), _PATIENCE_S)
    return _protobuf(messages.ReplyAck(request_id=said.request_id))


async def _connect(socket: WebSocket) -> None:
    await gateway_of(socket).serve(socket)


def _protobuf(message: Message) -> Response:
    return Response(message.encoded(), media_type="application/protobuf")


routes = [
    NeedsRoute("POST", "/v0/connect/start", _start, needs="app", name="connect_start"),
    NeedsRoute("POST", "/v0/connect/flush", _flush, needs="app", name="connect_flush"),
    NeedsSocket("/v0/connect", _connect, needs="nothing", name="connect_gateway"),  # its token is checked there
]
