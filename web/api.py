"""/v1: what there is, as JSON."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bus import codec
from bus.durations import milliseconds
from bus.errors import ConfigError
from bus.wire.registry import functions
from bus.wire.wire import Wire
from checkpoint.find import find, wait_for_end
from checkpoint.history import STATUSES, counts, steps
from checkpoint.lines import lines
from checkpoint.listing import list_runs

MOST = 1_000
LONGEST_WAIT_MS = 300_000


def _json(value: Any) -> Response:
    return Response(codec.encode(value), media_type="application/json")


def _wire(request: Request) -> Wire:
    return request.app.state.wire


def _number(request: Request, name: str, default: int | None, least: int, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and least <= int(text) <= most):
        raise ConfigError(f"{name} must be a number from {least} to {most}, got {text[:40]!r}")
    return int(text)


async def _runs(request: Request) -> Response:
    wire = _wire(request)
    known = [function.slug for function in await functions(wire)]
    slug, status = request.query_params.get("function"), request.query_params.get("status")
    if slug is not None and slug not in known:
        raise HTTPException(404, f"function {slug!r} is not registered")
    if status is not None and status not in STATUSES:
        raise ConfigError(f"status {status!r} is none; there are {', '.join(STATUSES)}")
    page = await list_runs(
        wire,
        [slug] if slug else known,
        [status] if status else STATUSES,
        limit=_number(request, "limit", 50, 1, MOST) or 50,
        cursor=request.query_params.get("cursor"),
        since=_number(request, "since", None, 0, 10**14),
        until=_number(request, "until", None, 0, 10**14),
    )
    return _json({"data": page.runs, "cursor": page.cursor})


async def _run(request: Request) -> Response:
    wire, run_id = _wire(request), request.path_params["id"]
    wait = request.query_params.get("wait")
    if wait is None:
        found = await find(wire, run_id)
    else:
        seconds = float(wait) if wait.replace(".", "", 1).isdecimal() else wait
        found = await wait_for_end(wire, run_id, min(milliseconds(seconds, "wait"), LONGEST_WAIT_MS) / 1_000)
    if found is None:
        raise HTTPException(404, f"no run {run_id!r}: it never was, or its time to be kept is over")
    return _json({"data": found})


async def _steps(request: Request) -> Response:
    wire, run_id = _wire(request), request.path_params["id"]
    found = await find(wire, run_id)
    if found is None:
        raise HTTPException(404, f"no run {run_id!r}: it never was, or its time to be kept is over")
    return _json({"data": await steps(wire, found.function, run_id)})


async def _functions(request: Request) -> Response:
    wire = _wire(request)
    known = await functions(wire)
    how_many = await counts(wire, [function.slug for function in known])
    rows = [{**codec.decode(codec.encode(function)), "runs": how_many[function.slug]} for function in known]
    return _json({"data": rows})


async def _function(request: Request) -> Response:
    wire, slug = _wire(request), request.path_params["id"]
    known = next((function for function in await functions(wire) if function.slug == slug), None)
    if known is None:
        raise HTTPException(404, f"function {slug[:100]!r} is not registered")
    runs, found = await counts(wire, [slug]), await lines(wire, slug)
    told = {**codec.decode(codec.encode(known)), "runs": runs[slug]}
    return _json({"data": {**told, "lines": found.lines, "keys_in_line": found.keys, "buffers": found.buffers}})


routes = [
    Route("/v1/runs", _runs),
    Route("/v1/runs/{id}", _run),
    Route("/v1/runs/{id}/steps", _steps),
    Route("/v1/functions", _functions),
    Route("/v1/functions/{id:path}", _function),
]
