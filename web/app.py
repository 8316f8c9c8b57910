"""The site: its routes, its middleware, and its connection to Redis."""

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
from stepstream.web.pages import forms, pages
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import Store


class Site(Starlette):
    """The status page and the HTTP API, as an ASGI application: served by itself, or mounted in another one.

    It connects to Redis with the first request, so nothing has to run before. A server closes it by its lifespan; an
    application that mounts it calls `await site.close()` in its own lifespan, or nothing: then the connection ends with
    the process, and nothing is lost, because the site holds no state.
    """

    def __init__(self, buses: Sequence[Bus], configured: settings.Settings | None, hosts: Sequence[str]) -> None:
        self.buses = tuple(buses)
        """The buses this process has loaded. The site itself needs none: all functions are registered in Redis."""
        self._store = Store(configured, lambda name: [kind for bus in self.buses for kind in bus.kinds.of(name)])
        configured = configured or settings.read()[0]  # what is wrong in the environment is told here, not later
        super().__init__(
            routes=[
                NeedsRoute(
                    "POST", "/e/{key}", http.endpoint(lambda: self._store.publisher, configured), needs="publish"
                ),
                *actions.routes,
                *v1.routes,
                *health.routes,
                *pages.routes,
                *forms.routes,
                Mount("/static", StaticFiles(directory=str(files("stepstream.web.pages") / "static")), name="static"),
            ],
            middleware=[Middleware(Door, hosts=Hosts([*configured.allow_hosts, *hosts]))],
            exception_handlers={HTTPException: answers.not_routed, BusError: answers.refused},
            lifespan=_closing,
        )
        self.state.store = self._store

    async def close(self) -> None:
        """Close the connection to Redis; a later request opens another."""
        await self._store.close()


@contextlib.asynccontextmanager
async def _closing(site: Site) -> AsyncGenerator[None]:
    yield
    await site.close()


def create_app(*buses: Bus, configured: settings.Settings | None = None, hosts: Sequence[str] = ()) -> Site:
    """Return the site as an ASGI application. Without `configured`, its settings are those of the environment.

    It answers to localhost, to the address a request comes in at, and to the names in `hosts` and BUS_ALLOW_HOSTS:
    `shop.example`, `*.shop.example`, or `*` for any, if something in front of it checks the Host header.
    """
    return Site(buses, configured, hosts)
