"""`GET /dev`: what an SDK asks to find out whether a server that signs nothing is there, and which functions it has."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.apps import apps
from stepstream.checkpoint.registry import functions
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of


async def _dev(request: Request) -> Response:
    wire = wire_of(request)
    told = {
        "version": version("stepstream"),
        "authed": False,
        "startOpts": {"urls": [app.url for app in await apps(wire)], "autodiscover": False, "poll": True},
        "functions": [{"slug": one.slug, "name": one.name, "triggers": one.on} for one in await functions(wire)],
        "handlers": None,
        "isSingleNodeService": True,
        "isMissingSigningKey": False,
        "isMissingEventKeys": False,
        "features": {},
    }
    return value(told)


routes = [NeedsRoute("GET", "/dev", _dev, needs="read", name="sdk_dev")]
