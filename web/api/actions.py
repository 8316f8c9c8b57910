"""Actions: cancel, rerun, signal, invoke, as JSON. GET never acts; the forms of the pages are in web/pages/forms.py."""

from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import EventInvalid, HasEnded, NobodyWaits
from stepstream.bus.event import MAX_EVENT_BYTES
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.read.find import get
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.producers.body import read_body
from stepstream.producers.strict import parse_as
from stepstream.web.answers import value
from stepstream.web.api.shapes import answer
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

T = TypeVar("T")

_WITHOUT_DATA = 65_536
_WITH_DATA = MAX_EVENT_BYTES + _WITHOUT_DATA
"""The longest body, bytes: without data, and with data as big as an event's."""


class _Rerun(msgspec.Struct, forbid_unknown_fields=True):
    from_step: str = msgspec.field(name="from", default="")
    request: str = ""


class _Signal(msgspec.Struct, forbid_unknown_fields=True):
    signal: str
    data: Raw = Raw(b"null")


class _Invoke(msgspec.Struct, forbid_unknown_fields=True):
    """An event without its name. What SDKs' events have besides data is taken, and not kept."""

    data: Raw = Raw(b"{}")
    id: Any = None
    name: Any = None
    ts: Any = None
    user: Any = None
    v: Any = None
    meta: Any = None


async def _received(request: Request, shape: type[T], most: int = _WITH_DATA) -> T:
    """Return the body as what it must be, an empty one as an empty object."""
    return parse_as(await read_body(request, most) or b"{}", shape)


async def _cancel(request: Request) -> Response:
    wire, run = wire_of(request), request.path_params["id"]
    try:
        word = await cancel_now(wire, run, "cancelled by the API")
    except HasEnded:  # asked twice, or too late: then there is nothing to do
        return _done({"id": run, "status": (await get(wire, run)).status})
    return _done({"id": run, "status": "cancelled" if word == "cancelled" else "cancelling"})


async def _rerun(request: Request) -> Response:
    asked, run = await _received(request, _Rerun, _WITHOUT_DATA), request.path_params["id"]
    new = await rerun(wire_of(request), run, asked.from_step, asked.request)
    return _done({"id": new, "rerun_of": run})


async def _signal(request: Request) -> Response:
    asked = await _received(request, _Signal)
    run = await send_signal(wire_of(request), asked.signal, asked.data)
    if run is None:
        raise NobodyWaits(asked.signal)
    return value(answer({"run_id": run}))


async def _invoke(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["function"]
    try:
        asked = await _received(request, _Invoke)
    except EventInvalid:
        await function_of(wire, slug)  # where there is no such function, that is what is wrong
        raise
    run = await invoke(wire, slug, asked.data)  # which is the id of its event, too
    return value({"data": {"id": run}, "id": run, "status": 200})


def _done(what: dict[str, str]) -> Response:
    return value({"data": what})


routes = [
    NeedsRoute("DELETE", "/v1/runs/{id}", _cancel, needs="operate", name="api_cancel"),
    NeedsRoute("POST", "/v1/runs/{id}/rerun", _rerun, needs="operate", name="api_rerun"),
    NeedsRoute("POST", "/v1/signals", _signal, needs="operate", name="api_signal"),
    NeedsRoute("POST", "/invoke/{function:path}", _invoke, needs="operate", name="api_invoke"),
]
