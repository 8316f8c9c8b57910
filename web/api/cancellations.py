"""/v1/cancellations: cancel many runs at once, by function, time and expression; see how far that has come."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, FunctionNotFound, InUse
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import past_moment
from stepstream.checkpoint.actions.cancel_many import (
    Cancellation,
    CancellationNotFound,
    cancel_many,
    cancellation,
    cancellations,
    end_cancellation,
)
from stepstream.checkpoint.registry import function_of, slugs
from stepstream.web.answers import value
from stepstream.web.api.shapes import ENVIRONMENT, Answer, PageAnswer, answer, moment, page_answer
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.hiding import hidden_now


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs are cancelled: of which function, made when (RFC 3339 or Unix ms), of which `if` (CEL) is true."""

    function_id: str
    app_id: str = ""
    started_before: str | int | None = None
    started_after: str | int | None = None
    if_: str | None = msgspec.field(default=None, name="if")


class CancellationTold(msgspec.Struct, frozen=True, kw_only=True):
    """A bulk cancellation, and how far it has come."""

    id: str
    environment_id: str = ENVIRONMENT
    app_id: str
    function_id: str
    started_after: str | None
    started_before: str
    if_: str | None = msgspec.field(name="if")
    created_at: str
    done_at: str | None
    looked_at: int
    cancelled: int
    not_evaluated: int
    """Of how many `if` could not be evaluated: for a number in their event, its size, a key. They go on."""


_WANTED = Body(Wanted)
FIELDS = Fields(CancellationTold)
PAGED = Paged[Cancellation](lambda one: (one.created or 0, one.id), (int, str))


async def _post(request: Request) -> Response:
    wire = wire_of(request)
    wanted = await _WANTED.of(request)
    slug = f"{wanted.app_id}-{wanted.function_id}" if wanted.app_id else wanted.function_id
    if wanted.function_id.startswith(f"{wanted.app_id}-") and slug not in await slugs(wire):
        slug = wanted.function_id  # it was given whole
    acts_on(request, slug)
    await function_of(wire, slug)
    if wanted.started_before is None:
        raise BadRequest("started_before is missing: until when were the runs made? write a time that is over")
    made = await cancel_many(
        wire,
        wanted.app_id,
        slug,
        before=past_moment(str(wanted.started_before), "started_before", now_ms()),
        after=0 if wanted.started_after is None else past_moment(str(wanted.started_after), "started_after", now_ms()),
        if_=wanted.if_ or "",
        hidden=hidden_now(),
    )
    return value(answer(_shape(made)), 201)


async def _list(request: Request) -> Response:
    page, cursor = PAGED.of(request, await cancellations(wire_of(request)))
    return value(page_answer(FIELDS.rows(request, [_shape(one) for one in page]), cursor))


async def _one(request: Request) -> Response:
    return value(answer(_shape(await cancellation(wire_of(request), request.path_params["id"]))))


async def _delete(request: Request) -> Response:
    await end_cancellation(wire_of(request), request.path_params["id"])
    return Response(status_code=204)


def _shape(one: Cancellation) -> CancellationTold:
    return CancellationTold(
        id=one.id,
        app_id=one.app,
        function_id=one.function.removeprefix(f"{one.app}-") if one.app else one.function,
        started_after=moment(one.after) if one.after else None,
        started_before=moment(one.before),
        if_=one.if_ or None,
        created_at=moment(one.created or now_ms()),
        done_at=moment(one.done) if one.done else None,
        looked_at=one.looked_at,
        cancelled=one.cancelled,
        not_evaluated=one.not_evaluated,
    )


routes = [
    NeedsRoute(
        "POST",
        "/v1/cancellations",
        _post,
        needs="operate",
        name="api_cancel_many",
        about=About(
            summary="Cancel many runs: `app_id`, `function_id`, `started_after`, `started_before`, `if` (CEL). "
            "201 with how far it has come; workers go on.",
            body=_WANTED,
            answer=Answer[CancellationTold],
            status=201,
            errors=(FunctionNotFound, InUse),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/cancellations",
        _list,
        needs="read",
        name="api_cancellations",
        about=About(
            summary="The bulk cancellations of the last 7 days, newest first.",
            query=(*PAGED.query, FIELDS),
            answer=PageAnswer[CancellationTold],
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/cancellations/{id}",
        _one,
        needs="read",
        name="api_cancellation",
        about=About(
            summary="How far one has come: `looked_at`, `cancelled`, `not_evaluated`, `done_at`.",
            answer=Answer[CancellationTold],
            errors=(CancellationNotFound,),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/cancellations/{id}",
        _delete,
        needs="operate",
        name="api_cancellation_end",
        about=About(summary="Let it go no further, and forget it.", status=204, errors=(CancellationNotFound,)),
    ),
]
