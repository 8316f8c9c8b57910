"""Actions: cancel, rerun, signal, invoke; as JSON, and as the forms of the pages. GET never acts."""

from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bus import codec
from bus.errors import ConfigError, EventInvalid
from bus.wire.wire import Wire
from checkpoint.cancel import cancel
from checkpoint.invoke import invoke
from checkpoint.rerun import rerun
from checkpoint.signals import send_signal
from producers.http import check_origin, read_body


def _wire(request: Request) -> Wire:
    return request.app.state.wire


def _json(value: Any) -> Response:
    return Response(codec.encode({"data": value}), media_type="application/json")


async def _object(request: Request, known: set[str]) -> dict[str, Any]:
    """Return the body's object, an empty one for an empty body; Refused for a page of another site."""
    check_origin(request)
    body = await read_body(request)
    try:
        value: Any = codec.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise EventInvalid(f"is not JSON: {error}", field="body") from None
    if not isinstance(value, dict) or set(cast("dict[str, Any]", value)) - known:
        raise EventInvalid(f"must be an object with no other fields than {', '.join(sorted(known))}", field="body")
    return cast("dict[str, Any]", value)


async def _cancelled(request: Request, why: str) -> str:
    run = request.path_params["id"]
    word = await cancel(_wire(request), run, why)
    if word == "gone":
        raise HTTPException(404, f"no run {run!r}: it never was, or its time to be kept is over")
    if word == "ended":
        raise HTTPException(409, f"run {run} has ended already")
    return "cancelled" if word == "cancelled" else "cancelling"


async def _cancel(request: Request) -> Response:
    check_origin(request)
    return _json({"id": request.path_params["id"], "status": await _cancelled(request, "cancelled by the API")})


async def _rerun(request: Request) -> Response:
    asked = await _object(request, {"from", "request"})
    run = request.path_params["id"]
    new = await rerun(_wire(request), run, str(asked.get("from", "")), str(asked.get("request", "")))
    return _json({"id": new, "rerun_of": run})


async def _signal(request: Request) -> Response:
    asked = await _object(request, {"signal", "data"})
    name = asked.get("signal")
    if not isinstance(name, str):
        raise EventInvalid("must be a string", field="signal")
    run = await send_signal(_wire(request), name, asked.get("data"))
    if run is None:
        raise HTTPException(404, f"no run waits for signal {name[:60]!r}")
    return _json({"run_id": run})


async def _invoke(request: Request) -> Response:
    wire, slug = _wire(request), request.path_params["function"]
    data: Any = (await _object(request, {"data"})).get("data", {})
    if not codec.encode(data).startswith(b"{"):
        raise EventInvalid("must be an object", field="data")
    try:
        return _json({"id": await invoke(wire, slug, data)})
    except ConfigError as error:
        raise HTTPException(404, str(error)) from None


async def _cancel_form(request: Request) -> Response:
    check_origin(request)
    await _cancelled(request, "cancelled on the status page")
    return RedirectResponse(f"/runs/{request.path_params['id']}", 303)


async def _rerun_form(request: Request) -> Response:
    check_origin(request)
    new = await rerun(_wire(request), request.path_params["id"], request.query_params.get("from", ""))
    return RedirectResponse(f"/runs/{new}", 303)


routes = [
    Route("/v1/runs/{id}", _cancel, methods=["DELETE"]),
    Route("/v1/runs/{id}/rerun", _rerun, methods=["POST"]),
    Route("/v1/signals", _signal, methods=["POST"]),
    Route("/invoke/{function:path}", _invoke, methods=["POST"]),
    Route("/runs/{id}/cancel", _cancel_form, methods=["POST"]),
    Route("/runs/{id}/rerun", _rerun_form, methods=["POST"]),
]
