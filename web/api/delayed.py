"""Delayed events: those that are to be published later, listed and taken back."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest
from stepstream.checkpoint.delayed import list_delayed, take_back
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

MOST = 1_000


async def _delayed(request: Request) -> Response:
    text = request.query_params.get("limit", "100")
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST):
        raise BadRequest(f"limit must be a number from 1 to {MOST}, got {text[:40]!r}")
    return value({"data": await list_delayed(wire_of(request), request.query_params.get("name"), int(text))})


async def _cancel(request: Request) -> Response:
    name, event_id = request.query_params.get("name"), request.query_params.get("id")
    if not name or not event_id:
        raise BadRequest("which event? write /v1/delayed?name=order/paid&id=o1")
    await take_back(wire_of(request), name, event_id)
    return value({"data": {"name": name, "id": event_id, "status": "cancelled"}})


routes = [
    NeedsRoute("GET", "/v1/delayed", _delayed, needs="read", name="api_delayed"),
    NeedsRoute("DELETE", "/v1/delayed", _cancel, needs="operate", name="api_delayed_cancel"),
]
