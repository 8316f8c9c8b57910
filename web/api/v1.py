"""/v1: what there is, as JSON."""

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, ConfigError
from stepstream.bus.values import codec
from stepstream.bus.values.durations import milliseconds
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.read.events import event_names
from stepstream.checkpoint.read.find import get, wait_for_end
from stepstream.checkpoint.read.listing import counts
from stepstream.checkpoint.read.log import log_of
from stepstream.checkpoint.read.search import query_of, search
from stepstream.checkpoint.read.steps import steps
from stepstream.checkpoint.read.verdict import verdict
from stepstream.checkpoint.registry import function_of, functions
from stepstream.checkpoint.run.log import MOST_LINES
from stepstream.checkpoint.types import disagreements, disagreements_of
from stepstream.web.answers import value
from stepstream.web.api.shapes import answer, run_fields
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

MOST = 1_000
LONGEST_WAIT_MS = 300_000
_PAGED = frozenset({"limit", "cursor"})


def _number(request: Request, name: str, default: int | None, least: int, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and least <= int(text) <= most):
        raise BadRequest(f"{name} must be a number from {least} to {most}, got {text[:40]!r}")
    return int(text)


def _wait_s(text: str) -> float:
    try:
        ms = milliseconds(float(text) if text.replace(".", "", 1).isdecimal() else text, "wait")
    except ConfigError as error:
        raise BadRequest(str(error)) from None
    return min(ms, LONGEST_WAIT_MS) / 1_000


async def _runs(request: Request) -> Response:
    wire = wire_of(request)
    query = await query_of(wire, [pair for pair in request.query_params.multi_items() if pair[0] not in _PAGED])
    limit = _number(request, "limit", 50, 1, MOST) or 50
    page = await search(wire, query, limit=limit, cursor=request.query_params.get("cursor"))
    more = {"cursor": page.cursor, "looked_at": page.looked_at, "count": page.count, "exact": page.exact}
    return value({"data": page.runs, **more})


async def _run(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    wait = request.query_params.get("wait")
    if wait is not None:
        await wait_for_end(wire, run_id, _wait_s(wait))
    found = await get(wire, run_id)
    # As our own API tells of it, and under the hosted service's names; `status` is ours, in small letters.
    ours = {**codec.decode_as(codec.encode(found), dict[str, Raw]), "verdict": await verdict(wire, found)}
    return value(answer({**run_fields(found), **ours}))


async def _steps(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    found = await get(wire, run_id)
    return value({"data": await steps(wire, found.function, run_id)})


async def _log(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    found = await get(wire, run_id)
    written = await log_of(wire, found.function, run_id, _number(request, "last", None, 1, MOST_LINES))
    return value({"data": written.lines, "dropped": written.dropped})


async def _functions(request: Request) -> Response:
    wire = wire_of(request)
    known = await functions(wire)
    how_many = await counts(wire, [function.slug for function in known])
    apart = await disagreements(wire)
    rows = [{**codec.decode(codec.encode(function)), "runs": how_many[function.slug]} for function in known]
    return value({"data": rows, "disagreements": apart})


async def _function(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["id"]
    known = await function_of(wire, slug)
    runs, found = await counts(wire, [slug]), await backlogs_of(wire, slug)
    told = {
        **codec.decode(codec.encode(known)),
        "runs": runs[slug],
        "disagreements": await disagreements_of(wire, known),
    }
    return value({"data": {**told, "lines": found.backlogs, "keys_in_line": found.keys, "buffers": found.buffers}})


async def _event_names(request: Request) -> Response:
    limit = _number(request, "limit", 100, 1, MOST) or 100
    page = await event_names(wire_of(request), limit=limit, cursor=request.query_params.get("cursor"))
    return value({"data": page.names, "unheard": page.unheard, "not_looked_at": page.cut, "cursor": page.cursor})


routes = [
    NeedsRoute("GET", "/v1/runs", _runs, needs="read", name="api_runs"),
    NeedsRoute("GET", "/v1/runs/{id}", _run, needs="read", name="api_run"),
    NeedsRoute("GET", "/v1/runs/{id}/steps", _steps, needs="read", name="api_steps"),
    NeedsRoute("GET", "/v1/runs/{id}/log", _log, needs="read", name="api_log"),
    NeedsRoute("GET", "/v1/functions", _functions, needs="read", name="api_functions"),
    NeedsRoute("GET", "/v1/functions/{id:path}", _function, needs="read", name="api_function"),
    NeedsRoute("GET", "/v1/event-names", _event_names, needs="read", name="api_event_names"),
]
