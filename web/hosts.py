"""Hosts: whom the site answers to. A page of another site must not reach it under a name of its own (DNS rebinding).

A browser that was told that `evil.example` is 127.0.0.1 asks us with `Host: evil.example`, and hands the answer to the
page of evil.example, which may then read runs and invoke functions. So the site answers to localhost, to the address a
request came in at, and to the names it was given; a proxy's X-Forwarded-Host says nothing, for anybody may send it.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from stepstream.bus.errors import ConfigError

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:.]+")


def checked(names: Sequence[str]) -> frozenset[str]:
    """Return host names in lower case; ConfigError for what is none."""
    plain = [name.strip().lower().removeprefix("[").removesuffix("]") for name in names]
    for name in plain:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"host {name!r} is not a name: write shop.example, *.shop.example or an address, "
                "without https:// and without a port"
            )
    return frozenset(plain)


class Hosts:
    """The names the site answers to, beside localhost and the address a request came in at."""

    def __init__(self, named: Sequence[str]) -> None:
        self._named = checked(named)

    def answers(self, scope: Scope, headers: Headers) -> bool:
        """Whether the Host header of a request names us."""
        given = headers.getlist("host")
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").removesuffix(".")
        return name in LOCAL or name == _bound(scope) or self._is_named(name)

    def may_act(self, headers: Headers) -> bool:
        """Whether a request comes from a page of ours, or from no page: its Origin is this Host, or a name of ours."""
        origin = headers.get("origin")
        if origin is None:
            return True
        parts = urlsplit(origin)
        return parts.netloc == headers.get("host") or (
            "*" not in self._named and self._is_named((parts.hostname or "").lower())
        )

    def _is_named(self, name: str) -> bool:
        if "*" in self._named or name in self._named:
            return True
        return any(one.startswith("*.") and name.endswith(one[1:]) for one in self._named)


def _bound(scope: Scope) -> str:
    """Return the address at which a request came in, as the server's socket has it."""
    server = scope.get("server")
    return str(server[0]).lower() if server else ""
