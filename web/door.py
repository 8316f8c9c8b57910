"""The door: the middleware around every route. It checks the request and adds headers to the answer."""

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

from stepstream.bus.trust.signing import HEADER
from stepstream.bus.values.ids import token
from stepstream.web import answers
from stepstream.web.hosts import Hosts, OriginRefused
from stepstream.web.paths import enter

_log = structlog.get_logger("web")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_ONCE = frozenset(
    {
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"origin",
        b"transfer-encoding", HEADER.encode(),
    }
)  # fmt: skip
"""Headers that decide who asks, what a body is and where it ends: none may be there twice."""
_BROKEN = 1011
_GONE = (ClientDisconnect, WebSocketDisconnect, WebSocketDisconnected)
"""Nobody is left to be answered: the caller has gone, which a message to it or a read from it has found."""
_ADDED = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # no-referrer makes forms say "Origin: null", which is refused
)


class Door:
    """Refuses foreign hosts and origins, adds security headers, and turns every error into an answer."""

    def __init__(self, app: ASGIApp, hosts: Hosts, kind: str) -> None:
        self._app = app
        self._hosts = hosts
        # By its kind SDKs know whether anything is signed here.
        self._added = (*_ADDED, (b"x-inngest-server-kind", kind.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket; anything else is passed on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        scope = {**scope}  # the host's log has the path as it came
        enter(scope)
        started = False

        async def send_with(message: Message) -> None:
            nonlocal started
            if message["type"] in _STARTS:
                started = True
                message["headers"] = [*message.get("headers", ()), *self._added]
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_with)
        except _GONE:
            return
        except Exception as error:  # noqa: BLE001 - the log gets the whole error, the caller its number
            number = token()
            _log.error(
                "a request failed",
                request=number,
                method=scope.get("method", "WebSocket"),
                path=_shown(scope),
                exc_info=error,
            )
            if not started:
                await answers.broken(HTTPConnection(scope), number)(scope, receive, send_with)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": _BROKEN, "reason": f"broken: request {number}"})

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, request = Headers(scope=scope), HTTPConnection(scope)
        if unclear := _unclear(scope):
            # What follows on this connection may be meant for somebody else, by another reading of the same bytes.
            return answers.error(request, 400, unclear, headers={"Connection": "close"}, code="unclear")
        if not self._hosts.answers(scope, headers):
            host = headers.get("host", "")[:100]
            way_out = "if it is a name of this site, add it with --allow-host, BUS_ALLOW_HOSTS or serve(…, hosts=…)"
            return answers.error(request, 421, f"Host {host!r} is not served here; {way_out}", code="host")
        # What a WebSocket is for its route knows: which origins may open it is asked there (web/routing.py).
        if scope.get("method", "GET") not in _SAFE and not self._hosts.may_act(headers):
            told = OriginRefused(headers)
            return answers.error(request, told.status, str(told), code=told.code)
        return None


def _unclear(scope: Scope) -> str:
    """Return what of a request could be read in two ways, by a proxy in one and here in the other; empty: nothing."""
    names = [name for name, _ in scope["headers"] if name in _ONCE]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1).decode()
        return f"the header {twice} is there {names.count(twice.encode())} times: which of them counts must be plain"
    if b"content-length" in names and b"transfer-encoding" in names:
        return "the headers content-length and transfer-encoding are both there: where the body ends must be plain"
    if not scope["path"].startswith("/"):
        return f"{scope['path'][:200]!r} is no path: it must begin with /"
    return ""


def _shown(scope: Scope) -> str:
    """Return the path of a request for the log, without the event key that may be in it."""
    path, key = scope["path"], scope.get("path_params", {}).get("key")
    return (path.replace(f"/e/{key}", "/e/…") if key else path)[:200]
