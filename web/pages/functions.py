"""The page of a function: what starts it, its limits and who waits for them, its latest runs."""

from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.read.listing import counts, list_runs
from stepstream.checkpoint.registry import function_of, workers_of
from stepstream.checkpoint.types import disagreements_of
from stepstream.web.pages import views
from stepstream.web.pages.page import page
from stepstream.web.store import wire_of

LATEST = 50


async def _function(request: Request) -> views.FunctionPage:
    wire = wire_of(request)
    known = await function_of(wire, request.path_params["slug"])
    slug = known.slug
    how_many, latest = await counts(wire, [slug]), await list_runs(wire, [slug], limit=LATEST)
    at_work, apart = await workers_of(wire, slug), await disagreements_of(wire, known)
    return views.function_page(
        known, how_many[slug], await backlogs_of(wire, slug), at_work, latest.runs, now_ms(), apart
    )


routes = [page("/functions/{slug:path}", "function", _function, section="functions")]
