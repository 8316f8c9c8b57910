"""Client: one call of an app over HTTP, which may stay open for two hours."""

import random
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import httpx2

from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.consumers.remote.calls.post import Post, Unreachable
from stepstream.consumers.remote.calls.reach import signed_in_turn
from stepstream.consumers.remote.protocol import Answer, BadAnswer, without_secrets

CALL_S = 2 * 3_600.0
_MOST_REDIRECTS = 3
_SHORTEST_DOWN_MS, _LONGEST_DOWN_MS = 1_000, 60_000
_UNAUTHORIZED = 401
_WAY_IN = {
    True: "it must have our BUS_SIGNING_KEY as its INNGEST_SIGNING_KEY, and a clock within five minutes of ours",
    False: "it wants calls to be signed: set INNGEST_DEV there, or BUS_SIGNING_KEY here",
}
"""What to do about an app that answers 401, by whether calls are signed."""
_METHOD_KEPT = frozenset({307, 308})
_UNAVAILABLE = 503


class Unauthorized(Unreachable):
    """The app does not accept who calls: it has run nothing, and with another key it would."""


class Down:
    """For how long an app has not been reached."""

    def __init__(self) -> None:
        self._since: float | None = None
        """When the first call since the app was last reached was made, monotonic s; None while it is reached."""

    def note(self) -> None:
        """Note that a call did not reach the app."""
        if self._since is None:
            self._since = time.monotonic()

    def over(self) -> None:
        """Note that a call has reached the app."""
        self._since = None

    def wait_ms(self) -> int:
        """Return how long to wait before the app is called again that was not reached, ms.

        Half as long as it has been down, with jitter: one that restarts is called a second later, by however many runs.
        """
        down_ms = (time.monotonic() - self._since) * 1_000 if self._since is not None else 0.0
        least = max(_SHORTEST_DOWN_MS, min(down_ms / 2, _LONGEST_DOWN_MS))
        return round(least * random.uniform(1, 1.5))


class Client:
    """Calls one app. Connections are kept and used again; cookies are not kept. Knows for how long it has been down."""

    def __init__(self, configured: Settings, clock_ms: Callable[[], int] = now_ms) -> None:
        self._configured = configured
        self._clock_ms = clock_ms
        self._post = Post(configured, CALL_S)
        self.down = Down()

    async def call(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a body, signed where there are keys, and return the answer.

        Unreachable, Unauthorized, CallBroken or BadAnswer when there is none.
        """
        answer = await signed_in_turn(
            self._configured,
            body,
            lambda form, signature: self._called(url, form, {**headers, **signature} if signature else headers),
            lambda answer: answer.status == _UNAUTHORIZED,
            self._clock_ms,
        )
        if answer.status == _UNAUTHORIZED:
            self.down.note()
            way_in = _WAY_IN[bool(self._configured.signing_keys)]
            raise Unauthorized(f"{without_secrets(url)} answered 401, so it runs nothing: {way_in}")
        if answer.status == _UNAVAILABLE and not answer.is_sdk:
            self.down.note()
            told = "503, and not from an SDK: a proxy says that the app is not there"
            raise Unreachable(f"{without_secrets(url)}: {told}")
        self.down.over()
        return answer

    async def _called(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        began = time.monotonic()
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                answer = await self._post.post(url, body, headers, CALL_S - (time.monotonic() - began))
            except Unreachable:
                self.down.note()
                raise
            if answer.status not in _METHOD_KEPT or not (target := answer.headers.get("location")):
                return answer
            try:
                url = _redirected(url, target)
            except (httpx2.InvalidURL, ValueError) as error:
                raise BadAnswer(f"{without_secrets(url)} redirects to no address: {error}") from None
        raise BadAnswer(f"{without_secrets(url)}: more than {_MOST_REDIRECTS} redirects")

    def down_ms(self) -> int:
        """Return how long to wait before the app is called again that was not reached, ms."""
        return self.down.wait_ms()

    async def close(self) -> None:
        """Close the connections."""
        await self._post.close()


def _redirected(url: str, target: str) -> str:
    """Return where a redirect leads; BadAnswer when that is another host: what is called there would not be the app."""
    there = str(httpx2.URL(url).join(target))
    if urlsplit(there).netloc != urlsplit(url).netloc:
        told = f"redirects to another host, {without_secrets(there)}: register the app at that address"
        raise BadAnswer(f"{without_secrets(url)} {told}")
    return there
