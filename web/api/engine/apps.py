"""/v1/apps: the applications behind HTTP, and those that are connected."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.apps import App, apps
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed
from stepstream.web.routing import NeedsRoute
from stepstream.web.sdk.told import AppTold, app_told, connected_of
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields

FIELDS = Fields(AppTold)
PAGED = Paged[App](lambda one: (one.name,), (str,))


async def _apps(request: Request) -> Response:
    wire = wire_of(request)
    page, cursor = PAGED.of(request, await apps(wire))
    connected = await connected_of(wire, page)
    return value(Listed(FIELDS.rows(request, [app_told(one, connected.get(one.name)) for one in page]), cursor))


routes = [
    NeedsRoute(
        "GET",
        "/v1/apps",
        _apps,
        needs="read",
        name="api_apps",
        about=About(
            summary="The applications behind HTTP, by name: where each is called, how its last sync went, its "
            "functions; of one that connects, its `workers` with what each has in hand.",
            query=(*PAGED.query, FIELDS),
            answer=Listed[AppTold],
        ),
    ),
]
