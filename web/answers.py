"""Answers: values and errors, as JSON for programs and as pages for people."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from stepstream.bus.errors import BusError, EventInvalid, StoreUnavailable
from stepstream.bus.trust.rates import TooMany
from stepstream.bus.values import codec
from stepstream.bus.wire.spoilt import spoilt_now, told_of
from stepstream.web.pages import page
from stepstream.web.paths import own_path, wants_page
from stepstream.web.routing import SPOILT, link
from stepstream.web.trust.hiding import hide
from stepstream.web.trust.keys import KeyRefused, challenge, keys_of
from stepstream.web.trust.principal import principal_of


def value(content: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as JSON, without what is hidden from the one who asks.

    With `unreadable`, in words, where keys were passed over that it would be read from.
    """
    body, spoilt = codec.encode(hide(content)), spoilt_now()
    if spoilt:
        body = codec.encode({**codec.decode(body), "unreadable": [told_of(key) for key in sorted(spoilt)]})
    return Response(body, status, headers, media_type="application/json")


def readable(content: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as indented JSON, for a person who asks with curl or a browser."""
    return Response(codec.pretty(codec.encode(content)) + "\n", status, headers, media_type="application/json")


def error(
    request: HTTPConnection, status: int, message: str, *, headers: Mapping[str, str] | None = None, **more: object
) -> Response:
    """Return an error: as a page to a browser, else as `{"error": …, "data": null, "status": …}` and `more`."""
    if wants_page(request):
        return page.failure(Request(request.scope), status, message, headers)
    if spoilt := request.scope.get(SPOILT):
        more["unreadable"] = [told_of(key) for key in sorted(spoilt)]
    content = codec.encode({"error": message, "data": None, "status": status, **more})
    return Response(content, status, headers, media_type="application/json")


def broken(request: HTTPConnection, number: str) -> Response:
    """Return the answer for an error of our own; the log has the details under the number."""
    message = f"something went wrong here; the site's log has the details of request {number}"
    return error(request, 500, message, code="broken", number=number)


async def refused(request: HTTPConnection, problem: Exception) -> Response:
    """Return the answer for a caller's error, or for a store that is away; other errors are raised, for the log."""
    assert isinstance(problem, BusError)
    if problem.status == 500:
        raise problem
    more: dict[str, object] = {"code": problem.code}
    if isinstance(problem, EventInvalid) and problem.field:
        more["field"] = problem.field
    headers = {"Retry-After": "1"} if problem.status == 503 else None
    if isinstance(problem, KeyRefused):
        if wants_page(request) and keys_of(request).sessions is not None:
            return _to_the_log_in(request)
        headers = challenge(request)
    if isinstance(problem, TooMany):
        headers = {"Retry-After": str(problem.after_s)}
    return error(request, problem.status, told(request, problem), headers=headers, **more)


def told(request: HTTPConnection, problem: BusError) -> str:
    """Return what the one who asks is told of an error: where Redis is, and as whom, is for those with a key."""
    is_stranger = keys_of(request).kind == "cloud" and not principal_of(request).name
    if is_stranger and isinstance(problem, StoreUnavailable):
        return f"Redis does not serve this site now ({problem.state}); its log says more"
    return str(problem)


async def not_routed(request: Request, problem: Exception) -> Response:
    """Return the answer where no route has this path, or none for this method: then with the methods there are."""
    assert isinstance(problem, HTTPException)
    path = own_path(request)
    if problem.status_code == 405:
        allowed = ", ".join(_methods(request, path))
        told = f"{request.method} is not for {path[:200]!r}, but {allowed}"
        return error(request, 405, told, headers={"Allow": allowed}, code="method")
    if problem.status_code == 404:
        return error(request, 404, f"there is nothing at {path[:200]!r}", code="not_found")
    return error(request, problem.status_code, problem.detail, headers=problem.headers, code="http")


def _to_the_log_in(request: HTTPConnection) -> Response:
    """Send a browser to the log-in, and from there back to what it asked for."""
    asked = own_path(request) + (f"?{request.url.query}" if request.url.query else "")
    is_page = request.scope["method"] in {"GET", "HEAD"}
    after = f"?{urlencode({'next': asked})}" if is_page and asked != "/" else ""
    where = link(Request(request.scope), "login") + after
    if request.headers.get("hx-request") == "true":  # of a page that is open: the whole page goes there
        return Response(status_code=401, headers={"HX-Redirect": where})
    return RedirectResponse(where, 303)


def _methods(request: Request, path: str) -> list[str]:
    """Return the methods of all routes of a path: the router itself looks only at the first one."""
    routes: list[Any] = request.app.routes
    found = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return sorted({method for route in found for method in route.methods or ()})
