"""Search: where the box of the top bar leads: to the one thing that a word names, or to all of them, or it says so."""

import shlex
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.checkpoint.read.anything import Hit, find_anything
from stepstream.web.pages.page import View, show
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of

_MOST_CHARS = 512


class Place(msgspec.Struct, frozen=True):
    """Something that was found, and where its page is."""

    hit: Hit
    href: str


class Found(View, frozen=True):
    """The page `/search`: what a text names, and where it was looked for."""

    text: str
    places: tuple[Place, ...]
    looked: tuple[str, ...]
    quoted: str
    """The text as a shell takes it."""


async def _search(request: Request) -> Response:
    wire, text = wire_of(request), request.query_params.get("q", "").strip()[:_MOST_CHARS]
    if not text:
        return RedirectResponse(link(request, "runs"), 303)
    found = await find_anything(wire, text)
    places = tuple(Place(one, _page_of(request, one)) for one in found.found)
    exact = [one for one in places if text == one.hit.id]
    if exact and exact[0].hit.kind in ("run", "function"):
        return RedirectResponse(exact[0].href, 303)
    if len(places) == 1 and places[0].hit.kind != "function":
        return RedirectResponse(places[0].href, 303)
    view = Found(text, places, tuple(found.looked), shlex.quote(text))
    return show(request, "search.html", 200 if places else 404, page=view)


def _page_of(request: Request, one: Hit) -> str:
    match one.kind:
        case "run":
            return link(request, "run", id=one.id)
        case "event":
            return link(request, "event", id=one.id)
        case "function":
            return link(request, "function", slug=one.id)
        case "event_name":
            return link(request, "event_name", event=one.id)
        case _:
            return f"{link(request, 'runs')}?{urlencode({'key': one.id})}"


routes = [NeedsRoute("GET", "/search", _search, needs="read", name="search")]
