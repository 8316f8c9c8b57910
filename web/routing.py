"""Routes that say what a caller needs, and links to them by their names."""

from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepstream.web.paths import root

Permission = Literal["nothing", "publish", "read", "operate", "admin"]
"""What a caller may do: send events; see runs and their data; act on runs; change the installation.

`nothing` is for what tells of no run: a load balancer asks for health without a token. Nobody checks permissions yet.
"""


class NeedsRoute(Route):
    """A route of one method, and the permission that a caller of it needs."""

    def __init__(
        self,
        method: Literal["GET", "POST", "PUT", "DELETE"],
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        *,
        needs: Permission,
        name: str | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=[method], name=name)
        self.needs: Permission = needs


def link(request: Request, name: str, **parts: str) -> str:
    """Return the path of a route by its name, from where the site stands.

    Each part is one segment: an id may hold slashes and dots, which a browser would walk along. Starlette's `url_for`
    quotes nothing, asks the routes of the application that mounts the site, and names the host, which a proxy changes.
    """
    path = request.app.url_path_for(name, **{part: quote(text, safe="") for part, text in parts.items()})
    return root(request) + str(path)
