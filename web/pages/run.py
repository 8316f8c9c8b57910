"""The page of a run."""

from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.read.find import get
from stepstream.checkpoint.read.log import log_of
from stepstream.checkpoint.read.steps import steps
from stepstream.web.pages import views
from stepstream.web.pages.page import page
from stepstream.web.store import wire_of


async def _read(request: Request) -> views.RunPage:
    wire = wire_of(request)
    found = await get(wire, request.path_params["id"])
    written = await log_of(wire, found.function, found.id, views.SHOWN_LINES)
    return views.run_page(found, await steps(wire, found.function, found.id), now_ms(), written)


routes = [page("/runs/{id}", "run", _read, section="runs")]
