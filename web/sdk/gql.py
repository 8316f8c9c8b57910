"""`POST /v0/gql`: the queries about runs that tests and scripts of the official SDKs ask, by their fields' names.

What is asked for and is not known here is null, so that a query for more than we have gets what there is.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.encryption.sealing import shown
from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.checkpoint.read.run.bringing import event_brought_if_there, run_brought, steps_brought
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Run
from stepstream.consumers.remote.memos import shown_event
from stepstream.producers.body import read_body
from stepstream.producers.strict import parse_as
from stepstream.web.answers import value
from stepstream.web.api.events import event_and_runs
from stepstream.web.api.shapes import event_of, moment, output_of, status_of
from stepstream.web.routing import NeedsRoute
from stepstream.web.sdk.query_text import Asked, read_query
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hide, hide_of

_MOST_BYTES = 65_536
_MOST_QUERIES = 20
_STATUSES = {"Scheduled": "QUEUED"}
_STEP_STATUSES = {"completed": "COMPLETED", "failed": "FAILED", "timed_out": "COMPLETED", "cancelled": "CANCELLED"}


class _Question(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None


class _OutputId(msgspec.Struct, array_like=True):
    """What the id of an output says: which step of which run, or that it is the run's own."""

    run: str
    step: str = ""

    @property
    def text(self) -> str:
        return base64.urlsafe_b64encode(codec.encode(self)).decode()

    @classmethod
    def of(cls, text: str) -> "_OutputId":
        try:
            return codec.decode_as(base64.urlsafe_b64decode(text), cls)
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise BadRequest(f"outputID {text[:60]!r} was not given by this server: take it from a span") from None


async def _answer(request: Request) -> Response:
    question = parse_as(await read_body(request, _MOST_BYTES), _Question)
    data: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    try:
        asked = read_query(question.query, question.variables or {})
        if len(asked) > _MOST_QUERIES:
            raise BadRequest(f"query: asks {len(asked)} questions; at most {_MOST_QUERIES}")
    except BusError as error:
        return value({"data": {}, "errors": [{"message": str(error)}]})
    for field in asked:
        try:
            data[field.alias] = _picked(field, await _ask(request, field))
        except BusError as error:
            if error.status >= 500:
                raise
            data[field.alias] = None
            errors.append({"message": str(error), "path": [field.alias], "extensions": {"code": error.code}})
    return value({"data": data, "errors": errors} if errors else {"data": data})


async def _ask(request: Request, field: Asked) -> Any:
    known = _QUERIES.get(field.name)
    if known is None:
        raise BadRequest(f"query: there is no {field.name[:60]!r} here; there are {', '.join(_QUERIES)}")
    return await known(request, field)


def _argument(field: Asked, *names: str) -> str:
    """Return an argument of a field, which may lie inside another; BadRequest when it is missing."""
    found: Any = field.arguments
    for name in names:
        found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, str) or not found:
        raise BadRequest(f"query: {field.name} needs {'.'.join(names)}, text that is not empty")
    return found


def _picked(field: Asked, found: Any) -> Any:
    """Return of a value the fields that are asked for, under the names they are to have."""
    if isinstance(found, list):
        return [_picked(field, one) for one in cast("list[Any]", found)]
    if not field.fields or not isinstance(found, Mapping):
        return found
    row = cast("Mapping[str, Any]", found)
    return {one.alias: _picked(one, row.get(one.name)) for one in field.fields}


def _text(raw: msgspec.Raw | None) -> str | None:
    """Return JSON as text."""
    return None if raw is None else bytes(raw).decode()


def _status(run: Run) -> str:
    word = status_of(run)
    return _STATUSES.get(word, word.upper())


def _run(run: Run) -> dict[str, Any]:
    event = event_of(run)
    return {
        "id": run.id,
        "status": _status(run),
        "output": _text(hide_of(run, output_of(run))),
        "queuedAt": moment(run.queued),
        "startedAt": None if run.started is None else moment(run.started),
        "endedAt": None if run.ended is None else moment(run.ended),
        "eventName": None if event is None else event.name,
        "functionID": run.function,
        "function": {"id": run.function, "slug": run.function, "name": run.function},
        "isBatch": bool(event and event.batch),
    }


