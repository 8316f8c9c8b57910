"""Serving: the site in a uvicorn of its own until a signal comes, or mounted in another web application."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from ipaddress import ip_address
from typing import Any, Protocol, overload

import structlog
import uvicorn

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError
from stepstream.bus.function import Function
from stepstream.bus.process.tasks import cancelled
from stepstream.checkpoint.live.hub import end_listening
from stepstream.web.app import Site, create_app
from stepstream.web.endpoint import Endpoint
from stepstream.web.live.feed import end_watching
from stepstream.web.serving.connections import BoundedWebSocket, Bounds, Connections, too_few_files
from stepstream.web.serving.proxies import Heard


@overload
def serve(app: Bus[Any], *, configured: settings.Settings | None = None, hosts: Sequence[str] = ()) -> Site: ...
@overload
def serve(
    app: Bus[Any],
    *,
    functions: Iterable[Function[Any, Any]],
    called: bool = False,
    configured: settings.Settings | None = None,
    hosts: Sequence[str] = (),
) -> Endpoint: ...
def serve(
    app: Bus[Any],
    *,
    functions: Iterable[Function[Any, Any]] | None = None,
    called: bool = False,
    configured: settings.Settings | None = None,
    hosts: Sequence[str] = (),
) -> Site | Endpoint:
    """Return what to mount in another application: the site of a bus, or with `functions` an endpoint that has them.

    `mount(host, "/bus", serve(app, hosts=["shop.example"]))` is the status page and the API.
    `mount(host, "/api/inngest", serve(app, functions=[ship_order]))` answers GET with what this application has and
    what is registered of it, and PUT by registering the rest. With `called=True` the functions run in that application:
    PUT registers it as one behind HTTP, and POST is how `bus worker --remote` calls them, so no worker loads their
    code. Both connect to Redis with their first request. `hosts`
    are the application's host names, as for create_app.
    """
    if functions is not None:
        return Endpoint(app, tuple(functions), configured, hosts, called)
    if called:
        raise ConfigError("serve(…, called=True) needs the functions: functions=app.functions.values() for all")
    return create_app(app, configured=configured, hosts=hosts)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def check_address(host: str, port: int, *, exposed: bool) -> socket.socket:
    """Return a socket bound to the address; ConfigError when it is in use, or reachable by others and not `exposed`."""
    if not is_loopback(host) and not exposed:
        raise ConfigError(
            f"--host {host} is reachable by others, and without keys they would see and do everything: set "
            "BUS_SESSION_KEY, so that people log in (bus users add NAME --role admin), BUS_API_TOKENS for programs, or "
            "BUS_SIGNING_KEY where applications behind HTTP call here (openssl rand -hex 32 makes each); for "
            "development there is `bus dev --expose`"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    return bound


KEPT_OPEN_S = 75
"""How long a connection stays open that nobody uses: longer than clients keep theirs (of SDKs, 4 s and 5 s).

Who closes it first must not be us: a request that is on its way just then is lost, and few clients repeat it.
"""


def beside(*several: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what does several things that the site does by itself, side by side."""

    async def all_of_them() -> None:
        tasks = [asyncio.ensure_future(one()) for one in several]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancelled(*tasks)

    return all_of_them


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the command: it drains the worker first.

    Once it listens it does what the site does by itself, `beside`: whoever is called then can call back. Before it
    stops it lets those go that have connections to it, `drain`.
    """

    beside: Callable[[], Coroutine[Any, Any, None]] | None = None
    drain: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.beside is not None and self.started:
            self._beside = asyncio.create_task(self.beside())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let connected workers go elsewhere and listen no more; who listens to live messages is not waited for."""
        end_listening()
        end_watching()
        if self._beside is not None:
            await cancelled(self._beside)
        if self.drain is not None:
            await self.drain()
        await super().shutdown(sockets)

    _beside: "asyncio.Task[None] | None" = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none: uvicorn would raise them again at its end, and kill us before the store is closed."""
        yield


def server(site: Site, configured: settings.Settings, root_path: str = "") -> Server:
    """Return a server for the site, without an access log: our own log says what matters."""
    if lacking := too_few_files(configured.max_connections):
        structlog.get_logger().warning(lacking)
    made = Server(
        uvicorn.Config(
            Heard(site),
            http=Connections(Bounds(configured.max_connections)).protocol(),
            loop="none",
            lifespan="on",
            ws=BoundedWebSocket,
            ws_per_message_deflate=False,  # what workers are sent is not worth the time
            root_path=root_path,
            log_config=None,  # its lines are lines of our log: JSON where that is, and where the application wants them
            log_level="warning" if configured.log_level != "debug" else "info",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=KEPT_OPEN_S,
        )
    )
    made.drain = site.state.gateway.drain
    return made


class Child(Protocol):
    """A process that runs beside the site: the worker of `bus dev`."""

    async def keep(self) -> None:
        """Keep it running."""
        ...

    async def stop(self) -> None:
        """Let it drain, and do not restart it."""
        ...

    def end_at_once(self) -> None:
        """Kill it."""
        ...


async def run(
    server: Server,
    sockets: Sequence[socket.socket],
    child: Child | None = None,
    store: Coroutine[Any, Any, None] | None = None,
) -> None:
    """Serve the site, and keep `child` running, until Ctrl-C or SIGTERM; then drain. A second signal ends at once.

    `store` keeps the Redis server running meanwhile; its error ends it all, and is raised.
    """
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            if child is not None:
                child.end_at_once()
            os._exit(130)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    keeping = asyncio.create_task(child.keep()) if child is not None else None
    storing = asyncio.create_task(store) if store is not None else None
    stopping = asyncio.create_task(stop.wait())
    kept = [one for one in (keeping, storing) if one is not None]
    await asyncio.wait({serving, stopping, *kept}, return_when=asyncio.FIRST_COMPLETED)
    if child is not None and keeping is not None:
        await child.stop()
        await cancelled(keeping)
    server.should_exit = True
    stopping.cancel()
    await serving
    if storing is not None:
        await cancelled(storing)
    for one in kept:
        if not one.cancelled():
            one.result()
