"""The site: routes, what every answer carries, and the connection it lives on."""

import contextlib
from collections.abc import AsyncGenerator
from importlib.resources import files

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus import settings
from bus.bus import Bus
from bus.errors import BusError, ConfigError, EventInvalid, StoreUnavailable
from bus.wire.streams import Publisher
from bus.wire.wire import Wire
from producers import http
from web import actions, api, health, pages

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "testserver")


class _Headers:
    """Adds to every answer what a browser needs to be told."""

    _ADDED = (
        (
            b"content-security-policy",
            b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),  # no-referrer makes forms say "Origin: null", which is refused
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._ADDED]
            await send(message)

        await self._app(scope, receive, send_with if scope["type"] == "http" else send)


def create_app(
    *buses: Bus, configured: settings.Settings | None = None, hosts: tuple[str, ...] = LOCAL_HOSTS
) -> Starlette:
    """Return the site as an ASGI application. `hosts` are the Host headers it answers to ("*": any).

    Loaded buses send through its connection; without any it validates names and limits only.
    """
    chosen = configured or settings.read()[0]
    publishers: list[Publisher] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        wire = Wire(chosen, "bus-web", structlog.get_logger("web").warning)
        app.state.wire = wire
        publishers[:] = [Publisher(wire)]
        for bus in buses:
            bus.connect(wire)
        try:
            yield
        finally:
            await wire.close()

    static = files("web") / "static"
    return Starlette(
        routes=[
            *http.routes(lambda: publishers[0], chosen),
            *actions.routes,
            *api.routes,
            *health.routes,
            *pages.routes,
            Mount("/static", StaticFiles(directory=str(static)), name="static"),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={
            HTTPException: _http_error,
            ConfigError: _bad_request,
            EventInvalid: _bad_request,
            http.Refused: _refused,
            StoreUnavailable: _unavailable,
        },
        lifespan=lifespan,
    )


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message, "status": status}, status_code=status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if _wants_page(request):
        return pages.failure(error.status_code, error.detail)
    return _error(error.status_code, error.detail)


async def _bad_request(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, EventInvalid) else 400
    return pages.failure(status, str(error)) if _wants_page(request) else _error(status, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, http.Refused)
    return pages.failure(error.status, str(error)) if _wants_page(request) else _error(error.status, str(error))


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, BusError)
    return pages.failure(503, str(error)) if _wants_page(request) else _error(503, str(error))


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith(("/v1/", "/e/")) and "text/html" in request.headers.get("accept", "")
