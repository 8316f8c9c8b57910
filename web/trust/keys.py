"""Keys: what opens which route. Keys mode is decided by the settings, and every route asks here.

Without a signing key, API tokens and a session key the site answers whoever reaches it, as `bus dev` on one's own
machine does; an event key alone bounds who publishes. With any of them each route wants what its `needs` says.
"""

import base64
from collections.abc import Sequence
from typing import Literal

from starlette.requests import HTTPConnection

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.settings import Settings
from stepstream.bus.trust.rates import Rates, rates
from stepstream.bus.trust.signing import is_any, is_one_of
from stepstream.bus.trust.tickets import Heard, Topic, opened, ticket
from stepstream.bus.values.clock import now_ms
from stepstream.web.paths import wants_page
from stepstream.web.store import PATIENCE_S, wire_of
from stepstream.web.trust.principal import ANYBODY, Principal
from stepstream.web.trust.sessions import Sessions
from stepstream.web.trust.users import user

Permission = Literal["nothing", "publish", "listen", "app", "read", "operate", "admin"]
"""What a caller may do: send events; hear the topics that its ticket names; register an application and save for its
runs; see runs and their data; act on runs; change the installation.

`nothing` is for what tells of no run: a load balancer asks for health without a token.
"""


_APPLICATION = Principal("the signing key", "admin")


class KeyRefused(BusError):
    """A request without the key that its route needs, or with another one; it shows neither."""

    code = "unauthorized"
    status = 401


class RoleRefused(BusError):
    """A request of somebody whose role does not allow it."""

    code = "forbidden"
    status = 403

    def __init__(self, who: Principal, needs: Permission) -> None:
        self.who = who
        super().__init__(f"this needs the role {needs}, and {who.name} has the role {who.role}")


class Keys:
    """The keys of a site."""

    def __init__(self, configured: Settings) -> None:
        self._event_keys = configured.event_keys
        self._tokens = configured.tokens
        self._signing = configured.signing_keys
        self._is_keyed = configured.is_keyed
        self._rates = Rates(rates(configured.rate_limit, "BUS_RATE_LIMIT"))
        self.sessions = Sessions(configured.session_key) if configured.session_key else None
        """The sessions of people who log in; None where nobody can."""
        others = (*(one.secret for one in self._tokens), configured.session_key)
        self._sealing = (*configured.signing_keys, *(key for key in others if key))

    @property
    def kind(self) -> Literal["dev", "cloud"]:
        """What SDKs are told of this server: `dev` signs nothing and asks for no key, `cloud` does."""
        return "cloud" if self._is_keyed else "dev"

    async def check(self, request: HTTPConnection, needs: Permission) -> Principal:
        """Return who asks; KeyRefused without what the route needs, RoleRefused for one who may not, TooMany."""
        if needs == "publish":
            # Guesses of keys count, too; only of a key that counts it is known how often it has been used.
            self._rates.take("address", request.client.host if request.client else "")
            self._check_event_key(request.path_params["key"])
            self._rates.take("key", request.path_params["key"])
        elif needs == "listen":
            self.heard(request)
        elif self._is_keyed and needs != "nothing":
            given = _given(request)
            who = self._known(given) if given else await self._logged_in(request)
            if who is None or (needs == "app" and who is not _APPLICATION):
                raise KeyRefused(_told(given, needs))
            if needs != "app" and not who.may(needs):
                raise RoleRefused(who, needs)
            return who
        return ANYBODY

    def _known(self, given: str) -> Principal | None:
        if is_one_of(given, self._signing):
            return _APPLICATION
        owner = next((one for one in self._tokens if is_any(given, [one.secret])), None)
        return None if owner is None else Principal(owner.name, owner.role)

    async def _logged_in(self, request: HTTPConnection) -> Principal | None:
        """Return the user whose session a browser shows, with the role they have by now."""
        session = None if self.sessions is None else self.sessions.of(request)
        if session is None:
            return None
        wire = wire_of(request)
        found = await wire.within(PATIENCE_S, user(wire, session.name))
        if found is None or not is_any(session.sessions, [found.sessions]):
            return None
        return Principal(session.name, found.role, session.id)

    def ticket(self, topics: Sequence[Topic], who: Principal) -> str:
        """Return what lets hear these topics, for a minute, and no more of them than who asks may see themselves.

        BadRequest for too many.
        """
        return ticket(topics, self._sealing, now_ms(), is_whole=who.may("admin"))

    def heard(self, request: HTTPConnection) -> Heard:
        """Return what a caller may hear by its ticket, `?token=`; TicketRefused."""
        given = request.query_params.get("token", "")
        if given or self._is_keyed:
            return opened(given, self._sealing, now_ms())
        raise BadRequest("token is missing: it names what to listen to, and POST /v1/realtime/token gives one")

    def _check_event_key(self, given: str) -> None:
        if self._event_keys and not is_any(given, self._event_keys):
            raise KeyRefused("Event key not found")
        if self._is_keyed and not self._event_keys:
            raise KeyRefused("Event key not found: this server has none, set BUS_EVENT_KEYS")


def keys_of(request: HTTPConnection) -> Keys:
    """Return the keys of the site that serves a request."""
    return request.app.state.keys


def challenge(request: HTTPConnection) -> dict[str, str]:
    """Return the headers of an answer to a request without its key: a browser asks its user for a password then."""
    asks = wants_page(request) and keys_of(request).sessions is None
    return {"WWW-Authenticate": 'Basic realm="Stepstream", charset="UTF-8"' if asks else "Bearer"}


def _given(request: HTTPConnection) -> str:
    """Return what a request shows: a bearer's token, or the password that a browser sends; empty for neither."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(text.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no text
            return ""
    return ""


def _told(given: str, needs: Permission) -> str:
    wanted = "the signing key" if needs == "app" else "an API token (BUS_API_TOKENS) or the signing key"
    how = "is not one of this server's" if given else "is missing"
    return f"Authentication failed: {wanted}, as Authorization: Bearer …, {how}"
