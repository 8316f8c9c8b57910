"""The door: the middleware around every route. It checks the request and adds headers to the answer."""

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepstream.bus.values.ids import token
from stepstream.web import answers
from stepstream.web.hosts import Hosts
from stepstream.web.paths import enter

_log = structlog.get_logger("web")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
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
        """Serve one request; anything but HTTP is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope}  # the host's log has the path as it came
        enter(scope)
        started = False

        async def send_with(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *self._added]
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_with)
        except ClientDisconnect:  # nobody is left to be answered
            return
        except Exception as error:  # noqa: BLE001 - the log gets the whole error, the caller its number
            number = token()
            _log.error(
                "a request failed", request=number, method=scope["method"], path=scope["path"][:200], exc_info=error
            )
            if not started:
                await answers.broken(Request(scope), number)(scope, receive, send_with)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, request = Headers(scope=scope), Request(scope)
        if not self._hosts.answers(scope, headers):
            host = headers.get("host", "")[:100]
            way_out = "if it is a name of this site, add it with --allow-host, BUS_ALLOW_HOSTS or serve(…, hosts=…)"
            return answers.error(request, 421, f"Host {host!r} is not served here; {way_out}", code="host")
        if scope["method"] not in _SAFE and not self._hosts.may_act(headers):
            origin = headers.get("origin", "")[:200]
            return answers.error(request, 403, f"Origin {origin!r} may not act here", code="origin")
        return None
