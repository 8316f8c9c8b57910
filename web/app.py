"""The site: its routes, its door, and the connection it lives on."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError
from stepstream.producers import http
from stepstream.web import answers
from stepstream.web.api import actions, health, v1
from stepstream.web.door import Door
from stepstream.web.hosts import Hosts
from stepstream.web.pages import pages
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import Store


class Site(Starlette):
    """The status page and the HTTP API, as an ASGI application: served by itself, or mounted in another one.

    It connects to Redis with the first request, so nothing has to run before. Who serves it closes it: a server by its
    lifespan; an application that mounts it with `await site.close()` in its own, or not at all: then the connection
    ends with the process, and nothing is lost, for the site holds no state.
    """

    def __init__(self, buses: Sequence[Bus], configured: settings.Settings, hosts: Sequence[str]) -> None:
        self.buses = tuple(buses)
        """What this process has loaded; the site itself needs none, for all functions are in Redis."""
        self._store = Store(configured)
        super().__init__(
            routes=[
                NeedsRoute(
                    "POST", "/e/{key}", http.endpoint(lambda: self._store.publisher, configured), needs="publish"
                ),
                *actions.routes,
                *v1.routes,
                *health.routes,
                *pages.routes,
                Mount("/static", StaticFiles(directory=str(files("stepstream.web.pages") / "static")), name="static"),
            ],
            middleware=[Middleware(Door, hosts=Hosts([*configured.allow_hosts, *hosts]))],
            exception_handlers={HTTPException: answers.not_routed, BusError: answers.refused},
            lifespan=_closing,
        )
        self.state.store = self._store

    async def close(self) -> None:
        """Close the connection to Redis; a request that comes later opens another."""
        await self._store.close()


@contextlib.asynccontextmanager
async def _closing(site: Site) -> AsyncGenerator[None]:
    yield
    await site.close()


def create_app(*buses: Bus, configured: settings.Settings | None = None, hosts: Sequence[str] = ()) -> Site:
    """Return the site as an ASGI application.

    It answers to localhost, to the address a request comes in at, and to `hosts` and BUS_ALLOW_HOSTS: names,
    `*.shop.example`, or `*` for any, which is for those who check the Host header in front of it.
    """
    return Site(buses, configured or settings.read()[0], hosts)
