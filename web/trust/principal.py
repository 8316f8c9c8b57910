"""The principal: who asks, as their key says, and what they may do."""

import msgspec
from starlette.requests import HTTPConnection

from stepstream.bus.trust.roles import Role, is_enough

PRINCIPAL = "stepstream.principal"
"""In the scope of a request: who asks."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks. `name` is that of a token or a user; empty where the site has no keys: it is anybody who reaches it.

    `session` is what the session of a user who has logged in is called; empty for others.
    """

    name: str
    role: Role
    session: str = ""

    def may(self, needs: str) -> bool:
        """Whether their role allows what a route needs."""
        return is_enough(self.role, needs)


API, PAGE = "the API", "the status page"
"""By what somebody has acted."""
ANYBODY = Principal("", "admin")
"""Whoever reaches a site without keys may do everything."""


def principal_of(request: HTTPConnection) -> Principal:
    """Return who asks; of a request that no route has looked at, anybody."""
    return request.scope.get(PRINCIPAL, ANYBODY)


def by(request: HTTPConnection, way: str) -> str:
    """Return who has acted, as it is told where something was done: their name and by what, or only by what."""
    name = principal_of(request).name
    return f"{name}, {way}" if name else way
