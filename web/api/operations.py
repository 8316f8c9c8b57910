"""/v1/operations: cancel or run again what matches a query: count first, then do it, watch it, stop it."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, Conflict, FunctionNotFound, InUse
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.operations import (
    Kind,
    Operation,
    OperationNotFound,
    abort,
    dry_count,
    operate,
    operation,
    operations,
)
from stepstream.checkpoint.actions.told import CountTold, Filters, OperationTold, count_told, operation_told
from stepstream.checkpoint.read.lists.search import RunQuery, query_of
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.hiding import hidden_now
from stepstream.web.trust.principal import API, by

FIELDS = Fields(OperationTold)
PAGED = Paged[Operation](lambda one: (one.created, one.id), (int, str))


class RerunMany(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs are run again: the filters of `GET /v1/runs` by name, and how many were confirmed, if somebody did.

    What has been run again already is left out, unless with `again`.
    """

    query: Filters
    expected: int | None = None
    again: bool = False


class WantedCount(msgspec.Struct, forbid_unknown_fields=True):
    """What is counted: which runs would be cancelled, or run again."""

    kind: Kind
    query: Filters


class WantedOperation(RerunMany, kw_only=True, forbid_unknown_fields=True):
    """What is done with which runs, and how many were confirmed, if somebody did; `again` as of a rerun."""

    kind: Kind


_OPERATION, _RERUN, _COUNT = Body(WantedOperation), Body(RerunMany), Body(WantedCount)


async def _post(request: Request) -> Response:
    wanted = await _OPERATION.of(request)
    return await _begun(request, wanted.kind, wanted)


async def _post_rerun(request: Request) -> Response:
    wanted = await _RERUN.of(request)
    return await _begun(request, "rerun", wanted)


async def _begun(request: Request, kind: Kind, wanted: RerunMany) -> Response:
    wire = wire_of(request)
    filters = (f"{name}={','.join(one) if isinstance(one, list) else one}" for name, one in wanted.query.items())
    acts_on(request, kind, "all runs" if wanted.expected is None else f"{wanted.expected} runs", *filters)
    query = await _query(wire, wanted.query)
    made = await operate(wire, kind, query, by=by(request, API), expected=wanted.expected, again=wanted.again)
    return value(Plain(operation_told(made)), 201)


async def _count(request: Request) -> Response:
    wire, wanted = wire_of(request), await _COUNT.of(request)
    found = await dry_count(wire, wanted.kind, await _query(wire, wanted.query))
    return value(Plain(count_told(found)))


async def _list(request: Request) -> Response:
    page, cursor = PAGED.of(request, await operations(wire_of(request)))
    return value(Listed(FIELDS.rows(request, [operation_told(one) for one in page]), cursor))


async def _one(request: Request) -> Response:
    return value(Plain(operation_told(await operation(wire_of(request), request.path_params["id"]))))


async def _delete(request: Request) -> Response:
    return value(Plain(operation_told(await abort(wire_of(request), request.path_params["id"]))))


async def _query(wire: Wire, given: Mapping[str, str | int | list[str]]) -> RunQuery:
    several = {name: text if isinstance(text, list) else [str(text)] for name, text in given.items()}
    return await query_of(wire, [(name, text) for name, texts in several.items() for text in texts], hidden_now())


_REFUSALS = (BadRequest, FunctionNotFound, InUse, Conflict)

routes = [
    NeedsRoute(
        "POST",
        "/v1/operations",
        _post,
        needs="operate",
        name="api_begin_operation",
        about=About(
            summary="Cancel or run again all runs that match: `kind` (cancel or rerun), `query` (the filters of "
            "`/v1/runs`, by name), `expected` (the count that was confirmed). 201 with how far it has come; workers go "
            "on.",
            body=_OPERATION,
            answer=Plain[OperationTold],
            status=201,
            errors=_REFUSALS,
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/operations/count",
        _count,
        needs="operate",
        name="api_operation_count",
        acts=False,
        about=About(
            summary="How many runs an operation would be about, and some of them: nothing is done.",
            body=_COUNT,
            answer=Plain[CountTold],
            errors=(BadRequest, FunctionNotFound),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/operations",
        _list,
        needs="read",
        name="api_operations",
        about=About(
            summary="The operations of the last 7 days, newest first.",
            query=(*PAGED.query, FIELDS),
            answer=Listed[OperationTold],
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/operations/{id}",
        _one,
        needs="read",
        name="api_operation",
        about=About(
            summary="How far one has come: `state`, `looked_at`, `matched`, `done`, `failed`, `failures` by reason.",
            answer=Plain[OperationTold],
            errors=(OperationNotFound,),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/operations/{id}",
        _delete,
        needs="operate",
        name="api_abort_operation",
        about=About(
            summary="Abort it: it goes no further; what it has done stays.",
            answer=Plain[OperationTold],
            errors=(OperationNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/reruns",
        _post_rerun,
        needs="operate",
        name="api_rerun_many",
        about=About(
            summary="Run again all runs that match, but for those that have been run again already, unless with "
            "`again`: as `POST /v1/operations` of kind rerun.",
            body=_RERUN,
            answer=Plain[OperationTold],
            status=201,
            errors=_REFUSALS,
        ),
    ),
]
