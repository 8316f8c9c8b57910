"""Signed: requests of the bus to an application, whose signatures are looked at where there is a key."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import HEADER, SignatureInvalid, verify
from stepstream.bus.values.clock import now_ms
from stepstream.producers.body import read_body
from stepstream.web.trust.keys import keys_of

MAX_CALL_BYTES = 8 * 1024 * 1024

Endpoint = Callable[[Request, bytes], Awaitable[Response]]


class Signed:
    """Lets a request through that is signed with a key of the settings, or any when they have no key of any kind.

    A person who has a key for changing the installation may act too, as everywhere; but call no function.
    """

    def __init__(self, configured: Settings) -> None:
        self._keys = configured.signing_keys
        self._is_keyed = configured.is_keyed

    def __call__(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Return a route's endpoint; SignatureInvalid, or KeyRefused, for what is not let through."""

        async def checked(request: Request) -> Response:
            body = await read_body(request, MAX_CALL_BYTES)
            given = request.headers.get(HEADER)
            if self._keys and (given or request.method == "POST"):
                verify(body, given, self._keys, now_ms())
            elif request.method != "POST":
                await keys_of(request).check(request, "admin")
            elif self._is_keyed:
                raise SignatureInvalid(
                    "calls are not answered without BUS_SIGNING_KEY, where there are other keys: set it"
                )
            return await endpoint(request, body)

        return checked
