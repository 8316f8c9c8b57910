"""The routes of the site, and what a caller needs for each: the one table. tests/system/test_keys.py asks them all."""

import pytest
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.web.routing import NeedsRoute, NeedsSocket

NEEDS = {
    "POST /e/{key}": "publish",
    "DELETE /v1/runs/{id}": "operate",
    "POST /v1/runs/{id}/rerun": "operate",
    "POST /v1/signals": "operate",
    "POST /invoke/{function:path}": "operate",
    "POST /runs/{id}/cancel": "operate",
    "POST /runs/{id}/rerun": "operate",
    "POST /runs/{id}/signal": "operate",
    "GET /v1/runs": "read",
    "GET /v1/runs/{id}": "read",
    "GET /v1/runs/{id}/steps": "read",
    "GET /v1/runs/{id}/log": "read",
    "GET /v1/runs/{id}/attempts": "read",
    "GET /v1/runs/{id}/family": "read",
    "GET /v1/find": "read",
    "GET /v1/overview": "read",
    "GET /v1/audit": "admin",
    "GET /audit": "admin",
    "GET /alerts": "read",
    "POST /alerts/test": "operate",
    "POST /alerts/rules/{rule}/set": "operate",
    "POST /alerts/rules/{rule}/reset": "operate",
    "GET /v1/alerts": "read",
    "POST /v1/alerts/test": "operate",
    "PUT /v1/alerts/rules/{rule:path}": "operate",
    "DELETE /v1/alerts/rules/{rule:path}": "operate",
    "GET /v1/events/{id:path}/story": "read",
    "GET /login": "nothing",
    "POST /login": "nothing",
    "POST /logout": "read",
    "GET /v1/functions": "read",
    "GET /v1/paused": "read",
    "POST /v1/functions/{id:path}/pause": "operate",
    "POST /v1/functions/{id:path}/resume": "operate",
    "POST /v1/event-names/{name:path}/pause": "operate",
    "POST /v1/event-names/{name:path}/resume": "operate",
    "GET /v1/delayed": "read",
    "DELETE /v1/delayed": "operate",
    "POST /delayed/cancel": "operate",
    "GET /v1/functions/{id:path}": "read",
    "GET /v1/streams": "read",
    "GET /v1/event-names": "read",
    "POST /v1/cancellations": "operate",
    "GET /v1/cancellations": "read",
    "GET /v1/cancellations/{id}": "read",
    "DELETE /v1/cancellations/{id}": "operate",
    "GET /v1/apps": "read",
    "GET /metrics": "read",
    "DELETE /v1/functions/{id:path}": "admin",
    "GET /v1/system": "read",
    "POST /v1/system/examine": "operate",
    "POST /v1/operations": "operate",
    "POST /v1/operations/count": "operate",
    "GET /v1/operations": "read",
    "GET /v1/operations/{id}": "read",
    "DELETE /v1/operations/{id}": "operate",
    "POST /v1/reruns": "operate",
    "GET /v1/live": "read",
    "GET /v1/live/{channel:path}": "read",
    "GET /v1/events": "read",
    "GET /v1/events/{id:path}": "read",
    "GET /v1/events/{id:path}/runs": "read",
    "GET /v1/workers": "read",
    "GET /v1/errors": "read",
    "POST /v1/errors/{id}": "operate",
    "GET /health": "nothing",
    "GET /openapi.json": "read",
    "POST /fn/register": "app",
    "POST /v0/connect/start": "app",
    "POST /v0/connect/flush": "app",
    "WebSocket /v0/connect": "nothing",
    "GET /v0/connect/envs/{env}/conns": "read",
    "GET /dev": "read",
    "GET /v0/runs/{id}/actions": "app",
    "GET /v0/runs/{id}/batch": "app",
    "POST /v1/checkpoint/{id}/async": "app",
    "POST /v0/gql": "read",
    "POST /v1/realtime/token": "read",
    "POST /v1/realtime/publish": "operate",
    "POST /v1/realtime/publish/tee": "operate",
    "GET /v1/realtime/sse": "listen",
    "WebSocket /v1/realtime/connect": "listen",
    "GET /ready": "nothing",
    "GET /": "read",
    "GET /runs": "read",
    "GET /search": "read",
    "GET /live": "read",
    "GET /runs/{id}": "read",
    "GET /functions": "read",
    "GET /functions/{slug:path}": "read",
    "POST /functions/{slug:path}/pause": "operate",
    "POST /functions/{slug:path}/resume": "operate",
    "POST /functions/{slug:path}/run-one": "operate",
    "POST /v1/functions/{id:path}/run-one": "operate",
    "POST /functions/{slug:path}/invoke": "operate",
    "POST /functions/{slug:path}/forget": "admin",
    "GET /events": "read",
    "GET /events/{id:path}": "read",
    "GET /event-names/{event:path}": "read",
    "POST /events/send": "operate",
    "POST /events/replay": "operate",
    "POST /v1/events/{id:path}/replay": "operate",
    "POST /events/pause": "operate",
    "POST /events/resume": "operate",
    "GET /apps": "read",
    "GET /limits": "read",
    "POST /limits/{slug:path}/set": "operate",
    "POST /limits/{slug:path}/flush": "operate",
    "POST /v1/functions/{id:path}/flush": "operate",
    "POST /limits/{slug:path}/restore": "operate",
    "GET /v1/limits": "read",
    "GET /v1/schedules": "read",
    "POST /v1/functions/{id:path}/tick": "operate",
    "POST /v1/functions/{id:path}/limits": "operate",
    "DELETE /v1/functions/{id:path}/limits": "operate",
    "GET /workers": "read",
    "POST /workers/{worker:path}/drain": "operate",
    "POST /v1/workers/{worker:path}/drain": "operate",
    "GET /system": "read",
    "GET /operations": "read",
    "GET /operations/new": "read",
    "GET /operations/{id}": "read",
    "POST /operations": "operate",
    "POST /operations/{id}/abort": "operate",
    "POST /system/examine": "operate",
    "GET /schedules": "read",
    "POST /schedules/{slug:path}/run": "operate",
    "GET /errors": "read",
    "POST /errors/{fingerprint}/state": "operate",
}


