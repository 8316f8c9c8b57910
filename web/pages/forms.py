"""Forms: the buttons of the pages, cancel and rerun. Each acts, then sends the browser on to the run's page."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.delayed import take_back
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of


async def _cancel(request: Request) -> Response:
    run = request.path_params["id"]
    await cancel_now(wire_of(request), run, "cancelled on the status page")
    return RedirectResponse(link(request, "run", id=run), 303)


async def _rerun(request: Request) -> Response:
    new = await rerun(wire_of(request), request.path_params["id"], request.query_params.get("from", ""))
    return RedirectResponse(link(request, "run", id=new), 303)


async def _cancel_delayed(request: Request) -> Response:
    given = request.query_params
    await take_back(wire_of(request), given.get("name", ""), given.get("id", ""))
    return RedirectResponse(link(request, "index"), 303)


routes = [
    NeedsRoute("POST", "/delayed/cancel", _cancel_delayed, needs="operate", name="cancel_delayed"),
    NeedsRoute("POST", "/runs/{id}/cancel", _cancel, needs="operate", name="cancel"),
    NeedsRoute("POST", "/runs/{id}/rerun", _rerun, needs="operate", name="rerun"),
]
