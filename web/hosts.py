"""Hosts: the host names the site answers to, so that no page of another site can use it (DNS rebinding).

If `evil.example` resolves to 127.0.0.1, a browser sends us `Host: evil.example` and hands the answer to the page of
evil.example, which could then read runs and invoke functions. So the site answers only to localhost, to the address a
request came in at, and to the names it was given. X-Forwarded-Host is ignored, because anybody may send it.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from stepstream.bus.errors import BusError, ConfigError

LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - asked for, not listened on
"""Names of this machine. 0.0.0.0 leads to it too, and many write it; of addresses no other site can be the name."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:.]+")


class OriginRefused(BusError):
    """A page of another origin asks for what it may not."""

    code = "origin"
    status = 403

    def __init__(self, headers: Headers) -> None:
        origin = headers.get("origin")
        who = "a page of another site" if origin is None else f"Origin {origin[:200]!r}"
        super().__init__(f"{who} may not act here")


def checked(names: Sequence[str]) -> frozenset[str]:
    """Return host names in lower case; ConfigError for an invalid one."""
    plain = [name.strip().lower().removeprefix("[").removesuffix("]") for name in names]
    for name in plain:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"host {name!r} (--allow-host, BUS_ALLOW_HOSTS or serve(…, hosts=…)) is not a name: write "
                "shop.example, *.shop.example or an address, without https:// and without a port"
            )
    return frozenset(plain)


class Hosts:
    """The names the site answers to, besides localhost and the address a request came in at."""

    def __init__(self, named: Sequence[str]) -> None:
        self._named = checked(named)

    def answers(self, scope: Scope, headers: Headers) -> bool:
        """Whether the Host header of a request is one of this site's names."""
        given = headers.getlist("host")
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").removesuffix(".")
        return name in LOCAL or name == _bound(scope) or self._is_named(name)

    def may_act(self, headers: Headers) -> bool:
        """Whether a request may change something: it has no Origin, or one that is this Host or a name of ours.

        Where a browser names no origin it may still say that another site's page asks.
        """
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") != "cross-site"
        parts = urlsplit(origin)
        return parts.netloc == headers.get("host") or (
            "*" not in self._named and self._is_named((parts.hostname or "").lower())
        )

    def is_near(self, headers: Headers) -> bool:
        """Whether a request is of no page, or of one of the same machine, at any port, or of a name of ours."""
        origin = headers.get("origin")
        if origin is None or self.may_act(headers):
            return True
        name, found = urlsplit(origin).hostname or "", _HOST.fullmatch(headers.get("host", "").lower())
        here = found[1].strip("[]") if found is not None else ""
        return name == here or (name in LOCAL and here in LOCAL)

    def _is_named(self, name: str) -> bool:
        if "*" in self._named or name in self._named:
            return True
        return any(one.startswith("*.") and name.endswith(one[1:]) for one in self._named)


def hosts_of(request: HTTPConnection) -> Hosts:
    """Return the names of the site that serves a request."""
    return request.app.state.hosts


def _bound(scope: Scope) -> str:
    """Return the address at which a request came in, from the server's socket."""
    server = scope.get("server")
    return str(server[0]).lower() if server else ""
