"""Routes that say what a caller needs, and links to them by their names."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Literal
from urllib.parse import quote
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from stepstream.bus.errors import BusError, StoreUnavailable
from stepstream.bus.wire.spoilt import spoilt_told
from stepstream.web.hosts import OriginRefused, hosts_of
from stepstream.web.live.stream import Stream
from stepstream.web.paths import own_path, root
from stepstream.web.store import PATIENCE_S, wire_of
from stepstream.web.table.about import About
from stepstream.web.table.parameters import Wait, check
from stepstream.web.trust.audit import write_down, written_down
from stepstream.web.trust.hiding import hiding
from stepstream.web.trust.keys import Permission, RoleRefused, keys_of
from stepstream.web.trust.principal import PRINCIPAL, Principal, principal_of

SPOILT = "stepstream.spoilt"
"""In the scope of a request that only reads: the keys that it has passed over."""


class NeedsRoute(Route):
    """A route of one method, and the permission that a caller of it needs: its endpoint is not called without.

    Nor is it where a parameter is given that it does not take (`about`). What only looks is given up after 4 s, but for
    an endpoint that bounds its own waiting (`is_bounded`).
    """

    def __init__(
        self,
        method: Literal["GET", "POST", "PUT", "DELETE"],
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        *,
        needs: Permission,
        name: str | None = None,
        about: About | None = None,
        acts: bool | None = None,
        is_bounded: bool = False,
    ) -> None:
        changes = method != "GET" and needs in ("operate", "admin") if acts is None else acts
        takes = None if about is None else about.query

        only_looks = method == "GET" and needs in ("read", "admin") and not is_bounded
        waits = [one.name for one in takes or () if isinstance(one, Wait)]

        async def taken(request: Request) -> Response:
            answer = await answered(request)
            who = principal_of(request)
            if isinstance(answer, Stream) and who.session:
                answer.may_still = partial(_is_still, request, needs, who)
            return answer

        async def answered(request: Request) -> Response:
            if takes is not None:
                check(request, takes, own_path(request))
            # Who asks to be answered at the end of a run waits on purpose; a stream begins at once.
            if only_looks and not any(name in request.query_params for name in waits):
                return await wire_of(request).within(PATIENCE_S, endpoint(request))
            return await endpoint(request)

        @wraps(endpoint)
        async def checked(request: Request) -> Response:
            try:
                request.scope[PRINCIPAL] = await keys_of(request).check(request, needs)
            except RoleRefused as refused:
                request.scope[PRINCIPAL] = refused.who  # the page that says so shows who that is, with the way out
                if changes:
                    await write_down(request, name or path, refused.who, str(refused))
                raise
            async with hiding(request):
                if changes:
                    return await written_down(request, name or path, taken)
                if method != "GET":
                    return await taken(request)
                with spoilt_told() as request.scope[SPOILT]:
                    return await taken(request)

        super().__init__(path, checked, methods=[method], name=name)
        self.needs: Permission = needs
        self.acts = changes
        """Whether somebody does something by it: then it is in the audit log."""
        self.about = about
        """What it takes and answers with; None of pages, and of what SDKs call."""


async def _is_still(request: Request, needs: Permission, who: Principal) -> bool:
    """Whether somebody who has logged in still is who they were when they asked, with the same role."""
    try:
        return await keys_of(request).check(request, needs) == who
    except StoreUnavailable:  # nobody can be told from anybody; nothing is sent either
        return True
    except BusError:
        return False


class NeedsSocket(WebSocketRoute):
    """A route of WebSockets, and the permission that a caller of it needs: its endpoint is not called without.

    A browser lets any page open one, with what it has for the site; so pages of another origin are refused, unless the
    endpoint itself looks at whose page it is (`any_origin`). What is refused is so before the socket is accepted.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[WebSocket], Awaitable[None]],
        *,
        needs: Permission,
        name: str | None = None,
        any_origin: bool = False,
    ) -> None:
        @wraps(endpoint)
        async def checked(socket: WebSocket) -> None:
            if not any_origin and not hosts_of(socket).may_act(socket.headers):
                raise OriginRefused(socket.headers)
            socket.scope[PRINCIPAL] = await keys_of(socket).check(socket, needs)
            await endpoint(socket)

        super().__init__(path, checked, name=name)
        self.needs: Permission = needs


def link(request: Request, name: str, **parts: str) -> str:
    """Return the path of a route by its name, from where the site stands.

    Each part is one segment: an id may hold slashes and dots, which a browser would walk along. Starlette's `url_for`
    quotes nothing, asks the routes of the application that mounts the site, and names the host, which a proxy changes.
    """
    quoted = {part: quote(text, safe="") for part, text in parts.items()}
    return root(request) + str(_named(request.app)[name].url_path_for(name, **quoted))


def needs_of(request: Request, name: str) -> Permission:
    """Return what a caller of a route needs, by its name."""
    route = _named(request.app)[name]
    return route.needs if isinstance(route, NeedsRoute | NeedsSocket) else "nothing"


_routes: "WeakKeyDictionary[Starlette, dict[str | None, Route | WebSocketRoute | Mount]]" = WeakKeyDictionary()


def _named(app: Starlette) -> dict[str | None, Route | WebSocketRoute | Mount]:
    """Return an application's routes by name. Starlette asks each of its routes: a page has hundreds of links."""
    found = _routes.get(app)
    if found is None:
        named = [(route.name, route) for route in app.routes if isinstance(route, Route | WebSocketRoute | Mount)]
        found = _routes[app] = dict(reversed(named))
    return found
