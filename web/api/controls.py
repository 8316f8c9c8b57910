"""Controls: pause and resume functions and event names, as JSON."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, FunctionNotFound
from stepstream.checkpoint.controls.ordered import Pause, Paused, controls
from stepstream.checkpoint.controls.pauses import pause_event, pause_function, resume_event, resume_function
from stepstream.checkpoint.controls.run_one import LetThrough, NotPaused, run_one
from stepstream.checkpoint.registry import function_of
from stepstream.web.answers import value
from stepstream.web.api.shapes import Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.trust.principal import API, by


class IsPaused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `function`, or an `event` name, and how it is paused from now, or was already."""

    function: str = ""
    event: str = ""
    paused: Pause


class GoesOn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `function` that goes on, or an `event` name for which functions begin runs again."""

    function: str = ""
    event: str = ""
    was_paused: bool


class OneWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Once for each `request`, an id of the caller's."""

    request: str = ""


_ONE = Body(OneWanted, may_be_empty=True)


async def _paused(request: Request) -> Response:
    return value(Plain((await controls(wire_of(request))).paused))


async def _pause_function(request: Request) -> Response:
    slug = request.path_params["id"]
    return value(Plain(IsPaused(function=slug, paused=await pause_function(wire_of(request), slug, by(request, API)))))


async def _resume_function(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["id"]
    await function_of(wire, slug)
    return value(Plain(GoesOn(function=slug, was_paused=await resume_function(wire, slug))))


async def _run_one(request: Request) -> Response:
    wanted = await _ONE.of(request)
    return value(Plain(await run_one(wire_of(request), request.path_params["id"], by(request, API), wanted.request)))


async def _pause_event(request: Request) -> Response:
    name = request.path_params["name"]
    return value(Plain(IsPaused(event=name, paused=await pause_event(wire_of(request), name, by(request, API)))))


async def _resume_event(request: Request) -> Response:
    name = request.path_params["name"]
    return value(Plain(GoesOn(event=name, was_paused=await resume_event(wire_of(request), name))))


routes = [
    NeedsRoute(
        "GET",
        "/v1/paused",
        _paused,
        needs="read",
        name="api_paused",
        about=About(
            summary="The functions and event names that are paused, each since when (`since`, Unix ms) and by whom.",
            answer=Plain[Paused],
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/pause",
        _pause_function,
        needs="operate",
        name="api_pause_function",
        about=About(
            summary="Pause a function: its work [stays in line](../how-to/on-call.md). Pausing twice changes nothing.",
            answer=Plain[IsPaused],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/resume",
        _resume_function,
        needs="operate",
        name="api_resume_function",
        about=About(
            summary="Let it go on; `was_paused` tells whether it was.",
            answer=Plain[GoesOn],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/run-one",
        _run_one,
        needs="operate",
        name="api_run_one",
        about=About(
            summary="Let one run of a paused function go on, to its next wait: the turn that is due first, else the "
            "next event; of a function with limits the next that gets its place. Asked again before a worker has "
            "taken it, nothing changes.",
            body=_ONE,
            answer=Plain[LetThrough],
            errors=(FunctionNotFound, NotPaused),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/event-names/{name:path}/pause",
        _pause_event,
        needs="operate",
        name="api_pause_event",
        about=About(
            summary="Let no function begin a run for events of this name.",
            answer=Plain[IsPaused],
            errors=(BadRequest,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/event-names/{name:path}/resume",
        _resume_event,
        needs="operate",
        name="api_resume_event",
        about=About(
            summary="Let functions begin runs for them; `was_paused` tells whether it was paused.",
            answer=Plain[GoesOn],
        ),
    ),
]
