"""/health: this process is up. /ready: it can work, that is, Redis answers and does not evict keys."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BusError
from stepstream.bus.wire.doctor import evicts
from stepstream.web.answers import told, value
from stepstream.web.beside import beside
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About


class Healthy(msgspec.Struct, frozen=True):
    """This process is up."""

    status: int = 200
    message: str = "OK"


class Ready(msgspec.Struct, frozen=True):
    """It can work."""

    status: str = "ready"


class NotReady(msgspec.Struct, frozen=True):
    """It cannot: `unavailable` (Redis), `unfit` (Redis, as it is set), or `no worker`."""

    status: str
    error: str


async def _health(_request: Request) -> Response:
    return value(Healthy())


async def _ready(request: Request) -> Response:
    try:
        wire = wire_of(request)
        await wire.call("PING")
        unfit = await evicts(wire)
        if unfit is not None:
            error = f"{unfit.check}: {unfit.found}: {unfit.do}"
            return value(NotReady("unfit", error), 503)
    except BusError as error:
        return value(NotReady("unavailable", told(request, error)), 503)
    worker = beside(request)
    if worker is not None and not worker.is_up:
        error = worker.error or "the worker starts"
        return value(NotReady("no worker", error), 503)
    return value(Ready())


routes = [
    NeedsRoute(
        "GET",
        "/health",
        _health,
        needs="nothing",
        name="health",
        about=About(summary="200 while this process is up.", query=None, answer=Healthy),
    ),
    NeedsRoute(
        "GET",
        "/ready",
        _ready,
        needs="nothing",
        name="ready",
        about=About(
            summary="200 when it can work: Redis answers and evicts nothing; else 503 with why.",
            query=None,
            answer=Ready,
            sick=NotReady,
        ),
    ),
]