@pytest.fixture(scope="module")
def routes() -> list[NeedsRoute | NeedsSocket]:
    """All routes but the files of the pages, which tell nothing of anybody's runs."""
    site = create_app(configured=Settings())
    files = [route for route in site.routes if isinstance(route, Mount)]
    assert [(mount.path, type(mount.app)) for mount in files] == [("/static", StaticFiles)]
    found = [route for route in site.routes if isinstance(route, NeedsRoute | NeedsSocket)]
    assert len(found) + len(files) == len(site.routes), "a route without `needs`"
    return found


def methods(route: NeedsRoute | NeedsSocket) -> set[str]:
    return (route.methods or set[str]()) - {"HEAD"} if isinstance(route, NeedsRoute) else {"WebSocket"}


def test_each_route_says_what_its_caller_needs(routes: list[NeedsRoute | NeedsSocket]) -> None:
    assert {f"{method} {route.path}": route.needs for route in routes for method in methods(route)} == NEEDS


def test_a_get_never_needs_more_than_to_read_but_for_who_has_done_what(routes: list[NeedsRoute | NeedsSocket]) -> None:
    for route in routes:
        gets = methods(route) == {"GET"}
        tells_of_people = route.path in {"/audit", "/v1/audit"}
        assert not gets or tells_of_people or route.needs in {"nothing", "listen", "read", "app"}, route.path
        # GraphQL: a question is posted; a token for what one may read anyway; a socket is no method.
        asks = route.path in {"/v0/gql", "/v1/realtime/token", "/login", "/logout"} or isinstance(route, NeedsSocket)
        assert gets or asks or route.needs in {"publish", "app", "operate", "admin"}, route.path


def test_each_route_has_a_name_of_its_own(routes: list[NeedsRoute | NeedsSocket]) -> None:
    assert len({route.name for route in routes}) == len(routes)
