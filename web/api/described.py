"""`GET /openapi.json`: the API as OpenAPI 3.1, for tools that make clients, forms or tests of it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.values import codec
from stepstream.web.routing import NeedsRoute
from stepstream.web.table.about import About
from stepstream.web.table.openapi import Told, document

_METHODS = ("GET", "POST", "PUT", "DELETE")


async def _described(request: Request) -> Response:
    routes: list[Any] = request.app.routes
    told = document([told for route in routes if (told := _told(route)) is not None])
    return Response(codec.encode(told), media_type="application/json")  # nobody's data, so nothing is hidden of it


def _told(route: object) -> Told | None:
    if not isinstance(route, NeedsRoute) or route.about is None:
        return None
    method = next(one for one in _METHODS if one in (route.methods or ()))
    return Told(method, route.path, route.needs, route.name, route.about)


routes = [
    NeedsRoute(
        "GET",
        "/openapi.json",
        _described,
        needs="read",
        name="openapi",
        about=About(summary="The API as OpenAPI 3.1.", answer=dict[str, Any]),
    )
]
