"""/health: this process is up. /ready: it can work, that is, Redis answers and does not evict keys."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stepstream.bus.errors import BusError
from stepstream.bus.wire.doctor import evicts
from stepstream.web.beside import beside
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": 200, "message": "OK"})


async def _ready(request: Request) -> Response:
    try:
        wire = wire_of(request)
        await wire.call("PING")
        unfit = await evicts(wire)
        if unfit is not None:
            error = f"{unfit.check}: {unfit.found}: {unfit.do}"
            return JSONResponse({"status": "unfit", "error": error}, status_code=503)
    except BusError as error:
        return JSONResponse({"status": "unavailable", "error": str(error)}, status_code=503)
    worker = beside(request)
    if worker is not None and not worker.is_up:
        error = worker.error or "the worker starts"
        return JSONResponse({"status": "no worker", "error": error}, status_code=503)
    return JSONResponse({"status": "ready"})


routes = [
    NeedsRoute("GET", "/health", _health, needs="nothing", name="health"),
    NeedsRoute("GET", "/ready", _ready, needs="nothing", name="ready"),
]
