"""The HTTP server of a worker: threads, so that it answers while the event loop is blocked."""

import contextlib
import errno
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, NamedTuple, cast

from stepstream.bus.errors import ConfigError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_MOST_AT_ONCE = 16
"""How many are answered at once: more than probes and Prometheus are, fewer than harm a worker."""
_SLOW_S = 5.0
"""How long somebody may say nothing, or take nothing of the answer."""
WHOLE_S = 20.0
"""How long one may take in all: who sends a byte now and then would keep a place from the probes."""


class Answer(NamedTuple):
    """What is answered: the status, the content type, the body."""

    status: int
    kind: str
    body: bytes


Routes = Mapping[str, Callable[[str], Answer]]
"""By path: called with the Accept header, in a thread."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, where: tuple[str, int], family: socket.AddressFamily, routes: Routes) -> None:
        self.address_family = family
        self.routes = routes
        self.is_local = _is_here(f"[{where[0]}]" if family == socket.AF_INET6 else where[0])
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(where, _Handler)

    def server_bind(self) -> None:
        """Bind, without a look-up of this machine's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; more at once than there are places for are hung up on."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then let the place go."""
        ending = threading.Timer(WHOLE_S, _hang_up, [request])
        ending.daemon = True
        ending.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            ending.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up is nobody's concern."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _is_here(name: str) -> bool:
    """Whether a Host header names this machine, and no site whose name has come to lead here (DNS rebinding)."""
    found = _HOST.fullmatch(name.strip().lower())
    if found is None or found[1] == "localhost":
        return found is not None
    try:
        return ip_address(found[1].strip("[]")).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    timeout = _SLOW_S

    def do_GET(self) -> None:
        """Answer."""
        route = cast("_Server", self.server).routes.get(self.path.partition("?")[0])
        told = Answer(404, "text/plain", b"/metrics, /health or /ready\n")
        here, hosts = cast("_Server", self.server).is_local, self.headers.get_all("host", [])
        if here and not all(map(_is_here, hosts)):
            # Elsewhere it is asked by names that are not known here: probes of Kubernetes, Prometheus' targets.
            told = Answer(421, "text/plain", b"not served under this host name: ask at localhost or 127.0.0.1\n")
        elif route is not None:
            told = route(self.headers.get("accept", ""))
        self.send_response(told.status)
        self.send_header("content-type", told.kind)
        self.send_header("content-length", str(len(told.body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told.body)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def version_string(self) -> str:
        """Return what the header Server says: nothing of Python's version."""
        return "stepstream"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Write no line for each probe."""


class MonitoringServer:
    """Listens until close(). `port` is the one it has, where 0 was asked for."""

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        """Listen. ConfigError, naming the option, when that cannot be done."""
        self._server = _listening(host, port, routes)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="bus-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def _listening(host: str, port: int, routes: Routes) -> _Server:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    except socket.gaierror as error:
        raise ConfigError(
            f"--metrics-host (BUS_METRICS_HOST) {host!r} is no address of this machine: {error.strerror}"
        ) from None
    try:
        return _Server((host, port), family, routes)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--metrics-port (BUS_METRICS_PORT) {port}: something listens there already, on {host}; give each "
                "worker of a machine a port of its own, or 0 for any free one"
            ) from None
        raise ConfigError(f"--metrics-port (BUS_METRICS_PORT) {port} on {host}: {error.strerror or error}") from None


def check_free(host: str, ports: range) -> None:
    """Raise ConfigError for the first of the ports that cannot be listened on."""
    for port in ports:
        _listening(host, port, {}).server_close()
