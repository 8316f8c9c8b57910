"""Lanes: connections to apps, each with one request at a time, the one used last used first.

A pool of a hundred connections looks at each of them for every request: that took half of a worker's time. Here a
request takes the lane on top, or a new one, and gives it back when its answer has been read.
"""

import asyncio
import contextvars
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

from stepstream.consumers.delivery.background import outside

_Origin = tuple[str, str, int | None]
_MOST_IDLE = 100
_IDLE_S = 10.0
"""How long a lane that nobody uses stays open."""
KEPT_S = 4.0
"""How long a connection is kept that nobody uses: most servers close theirs after 5 s."""
ONE = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEPT_S)
"""What a lane keeps open."""
ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
        if hasattr(socket, name)  # as not everywhere
    ),
)
"""A machine that vanishes says nothing, and a call may be silent for two hours: it is asked for signs of life, and is
gone after a minute and a half without one."""


def lane() -> httpx2.AsyncHTTPTransport:
    """Return a connection to whatever it is asked for first."""
    return httpx2.AsyncHTTPTransport(
        verify=certificates(), trust_env=False, http2=True, limits=ONE, socket_options=ALIVE
    )


@cache
def certificates() -> ssl.SSLContext:
    """Read once what certificates are trusted: that takes longer than a call."""
    return httpx2.create_ssl_context(trust_env=False)


def plain_client(**more: Any) -> httpx2.AsyncClient:
    """Return a client that does what it is asked and nothing by itself; `more` is what httpx2 takes besides.

    It keeps no cookies, follows no redirect, and does not look at the environment for a proxy.
    """
    return httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        **more,
    )


class Lanes(httpx2.AsyncBaseTransport):
    """A transport of many lanes; `make` makes one, for one request at a time."""

    def __init__(self, make: Callable[[], httpx2.AsyncBaseTransport]) -> None:
        self._make = make
        self._idle: dict[_Origin, deque[tuple[float, httpx2.AsyncBaseTransport]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._trimming: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request by the lane of its origin that was used last; the lane is free when the answer is closed."""
        url = request.url
        origin = (url.scheme, url.host, url.port)
        idle = self._idle.get(origin)
        lane = idle.pop()[1] if idle else self._make()
        try:
            answer = await lane.handle_async_request(request)
        except BaseException:
            self._close(lane)
            raise
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        answer.stream = _Lent(answer.stream, lambda: self._give_back(origin, lane), lambda: self._close(lane))
        return answer

    async def aclose(self) -> None:
        """Close all that are idle."""
        if self._trimming is not None:
            self._trimming.cancel()
        for idle in self._idle.values():
            while idle:
                self._close(idle.pop()[1])
        if self._closing:
            await asyncio.wait(self._closing)

    def _give_back(self, origin: _Origin, lane: httpx2.AsyncBaseTransport) -> None:
        idle = self._idle.setdefault(origin, deque())
        idle.append((time.monotonic(), lane))
        if len(idle) > _MOST_IDLE:
            self._close(idle.popleft()[1])
        if self._trimming is None:
            self._trim_later()

    def _trim(self) -> None:
        """Close what has been idle for long; look again while any is."""
        self._trimming = None
        before = time.monotonic() - _IDLE_S
        for idle in self._idle.values():
            while idle and idle[0][0] <= before:
                self._close(idle.popleft()[1])
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}
        if self._idle:
            self._trim_later()

    def _trim_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._trimming = loop.call_later(_IDLE_S, self._trim, context=contextvars.Context())  # it is no run's

    def _close(self, lane: httpx2.AsyncBaseTransport) -> None:
        closing = outside(asyncio.get_running_loop(), lane.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Lent(httpx2.AsyncByteStream):
    """The body of an answer; once it is closed its lane is free, or closed too when it was not read to its end."""

    def __init__(self, inner: httpx2.AsyncByteStream, free: Callable[[], None], drop: Callable[[], None]) -> None:
        self._inner = inner
        self._free = free
        self._drop = drop
        self._is_whole = False
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part
        self._is_whole = True

    async def aclose(self) -> None:
        """Close the body."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._inner.aclose()
        finally:
            (self._free if self._is_whole else self._drop)()
