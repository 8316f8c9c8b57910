"""Keys: what opens which route. Keys mode is decided by the settings, and every route asks here.

Without a signing key and API tokens the site answers whoever reaches it, as `bus dev` on one's own machine does; an
event key alone bounds who publishes. With either, each route wants what its `needs` says.
"""

import base64
from typing import Literal

from starlette.requests import Request

from stepstream.bus.errors import BusError
from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import is_any, is_one_of
from stepstream.web.paths import wants_page

Permission = Literal["nothing", "publish", "app", "read", "operate", "admin"]
"""What a caller may do: send events; register an application and save for its runs; see runs and their data; act on
runs; change the installation.

`nothing` is for what tells of no run: a load balancer asks for health without a token.
"""


class KeyRefused(BusError):
    """A request without the key that its route needs, or with another one; it shows neither."""

    code = "unauthorized"
    status = 401


class Keys:
    """The keys of a site."""

    def __init__(self, configured: Settings) -> None:
        self._event_keys = configured.event_keys
        self._tokens = configured.api_tokens
        self._signing = configured.signing_keys
        self._is_keyed = configured.is_keyed

    @property
    def kind(self) -> Literal["dev", "cloud"]:
        """What SDKs are told of this server: `dev` signs nothing and asks for no key, `cloud` does."""
        return "cloud" if self._is_keyed else "dev"

    def check(self, request: Request, needs: Permission) -> None:
        """Raise KeyRefused for a request that has not what its route needs."""
        if needs == "publish":
            self._check_event_key(request.path_params["key"])
        elif self._is_keyed and needs != "nothing":
            given = _given(request)
            is_signing = is_one_of(given, self._signing)
            if not is_signing and (needs == "app" or not is_any(given, self._tokens)):
                raise KeyRefused(_told(given, needs))

    def _check_event_key(self, given: str) -> None:
        if self._event_keys and not is_any(given, self._event_keys):
            raise KeyRefused("Event key not found")
        if self._is_keyed and not self._event_keys:
            raise KeyRefused("Event key not found: this server has none, set BUS_EVENT_KEYS")


def keys_of(request: Request) -> Keys:
    """Return the keys of the site that serves a request."""
    return request.app.state.keys


def challenge(request: Request) -> dict[str, str]:
    """Return the headers of an answer to a request without its key: a browser asks its user for a password then."""
    kind = 'Basic realm="Stepstream", charset="UTF-8"' if wants_page(request) else "Bearer"
    return {"WWW-Authenticate": kind}


def _given(request: Request) -> str:
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
