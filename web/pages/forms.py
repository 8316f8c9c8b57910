"""Forms: the buttons of the pages. Each acts once, however often it is pressed, then sends the browser on.

Each has the token of web/pages/csrf.py, and `once`: an id that the page made, by which a second press does nothing new.
"""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import HasEnded
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.delayed import DelayedNotFound, take_back
from stepstream.web.pages.csrf import received
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of


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
    new = await rerun(wire_of(request), request.path_params["id"], fields.get("from", ""), fields.get("once", ""))
    return RedirectResponse(link(request, "run", id=new), 303)


async def _cancel_delayed(request: Request) -> Response:
    fields = await received(request)
    try:
        await take_back(wire_of(request), fields.get("name", ""), fields.get("id", ""))
    except DelayedNotFound:  # pressed twice, or published meanwhile
        return RedirectResponse(link(request, "overview"), 303)
    return RedirectResponse(link(request, "overview"), 303)


routes = [
    NeedsRoute("POST", "/delayed/cancel", _cancel_delayed, needs="operate", name="cancel_delayed"),
    NeedsRoute("POST", "/runs/{id}/cancel", _cancel, needs="operate", name="cancel"),
    NeedsRoute("POST", "/runs/{id}/rerun", _rerun, needs="operate", name="rerun"),
]
