"""Forms: the buttons of the pages. Each acts once, however often it is pressed, then sends the browser on.

Each has the token of web/pages/csrf.py, and `once`: an id that the page made, by which a second press does nothing new.
"""

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.encryption.sealing import opened_raw
from stepstream.bus.errors import EventInvalid, HasEnded, NobodyWaits
from stepstream.bus.event import MAX_EVENT_BYTES
from stepstream.bus.values import codec
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.delayed import DelayedNotFound, take_back
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.read.run.steps import steps
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.producers.strict import parse
from stepstream.web.api.shapes import event_of
from stepstream.web.pages.csrf import received
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.hiding import hidden_now


async def _cancel(request: Request) -> Response:
    run = request.path_params["id"]
    await received(request)
    try:
        await cancel_now(wire_of(request), run, "cancelled on the status page")
    except HasEnded:  # pressed twice, or too late: its page says how it ended
        return RedirectResponse(link(request, "run", id=run), 303)
    return RedirectResponse(link(request, "run", id=run), 303)


async def _rerun(request: Request) -> Response:
    fields = await received(request)
    run = request.path_params["id"]
    data = None if "data" not in fields else await _input(request, run, _json(fields["data"], is_object=True))
    new = await rerun(
        wire_of(request), run, fields.get("from", ""), fields.get("once", ""), data,
        beside="beside" in fields,
    )  # fmt: skip
    return RedirectResponse(link(request, "run", id=new), 303)


async def _input(request: Request, run: str, given: Raw) -> Raw:
    """Return an edited input, with what was hidden from who has edited it: a mask is never data."""
    found = await get(wire_of(request), run)
    event, hidden = event_of(found), hidden_now().of_event(found.event)
    if event is None or not hidden.is_on:
        return given
    original = codec.decode(opened_raw(event.data))
    if hidden.plain(original) is original:
        return given
    return Raw(codec.encode(hidden.put_back(codec.decode(given), original)))


async def _signal(request: Request) -> Response:
    fields = await received(request)
    wire, run, name = wire_of(request), request.path_params["id"], fields.get("signal", "")
    acts_on(request, name)
    if await send_signal(wire, name, _json(fields.get("data") or "null")) is None:
        found = await get(wire, run)
        mine = [step for step in await steps(wire, found.function, run) if step.id == fields.get("step")]
        if not (mine and mine[0].ended is not None):  # else it was pressed twice, or another was faster
            raise NobodyWaits(name)
    return RedirectResponse(link(request, "run", id=run), 303)


def _json(text: str, *, is_object: bool = False) -> Raw:
    """Return what was written into a form as JSON; EventInvalid for text that is not JSON, or not an object."""
    raw = text.encode()
    if not isinstance(parse(raw), dict) and is_object:
        raise EventInvalid("must be a JSON object", field="data")
    if len(raw) > MAX_EVENT_BYTES:
        raise EventInvalid(f"has {len(raw)} bytes; at most {MAX_EVENT_BYTES}", field="data")
    return Raw(codec.encode(codec.decode(raw)))


async def _cancel_delayed(request: Request) -> Response:
    fields = await received(request)
    acts_on(request, fields.get("name", ""), fields.get("id", ""))
    try:
        await take_back(wire_of(request), fields.get("name", ""), fields.get("id", ""))
    except DelayedNotFound:  # pressed twice, or published meanwhile
        return RedirectResponse(link(request, "overview"), 303)
    return RedirectResponse(link(request, "overview"), 303)


routes = [
    NeedsRoute("POST", "/delayed/cancel", _cancel_delayed, needs="operate", name="cancel_delayed"),
    NeedsRoute("POST", "/runs/{id}/cancel", _cancel, needs="operate", name="cancel"),
    NeedsRoute("POST", "/runs/{id}/rerun", _rerun, needs="operate", name="rerun"),
    NeedsRoute("POST", "/runs/{id}/signal", _signal, needs="operate", name="signal"),
]
