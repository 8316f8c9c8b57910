"""Search: where the box of the top bar leads: to the run, the function, the event of that name or id, or it says so."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.read.lists.arrivals import find_arrival, runs_of
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.registry import slugs
from stepstream.web.pages import views
from stepstream.web.pages.page import View, show
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of

_MOST_CHARS = 512
_LOOKED = ("runs by their id", "functions by their slug, or a part of it", "events by their id")


class Found(View, frozen=True):
    """The page `/search`: what was found by a text, and where was looked."""

    text: str
    functions: tuple[str, ...] = ()
    event: str = ""
    runs: tuple[views.RunRow, ...] = ()
    looked: tuple[str, ...] = _LOOKED


async def _search(request: Request) -> Response:
    wire, text = wire_of(request), request.query_params.get("q", "").strip()[:_MOST_CHARS]
    if not text:
        return RedirectResponse(link(request, "runs"), 303)
    run = await find(wire, text)
    if run is not None:
        return RedirectResponse(link(request, "run", id=run.id), 303)
    known = await slugs(wire)
    if text in known:
        return RedirectResponse(link(request, "function", slug=text), 303)
    functions = tuple(sorted(slug for slug in known if text.lower() in slug.lower()))
    event = await find_arrival(wire, text)
    runs = () if event is None else views.listed(await runs_of(wire, event), now_ms())
    name = "" if event is None else event.name
    view = Found(text, functions, name, runs)
    return show(request, "search.html", 200 if functions or name else 404, page=view)


routes = [NeedsRoute("GET", "/search", _search, needs="read", name="search")]
