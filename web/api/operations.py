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
from stepstream.checkpoint.read.listing import RunLine
from stepstream.checkpoint.read.search import RunQuery, query_of
from stepstream.web.answers import value
from stepstream.web.api.shapes import Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body

_BY = "the API"

Filters = dict[str, str | int | list[str]]


class WantedRerun(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs are run again: the filters of `GET /v1/runs` by name, and how many were confirmed, if somebody did."""

    query: Filters
    expected: int | None = None


class WantedCount(msgspec.Struct, forbid_unknown_fields=True):
    """What is counted: which runs would be cancelled, or run again."""

    kind: Kind
    query: Filters


class WantedOperation(msgspec.Struct, forbid_unknown_fields=True):
    """What is done with which runs, and how many were confirmed, if somebody did."""

    kind: Kind
    query: Filters
    expected: int | None = None


class CountTold(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs match (at least, unless `exact`), the newest of them, and the query that ends with this moment."""

    kind: Kind
    query: Filters
    count: int
    exact: bool
    looked_at: int
    sample: list[RunLine]


class OperationTold(msgspec.Struct, frozen=True, kw_only=True):
    """An operation, and how far it has come."""

    id: str
    kind: Kind
    query: Filters
    by: str
    created: int
    expected: int | None
    state: str
    ended: int
    looked_at: int
    matched: int
    done: int
    failed: int
    refused: str


_OPERATION, _RERUN, _COUNT = Body(WantedOperation), Body(WantedRerun), Body(WantedCount)


async def _post(request: Request) -> Response:
    wanted = await _OPERATION.of(request)
    return await _begun(wire_of(request), wanted.kind, wanted.query, wanted.expected)


async def _post_rerun(request: Request) -> Response:
    wanted = await _RERUN.of(request)
    return await _begun(wire_of(request), "rerun", wanted.query, wanted.expected)


async def _begun(wire: Wire, kind: Kind, query: Filters, expected: int | None) -> Response:
    made = await operate(wire, kind, await _query(wire, query), by=_BY, expected=expected)
    return value(Plain(_told(made)), 201)


async def _count(request: Request) -> Response:
    wire, wanted = wire_of(request), await _COUNT.of(request)
    found = await dry_count(wire, wanted.kind, await _query(wire, wanted.query))
    told = CountTold(
        kind=found.kind,
        query=_filters(found.query),
        count=found.count,
        exact=found.exact,
        looked_at=found.looked_at,
        sample=found.sample,
    )
    return value(Plain(told))


async def _list(request: Request) -> Response:
    return value(Plain([_told(one) for one in await operations(wire_of(request))]))


async def _one(request: Request) -> Response:
    return value(Plain(_told(await operation(wire_of(request), request.path_params["id"]))))


async def _delete(request: Request) -> Response:
    return value(Plain(_told(await abort(wire_of(request), request.path_params["id"]))))


async def _query(wire: Wire, given: Mapping[str, str | int | list[str]]) -> RunQuery:
    several = {name: text if isinstance(text, list) else [str(text)] for name, text in given.items()}
    return await query_of(wire, [(name, text) for name, texts in several.items() for text in texts])


def _filters(query: RunQuery) -> Filters:
    """Return a query as the filters that it would be read from."""
    told: Filters = {}
    for name, text in query.pairs():
        if name in ("since", "until"):
            told[name] = int(text)
        else:
            told[name] = text
    several = {"status": [*query.statuses], "function": [*query.functions]}
    return {**told, **{name: texts for name, texts in several.items() if texts}}


def _told(one: Operation) -> OperationTold:
    return OperationTold(
        id=one.id,
        kind=one.kind,
        query=_filters(one.query),
        by=one.by,
        created=one.created,
        expected=one.expected,
        state=one.state,
        ended=one.ended,
        looked_at=one.looked_at,
        matched=one.matched,
        done=one.done,
        failed=one.failed,
        refused=one.refused,
    )


_REFUSALS = (BadRequest, FunctionNotFound, InUse, Conflict)

routes = [
    NeedsRoute(
        "POST",
        "/v1/operations",
        _post,
        needs="operate",
        name="api_operate",
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
        about=About(summary="The operations of the last 7 days, newest first.", answer=Plain[list[OperationTold]]),
    ),
    NeedsRoute(
        "GET",
        "/v1/operations/{id}",
        _one,
        needs="read",
        name="api_operation",
        about=About(
            summary="How far one has come: `state`, `looked_at`, `matched`, `done`, `failed`.",
            answer=Plain[OperationTold],
            errors=(OperationNotFound,),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/operations/{id}",
        _delete,
        needs="operate",
        name="api_operation_abort",
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
            summary="Run again all runs that match: as `POST /v1/operations` of kind rerun.",
            body=_RERUN,
            answer=Plain[OperationTold],
            status=201,
            errors=_REFUSALS,
        ),
    ),
]
