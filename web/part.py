"""What the site and the endpoint have in common: they are mounted, or served, and have a connection to Redis."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError
from stepstream.web import answers
from stepstream.web.door import Door
from stepstream.web.hosts import Hosts
from stepstream.web.store import Store
from stepstream.web.trust.hiding import Hidden
from stepstream.web.trust.keys import Keys


class Part(Starlette):
    """An ASGI application of ours: served by itself, or mounted in another one.

    It connects to Redis with the first request, so nothing has to run before. A server closes it by its lifespan, and
    `mount` by that of the application it is mounted in; otherwise the connection ends with the process, and nothing is
    lost, because a part holds no state.
    """

    def __init__(
        self,
        buses: Sequence[Bus],
        configured: settings.Settings | None,
        hosts: Sequence[str],
        routes: Callable[[Store, settings.Settings], Sequence[BaseRoute]],
    ) -> None:
        self.buses = tuple(buses)
        """The buses this process has loaded: registered before the first event that is published here."""
        self._store = Store(configured, self.buses)
        configured = configured or settings.read()[0]  # what is wrong in the environment is told here, not later
        keys, named = Keys(configured), Hosts([*configured.allow_hosts, *hosts])
        super().__init__(
            routes=routes(self._store, configured),
            middleware=[Middleware(Door, hosts=named, kind=keys.kind)],
            exception_handlers={HTTPException: answers.not_routed, BusError: answers.refused},
            lifespan=_closing,
        )
        self.state.store = self._store
        self.state.keys = keys
        self.state.hosts = named
        self.state.hidden = Hidden(configured.redact)

    async def register(self) -> None:
        """Register the functions of the buses before the first event does; it ends when that is done."""
        await self._store.register()

    async def close(self) -> None:
        """Close the connection to Redis; a later request opens another."""
        await self._store.close()


@contextlib.asynccontextmanager
async def _closing(part: Part) -> AsyncGenerator[None]:
    try:
        yield
    finally:  # also where whoever runs it ends with an error: a connection that stays open keeps its loop busy
        await part.close()
