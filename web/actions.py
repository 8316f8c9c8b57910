"""Actions: cancel, rerun, signal, invoke; as JSON, and as the forms of the pages. GET never acts."""

from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bus import codec
from bus.errors import ConfigError
from bus.event import MAX_EVENT_BYTES
from bus.wire.wire import Wire
from checkpoint.cancel import cancel
from checkpoint.invoke import invoke
from checkpoint.rerun import rerun
from checkpoint.signals import send_signal
from producers.http import check_origin, read_body
from producers.strict import parse_as

T = TypeVar("T")

_WITHOUT_DATA = 65_536
_WITH_DATA = MAX_EVENT_BYTES + _WITHOUT_DATA
"""How many bytes are read: of words alone, or of data as big as an event's and what stands around it."""


def _wire(request: Request) -> Wire:
    return request.app.state.wire


def _json(value: Any) -> Response:
    return Response(codec.encode({"data": value}), media_type="application/json")


class _Rerun(msgspec.Struct, forbid_unknown_fields=True):
    from_step: str = msgspec.field(name="from", default="")
    request: str = ""


class _Signal(msgspec.Struct, forbid_unknown_fields=True):
    signal: str
    data: Raw = Raw(b"null")


class _Invoke(msgspec.Struct, forbid_unknown_fields=True):
    data: Raw = Raw(b"{}")


async def _received(request: Request, shape: type[T], most: int = _WITH_DATA) -> T:
    """Return the body as what it must be, an empty one as an empty object; Refused for a page of another site."""
    check_origin(request)
    return parse_as(await read_body(request, most) or b"{}", shape)


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
    asked, run = await _received(request, _Rerun, _WITHOUT_DATA), request.path_params["id"]
    new = await rerun(_wire(request), run, asked.from_step, asked.request)
    return _json({"id": new, "rerun_of": run})


async def _signal(request: Request) -> Response:
    asked = await _received(request, _Signal)
    run = await send_signal(_wire(request), asked.signal, asked.data)
    if run is None:
        raise HTTPException(404, f"no run waits for signal {asked.signal[:60]!r}")
    return _json({"run_id": run})


async def _invoke(request: Request) -> Response:
    asked, slug = await _received(request, _Invoke), request.path_params["function"]
    try:
        return _json({"id": await invoke(_wire(request), slug, asked.data)})
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
