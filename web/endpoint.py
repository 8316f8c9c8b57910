"""The endpoint: where an application says which functions it has, has them registered, and may have them called."""

import asyncio
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
from stepstream.consumers.served.host import Host
from stepstream.web import answers
from stepstream.web.part import Part
from stepstream.web.routing import NeedsRoute
from stepstream.web.served import calls, sync
from stepstream.web.served.signed import Signed
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
        called: bool = False,
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
        self._called = called
        if called:
            left = [one.slug for one in bus.functions.values() if one not in self._served]
            if left:
                raise ConfigError(
                    f"functions of bus '{bus.id}' are called over HTTP all or none: {', '.join(left)} is not in "
                    "functions=…; give functions=app.functions.values(), or declare it on another bus"
                )
            for function in self._served:  # what this process registers before its events is of the same kind
                function.is_remote = True
        self._hosts: dict[asyncio.AbstractEventLoop, Host] = {}
        super().__init__([bus], configured, hosts, self._routes)

    def _routes(self, _store: Store, configured: settings.Settings) -> list[BaseRoute]:
        # At whatever path it is asked: it is mounted, or it is the endpoint of a route.
        tell = NeedsRoute("GET", "/{path:path}", self._tell, needs="read", name="tell")
        if not self._called:
            register = NeedsRoute("PUT", "/{path:path}", self._register, needs="admin", name="register")
            return [tell, register, NeedsRoute("POST", "/{path:path}", _not_called, needs="operate", name="call")]
        signed = Signed(configured)
        return [
            tell,
            NeedsRoute("PUT", "/{path:path}", signed(self._sync), needs="nothing", name="register"),
            NeedsRoute("POST", "/{path:path}", signed(self._call), needs="nothing", name="call"),
        ]

    async def close(self) -> None:
        """Leave the bus's lifespan and close what calls have opened; a later request opens another."""
        host = self._hosts.pop(asyncio.get_running_loop(), None)
        if host is not None:
            await host.close()
        await super().close()

    async def _tell(self, request: Request) -> Response:
        wire = wire_of(request)
        told = {
            "app": self._bus.id,
            "functions": await self._functions(wire),
            "workers": len(await workers(wire)),
            "redis": wire.settings.store,
            "sdk": f"stepstream {version('stepstream')}",
            "put": "registers the application as one that is called here, by `bus worker --remote`"
            if self._called
            else "registers what is not registered, and changes nothing that is",
        }
        return answers.readable(told, headers=calls.HEADERS if self._called else None)

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

    async def _sync(self, request: Request, body: bytes) -> Response:
        """Register the application as one that is called at the URL that it was asked at."""
        wire, url = wire_of(request), sync.url_of(request, body)
        told = await sync.register(wire, self._bus.id, self._served, url)
        return answers.value(told, 200 if told.get("ok") else 400, headers=calls.HEADERS)

    async def _call(self, request: Request, body: bytes) -> Response:
        """Call a function as the bus asks; what it does ends when nobody waits for the answer any more."""
        slug, step = request.query_params.get("fnId", ""), request.query_params.get("stepId", "")
        function = next((one for one in self._served if one.slug == slug), None)
        if function is None:
            told = (
                f"function {slug[:150]!r} is not served here; there are {', '.join(one.slug for one in self._served)}"
            )
            return answers.value({"code": "function_not_found", "message": told, "name": "FunctionNotFound"}, 500,
                                 headers=calls.HEADERS)  # fmt: skip
        return await calls.answer(request, self._host().call(function, step, body))

    def _host(self) -> Host:
        loop = asyncio.get_running_loop()
        for other in [one for one in self._hosts if one.is_closed()]:
            del self._hosts[other]
        if loop not in self._hosts:
            self._hosts[loop] = Host(self._bus, self._store.wire, self._store.publisher)
        return self._hosts[loop]

    async def _functions(self, wire: Wire) -> list[_Told]:
        known = {one.slug: one for one in await functions(wire, [function.slug for function in self._served])}
        return [_told(declaration(function), known.get(function.slug)) for function in self._served]


def _told(own: Registered, stands: Registered | None) -> _Told:
    if stands is None or stands == own:
        registered = "yes" if stands else "no"
    else:
        registered = "otherwise" if stands.bus == own.bus else f"by {stands.bus}"
    return _Told(own.slug, own.name, own.on, own.retries, own.flow, registered)


async def _not_called(request: Request) -> Response:
    told = (
        "functions are not called over HTTP here: run them with `bus worker package.module:app`, "
        "or serve them with called=True and run `bus worker --remote`"
    )
    return answers.error(request, 501, told, code="not_implemented")
