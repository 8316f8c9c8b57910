"""/v1/cancellations: cancel many runs at once, by function, time and expression; see how far that has come."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.actions.cancel_many import (
    Cancellation,
    cancel_many,
    cancellation,
    cancellations,
    end_cancellation,
)
from stepstream.checkpoint.registry import function_of, slugs
from stepstream.producers.body import read_body
from stepstream.producers.strict import parse_as
from stepstream.web.answers import value
from stepstream.web.api.events import moment_of
from stepstream.web.api.shapes import ENVIRONMENT, answer, moment
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

_MOST_BYTES = 65_536


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    function_id: str
    app_id: str = ""
    started_before: str | int | None = None
    started_after: str | int | None = None
    if_: str | None = msgspec.field(default=None, name="if")


async def _post(request: Request) -> Response:
    wire = wire_of(request)
    wanted = parse_as(await read_body(request, _MOST_BYTES), _Wanted)
    slug = f"{wanted.app_id}-{wanted.function_id}" if wanted.app_id else wanted.function_id
    if wanted.function_id.startswith(f"{wanted.app_id}-") and slug not in await slugs(wire):
        slug = wanted.function_id  # it was given whole
    await function_of(wire, slug)
    if wanted.started_before is None:
        raise BadRequest("started_before is missing: until when were the runs made? write a time that is over")
    made = await cancel_many(
        wire,
        wanted.app_id,
        slug,
        before=moment_of(str(wanted.started_before), "started_before"),
        after=0 if wanted.started_after is None else moment_of(str(wanted.started_after), "started_after"),
        if_=wanted.if_ or "",
    )
    return value(answer(_shape(made)), 201)


async def _list(request: Request) -> Response:
    return value(answer([_shape(one) for one in await cancellations(wire_of(request))]))


async def _one(request: Request) -> Response:
    return value(answer(_shape(await cancellation(wire_of(request), request.path_params["id"]))))


async def _delete(request: Request) -> Response:
    await end_cancellation(wire_of(request), request.path_params["id"])
    return Response(status_code=204)


def _shape(one: Cancellation) -> dict[str, Any]:
    return {
        "id": one.id,
        "environment_id": ENVIRONMENT,
        "app_id": one.app,
        "function_id": one.function.removeprefix(f"{one.app}-") if one.app else one.function,
        "started_after": moment(one.after) if one.after else None,
        "started_before": moment(one.before),
        "if": one.if_ or None,
        "created_at": moment(one.created or now_ms()),
        "done_at": moment(one.done) if one.done else None,
        "looked_at": one.looked_at,
        "cancelled": one.cancelled,
    }


routes = [
    NeedsRoute("POST", "/v1/cancellations", _post, needs="operate", name="api_cancel_many"),
    NeedsRoute("GET", "/v1/cancellations", _list, needs="read", name="api_cancellations"),
    NeedsRoute("GET", "/v1/cancellations/{id}", _one, needs="read", name="api_cancellation"),
    NeedsRoute("DELETE", "/v1/cancellations/{id}", _delete, needs="operate", name="api_cancellation_end"),
]