async def _run_of(request: Request, field: Asked) -> dict[str, Any]:
    wire = wire_of(request)
    run = await get(wire, _argument(field, "runID"))
    told = _run(await run_brought(wire, run))
    if field.asks_for("trace"):
        views = await steps(wire, run.function, run.id)
        spans = [_span(run, view, name) for view, name in zip(views, _names(views), strict=True)]
        told["trace"] = {
            **told,
            "name": run.function,
            "runID": run.id,
            "spanID": run.id,
            "outputID": _OutputId(run.id).text if run.has_ended else None,
            "childrenSpans": spans,
        }
    return told


def _names(views: list[StepView]) -> list[str]:
    """Return the names of steps: a repeated one, `id:1`, has that of the first."""
    ids = {view.id for view in views}
    found: list[str] = []
    for view in views:
        base, _, number = view.id.rpartition(":")
        is_repeated = base in ids and number.isascii() and number.isdecimal()
        found.append(base if is_repeated else view.id)
    return found


def _span(run: Run, view: StepView, name: str) -> dict[str, Any]:
    has_output = view.error is not None or view.data is not None
    return {
        "name": name,
        "stepID": view.id,
        "runID": run.id,
        "spanID": f"{run.id}/{view.id}",
        "outputID": _OutputId(run.id, view.id).text if has_output else None,
        "status": _STEP_STATUSES.get(view.state, "RUNNING"),
        "attempts": view.attempts,
        "queuedAt": moment(view.since or view.started),
        "startedAt": moment(view.started),
        "endedAt": None if view.ended is None else moment(view.ended),
        "stepOp": view.kind.upper(),
        "childrenSpans": [],
    }


async def _output(request: Request, field: Asked) -> dict[str, Any]:
    wire, wanted = wire_of(request), _OutputId.of(_argument(field, "outputID"))
    found = await get(wire, wanted.run)
    run = hide_of(found, await run_brought(wire, found) if not wanted.step else found)
    if not wanted.step:
        error = None if run.status == "completed" else run.error
        return {"data": _text(run.output) if error is None else None, "input": None, "error": _failure(error)}
    view = next((one for one in await steps(wire, run.function, run.id) if one.id == wanted.step), None)
    if view is None:
        raise BadRequest(f"outputID: run {run.id} has no step {wanted.step[:150]!r} any more")
    view = hide_of(found, *await steps_brought(wire, [view]))
    return {"data": _text(view.data), "input": None, "error": _failure(view.error)}


def _payload(event: RawEvent, slug: str = "") -> str:
    """Return an event as JSON within a text, without what is hidden from the one who asks and what cannot be opened."""
    told = msgspec.structs.replace(event, data=Raw(shown(bytes(event.data))))
    return codec.encode(hide(Raw(codec.encode(shown_event(told, slug))))).decode()


def _failure(error: Failure | None) -> dict[str, str] | None:
    return error and {"name": error.name, "message": error.message, "stack": error.stack}


async def _trigger(request: Request, field: Asked) -> dict[str, Any]:
    wire = wire_of(request)
    run = await run_brought(wire, await get(wire, _argument(field, "runID")))
    event = event_of(run)
    several = [] if event is None else event.several()
    return {
        "IDs": [one.id for one in several],
        "payloads": [_payload(one, run.function) for one in several],
        "eventName": several[0].name if several else None,
        "timestamp": moment(several[0].ts if several else run.queued),
        "isBatch": len(several) > 1,
        "batchID": None,
        "cron": None,
    }


async def _event(request: Request, field: Asked) -> dict[str, Any]:
    return await _event_of(request, _argument(field, "query", "eventId"))


async def _event_by_id(request: Request, field: Asked) -> dict[str, Any]:
    return await _event_of(request, _argument(field, "id"))


async def _event_of(request: Request, event: str) -> dict[str, Any]:
    found, runs = await event_and_runs(request, event)
    wire = wire_of(request)
    told = await event_brought_if_there(wire, found.event)
    return {
        "id": found.internal,
        "externalID": found.event.id,
        "idempotencyKey": found.event.id,
        "name": found.name,
        "raw": _payload(told),
        "createdAt": moment(found.received),
        "functionRuns": [_run(await run_brought(wire, run)) for run in runs],
        "totalRuns": len(runs),
    }


_QUERIES: Mapping[str, Callable[[Request, Asked], Awaitable[dict[str, Any]]]] = {
    "run": _run_of,
    "runTrigger": _trigger,
    "runTraceSpanOutputByID": _output,
    "event": _event,
    "eventV2": _event_by_id,
}

routes = [NeedsRoute("POST", "/v0/gql", _answer, needs="read", name="sdk_gql")]
