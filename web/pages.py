"""Pages: views into HTML. Everything is escaped by the templates; nothing here writes markup."""

from importlib.resources import files
from typing import Any

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus.clock import now_ms
from bus.wire import keys
from bus.wire.registry import functions, workers
from checkpoint.find import find
from checkpoint.history import counts, steps
from checkpoint.lines import lines
from checkpoint.listing import list_runs
from web import views

LATEST = 50

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(files("web") / "templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def _page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(
        _templates.get_template(name).render(**values),
        status_code=status,
        headers={"Cache-Control": "no-store"},
    )


async def _index(request: Request) -> Response:
    wire = request.app.state.wire
    known = await functions(wire)
    slugs = [function.slug for function in known]
    page = await list_runs(wire, slugs, limit=LATEST)
    view = views.index(known, await counts(wire, slugs), page.runs, len(await workers(wire)), now_ms())
    return _page("index.html", page=view, live=view.live)


async def _run(request: Request) -> Response:
    wire, run_id = request.app.state.wire, request.path_params["id"]
    found = await find(wire, run_id)
    if found is None:
        raise HTTPException(404, f"There is no run {run_id[:60]}. It never was, or its time to be kept is over.")
    view = views.run_page(found, await steps(wire, found.function, run_id), now_ms())
    return _page("run.html", page=view, live=view.live)


async def _function(request: Request) -> Response:
    wire, slug = request.app.state.wire, request.path_params["slug"]
    known = next((function for function in await functions(wire) if function.slug == slug), None)
    if known is None:
        raise HTTPException(404, f"There is no function {slug[:100]}.")
    how_many, page = await counts(wire, [slug]), await list_runs(wire, [slug], limit=LATEST)
    at_work = await wire.load("ZCOUNT", keys.function_workers(slug), await wire.clock(), "+inf")
    view = views.function_page(known, how_many[slug], await lines(wire, slug), at_work, page.runs, now_ms())
    return _page("function.html", page=view, live=view.live)


def failure(status: int, message: str) -> Response:
    """Return a page that says what is wrong."""
    return _page("failure.html", status, message=message, code=status, live=status == 503)


routes = [Route("/", _index), Route("/runs/{id}", _run), Route("/functions/{slug:path}", _function)]
