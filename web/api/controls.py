"""Controls: pause and resume functions and event names, as JSON."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.controls import (
    controls,
    pause_event,
    pause_function,
    resume_event,
    resume_function,
)
from stepstream.checkpoint.registry import function_of
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

_BY = "the API"


async def _paused(request: Request) -> Response:
    ordered = await controls(wire_of(request))
    return value({"data": {"functions": ordered.functions, "events": ordered.events}})


async def _pause_function(request: Request) -> Response:
    slug = request.path_params["id"]
    made = await pause_function(wire_of(request), slug, _BY)
    return value({"data": {"function": slug, "paused": made}})


async def _resume_function(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["id"]
    await function_of(wire, slug)
    return value({"data": {"function": slug, "was_paused": await resume_function(wire, slug)}})


async def _pause_event(request: Request) -> Response:
    name = request.path_params["name"]
    made = await pause_event(wire_of(request), name, _BY)
    return value({"data": {"event": name, "paused": made}})


async def _resume_event(request: Request) -> Response:
    name = request.path_params["name"]
    return value({"data": {"event": name, "was_paused": await resume_event(wire_of(request), name)}})


routes = [
    NeedsRoute("GET", "/v1/paused", _paused, needs="read", name="api_paused"),
    NeedsRoute("POST", "/v1/functions/{id:path}/pause", _pause_function, needs="operate", name="api_pause"),
    NeedsRoute("POST", "/v1/functions/{id:path}/resume", _resume_function, needs="operate", name="api_resume"),
    NeedsRoute("POST", "/v1/event-names/{name:path}/pause", _pause_event, needs="operate", name="api_pause_event"),
    NeedsRoute("POST", "/v1/event-names/{name:path}/resume", _resume_event, needs="operate", name="api_resume_event"),
]
