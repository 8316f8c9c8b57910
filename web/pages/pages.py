"""Pages: views into HTML. Everything is escaped by the templates; nothing here writes markup."""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.apps import apps
from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.read.events import event_names
from stepstream.checkpoint.read.find import get
from stepstream.checkpoint.read.listing import counts, list_runs
from stepstream.checkpoint.read.log import log_of
from stepstream.checkpoint.read.steps import steps
from stepstream.checkpoint.registry import function_of, functions, workers, workers_of
from stepstream.checkpoint.types import disagreements_of
from stepstream.web.beside import beside
from stepstream.web.pages import views
from stepstream.web.pages.apps import apps_page, connected_of
from stepstream.web.pages.event_names import events_page
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of

LATEST = 50
DELAYED = 10

_templates = Jinja2Templates(
    env=jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(files("stepstream.web.pages") / "templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ),
    context_processors=[lambda request: {"link": partial(link, request), "worker": beside(request)}],
)


def _page(
    request: Request, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return _templates.TemplateResponse(request, name, values, status, headers)


async def _index(request: Request) -> Response:
    wire = wire_of(request)
    known = await functions(wire)
    slugs = [function.slug for function in known]
    page = await list_runs(wire, slugs, limit=LATEST)
    view = views.index(known, await counts(wire, slugs), page.runs, len(await workers(wire)), now_ms())
    delayed = [(views.when(one.due)[:-4], one) for one in await list_delayed(wire, limit=DELAYED)]
    return _page(request, "index.html", page=view, live=view.live, delayed=delayed)


async def _run(request: Request) -> Response:
    wire = wire_of(request)
    found = await get(wire, request.path_params["id"])
    written = await log_of(wire, found.function, found.id, views.SHOWN_LINES)
    view = views.run_page(found, await steps(wire, found.function, found.id), now_ms(), written)
    return _page(request, "run.html", page=view, live=view.live)


async def _function(request: Request) -> Response:
    wire = wire_of(request)
    known = await function_of(wire, request.path_params["slug"])
    slug = known.slug
    how_many, page = await counts(wire, [slug]), await list_runs(wire, [slug], limit=LATEST)
    at_work = await workers_of(wire, slug)
    apart = await disagreements_of(wire, known)
    view = views.function_page(
        known, how_many[slug], await backlogs_of(wire, slug), at_work, page.runs, now_ms(), apart
    )
    return _page(request, "function.html", page=view, live=view.live)


async def _events(request: Request) -> Response:
    page = await event_names(wire_of(request), cursor=request.query_params.get("cursor"))
    return _page(request, "events.html", page=events_page(page, now_ms()), live=True)


async def _apps(request: Request) -> Response:
    wire = wire_of(request)
    known = await apps(wire)
    view = apps_page(known, await connected_of(wire, known), str(request.base_url).rstrip("/"), now_ms())
    return _page(request, "apps.html", page=view, live=True)


def failure(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page that says what is wrong."""
    return _page(request, "failure.html", status, headers, message=message, code=status, live=status == 503)


routes = [
    NeedsRoute("GET", "/", _index, needs="read", name="index"),
    NeedsRoute("GET", "/runs/{id}", _run, needs="read", name="run"),
    NeedsRoute("GET", "/functions/{slug:path}", _function, needs="read", name="function"),
    NeedsRoute("GET", "/events", _events, needs="read", name="events"),
    NeedsRoute("GET", "/apps", _apps, needs="read", name="apps"),
]
