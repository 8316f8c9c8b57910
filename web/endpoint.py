"""The endpoint: where an application says which functions it has, and has them registered."""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError
from stepstream.bus.function import Function
from stepstream.bus.wire.registering import Listeners, Registered, declaration
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions, workers
from stepstream.web import answers
from stepstream.web.part import Part
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import Store, wire_of

PATIENCE_S = 2.0
"""How long Redis may take to answer before a request is told that it is away."""


class _Told(msgspec.Struct):
    """A function as the application has it, and whether Redis knows it.

    `registered` is yes or no, `otherwise` when another version of the application has declared it, or `by BUS`.
    """

    slug: str
    name: str
    on: tuple[str, ...]
    retries: int
    limits: tuple[str, ...]
    registered: str


class Endpoint(Part):
    """GET tells which functions an application has and which of them Redis knows; PUT registers those it does not."""

    def __init__(
        self,
        bus: Bus,
        served: Collection[Function[Any, Any]],
        configured: settings.Settings | None,
        hosts: Sequence[str],
    ) -> None:
        for function in served:
            if not isinstance(cast("object", function), Function):
                raise ConfigError(
                    f"functions={function!r} is not a function of bus '{bus.id}'; "
                    "give the declared ones, functions=[ship_order], or all: functions=app.functions.values()"
                )
            if bus.functions.get(function.id) is not function:
                raise ConfigError(
                    f"function '{function.slug}' is not one of bus '{bus.id}', which is served here; "
                    "declare it there, or serve the bus it belongs to"
                )
        self._bus = bus
        failures = [function.failure for function in served if function.failure is not None]
        self._served = tuple(dict.fromkeys((*served, *failures)))
        super().__init__([bus], configured, hosts, self._routes)

    def _routes(self, _store: Store, _configured: settings.Settings) -> list[BaseRoute]:
        # At whatever path it is asked: it is mounted, or it is the endpoint of a route.
        return [
            NeedsRoute("GET", "/{path:path}", self._tell, needs="read", name="tell"),
            NeedsRoute("PUT", "/{path:path}", self._register, needs="admin", name="register"),
            NeedsRoute("POST", "/{path:path}", _call, needs="operate", name="call"),
        ]

    async def _tell(self, request: Request) -> Response:
        wire = wire_of(request)
        told = {
            "app": self._bus.id,
            "functions": await self._functions(wire),
            "workers": len(await workers(wire)),
            "redis": wire.settings.store,
            "sdk": f"stepstream {version('stepstream')}",
            "put": "registers what is not registered, and changes nothing that is",
        }
        return answers.readable(told)

    async def _register(self, request: Request) -> Response:
        wire = wire_of(request)
        missing = {one.slug for one in await self._functions(wire) if one.registered == "no"}
        # Anew for each request: should Redis have been wiped since, what an earlier one did is gone.
        await Listeners(wire, [{one.id: one for one in self._served}]).get_ready(set(), PATIENCE_S)
        now = await self._functions(wire)
        left = [one.slug for one in now if one.registered not in {"yes", "otherwise"}]
        new = sorted(missing.difference(left))
        parts = [f"{len(new)} registered", f"{len(now) - len(new) - len(left)} had been before"]
        parts += [f"{len(left)} may not be: the log says why"] if left else []
        told = {"message": ", ".join(parts), "modified": bool(new), "registered": new, "functions": now}
        return answers.readable(told, 409 if left else 200)

    async def _functions(self, wire: Wire) -> list[_Told]:
        known = {one.slug: one for one in await functions(wire, [function.slug for function in self._served])}
        return [_told(declaration(function), known.get(function.slug)) for function in self._served]


def _told(own: Registered, stands: Registered | None) -> _Told:
    if stands is None or stands == own:
        registered = "yes" if stands else "no"
    else:
        registered = "otherwise" if stands.bus == own.bus else f"by {stands.bus}"
    return _Told(own.slug, own.name, own.on, own.retries, own.flow, registered)


async def _call(request: Request) -> Response:
    told = "functions are not called over HTTP yet: run them with `bus worker package.module:app`"
    return answers.error(request, 501, told, code="not_implemented")
