"""Runs, for the SDKs: what an app fetches of a run whose state is too large for a call, and what it saves meanwhile."""

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys
from stepstream.checkpoint.read.run.bringing import event_brought, memos_brought
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.run.memo import MAX_STATE_BYTES, memo_of
from stepstream.checkpoint.run.record import Run
from stepstream.consumers.remote.checkpointing import Saved, save_steps
from stepstream.consumers.remote.memos import shown_event, shown_steps
from stepstream.producers.body import RequestRefused, read_body
from stepstream.producers.strict import parse_as
from stepstream.web import answers
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of


async def _steps(request: Request) -> Response:
    """Return the finished steps of a run as a call has them."""
    run = await _going_on(request)
    flat: dict[bytes, bytes] = await _all_memos(request, run)
    memos = {codec.text(step): memo_of(raw) for step, raw in flat.items()}
    return answers.value(shown_steps(await memos_brought(wire_of(request), memos)))


async def _all_memos(request: Request, run: Run) -> dict[bytes, bytes]:
    key = keys.steps(run.function, run.id)
    found: list[bytes] = await wire_of(request).load("HGETALL", key)
    return dict(zip(found[::2], found[1::2], strict=True))


async def _events(request: Request) -> Response:
    """Return the events of a run as a call has them."""
    run = await _going_on(request)
    event = codec.decode_as(run.event or Raw(b"null"), RawEvent)
    event = await event_brought(wire_of(request), event)
    return answers.value([shown_event(one, run.function) for one in event.several()])


async def _going_on(request: Request) -> Run:
    run = request.path_params["id"]
    if ulid_ms(run) is None:
        raise RequestRefused(400, f"{run[:100]!r} is no run id: it has 26 letters and digits")
    found = await get(wire_of(request), run)
    if found.has_ended:
        raise RequestRefused(410, f"runtime state is no longer available for runID: {run}")
    return found


async def _save(request: Request) -> Response:
    """Record the steps that an app has run while its call is open."""
    saved = parse_as(await read_body(request, MAX_STATE_BYTES), Saved)
    await save_steps(wire_of(request), request.path_params["id"], saved)
    return Response(b"", 200)


routes = [
    NeedsRoute("GET", "/v0/runs/{id}/actions", _steps, needs="app", name="sdk_steps"),
    NeedsRoute("GET", "/v0/runs/{id}/batch", _events, needs="app", name="sdk_events"),
    NeedsRoute("POST", "/v1/checkpoint/{id}/async", _save, needs="app", name="sdk_save"),
]
