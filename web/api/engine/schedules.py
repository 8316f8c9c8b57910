"""/v1/schedules: when each is due, what became of its last tick; run one now."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import FunctionNotFound
from stepstream.bus.values.ids import ulid
from stepstream.checkpoint.registry import function_of, functions
from stepstream.producers.schedules import Schedule, run_of_function, schedules
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields, Texts

FUNCTION = Texts("function", "of this function (its slug); may be given again")
FIELDS = Fields(Schedule)
PAGED = Paged[Schedule](lambda one: (one.function, one.text), (str, str))


class TickWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the schedules of a function (none: its only one, as `GET /v1/schedules` has its `text`).

    Repeated with the same `request`, a ULID, it is the same run.
    """

    schedule: str = ""
    request: str = ""


class Begun(msgspec.Struct, frozen=True):
    """A function, and its run that begins now."""

    function: str
    id: str


_TICK = Body(TickWanted, may_be_empty=True)


async def _schedules(request: Request) -> Response:
    wire, named = wire_of(request), FUNCTION.of(request)
    for slug in named:
        await function_of(wire, slug)
    page, cursor = PAGED.of(request, await schedules(wire, await functions(wire, named or None)))
    return value(Listed(FIELDS.rows(request, page), cursor))


async def _run_now(request: Request) -> Response:
    slug, wanted = request.path_params["id"], await _TICK.of(request)
    run = await run_of_function(wire_of(request), slug, wanted.schedule, wanted.request or ulid())
    return value(Plain(Begun(slug, run)))


routes = [
    NeedsRoute(
        "GET",
        "/v1/schedules",
        _schedules,
        needs="read",
        name="api_schedules",
        about=About(
            summary="The schedules of functions: in words, their last tick and its run, the next five, which were "
            "missed, and whether their function is paused. All moments are Unix ms.",
            query=(FUNCTION, *PAGED.query, FIELDS),
            answer=Listed[Schedule],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/tick",
        _run_now,
        needs="operate",
        name="api_run_schedule",
        about=About(
            summary="Begin a run now, as a tick of its schedule would; its own ticks stay as they are.",
            body=_TICK,
            answer=Plain[Begun],
            errors=(FunctionNotFound,),
        ),
    ),
]
