"""Proxies: whose word is taken for who asks, and what the log says of one whose word is not.

uvicorn reads FORWARDED_ALLOW_IPS, and takes what is no address for a name that nobody has: then the proxy is believed
nothing, everybody has its address, and cookies are not `Secure`, without a word.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stepstream.bus.errors import ConfigError

NAME = "FORWARDED_ALLOW_IPS"
_log = structlog.get_logger("web")


def check_believed(environ: Mapping[str, str]) -> None:
    """Raise ConfigError for what is neither an address nor a network; say it where everybody is believed."""
    given = environ.get(NAME, "").strip()
    if given == "*":
        _log.warning(f"{NAME}=* believes everybody: whoever reaches this port may say that they are at any address")
        return
    for one in filter(None, (part.strip() for part in given.split(","))):
        try:
            ip_network(one) if "/" in one else ip_address(one)
        except ValueError as error:
            raise ConfigError(
                f"{NAME}: {one[:60]!r} is no address of a proxy: write 10.0.3.7, or a network as 10.0.3.0/24, with "
                f"commas between them ({error})"
            ) from None


class Heard:
    """Says once, in the log, that somebody names another address as that of who asks, and is not believed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as it came."""
        if not self._told and scope["type"] in {"http", "websocket"} and scope.get("client"):
            address, named = scope["client"][0], Headers(scope=scope).get("x-forwarded-for")
            # Of one that is believed uvicorn has put an address of the header in the place of the proxy's own.
            if named and address not in named:
                self._told = True
                _log.warning(
                    f"who connects from {address} names others that ask (X-Forwarded-For), and is not believed: all of "
                    f"them have one address, and cookies are not Secure. If it is your proxy: {NAME}={address}",
                    address=address,
                )
        await self._app(scope, receive, send)
