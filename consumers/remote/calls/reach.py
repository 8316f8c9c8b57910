"""Reach: the HTTP client that calls apps; in keys mode it signs, and connects only where it may (bus/trust).

A name is resolved here, every address that it has is looked at, and one of those is connected to: there is no moment
at which it could come to mean another. TLS checks the name all the same, and a redirect is a connection like any other.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import anyio
import httpcore2
import httpx2

from stepstream.bus.settings import Settings
from stepstream.bus.trust.app_hosts import AppHosts
from stepstream.bus.trust.signing import signed
from stepstream.bus.values.clock import now_ms
from stepstream.consumers.remote.calls.lanes import ALIVE, ONE, Lanes, certificates, lane, plain_client

CONNECT_S = 10.0
"""How long a connection may take to come about."""
_NEXT_S = 1.0
"""How long an address is tried while there is another one."""
_LOOKED_UP_S = 3.0
_SIGNED_AT_ONCE = 262_144
"""Bodies that are larger are signed beside the loop, bytes."""
A = TypeVar("A")
"""An answer."""


def client(configured: Settings, timeout_s: float, *, anywhere: bool = False) -> httpx2.AsyncClient:
    """Return a client for apps; `anywhere` where it is for requests of theirs, which BUS_APP_HOSTS does not list.

    It keeps connections.
    """
    hosts = AppHosts(None if anywhere else configured.app_hosts)
    return plain_client(
        transport=Lanes(partial(_BoundedLane, hosts) if configured.is_keyed else lane),
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S),
    )


async def signed_in_turn(
    configured: Settings,
    body: bytes,
    send: Callable[[bytes, dict[str, str]], Awaitable[A]],
    is_refused: Callable[[A], bool],
    clock_ms: Callable[[], int] = now_ms,
) -> A:
    """Send a body, signed with the first of our keys, and while that is refused with the next; without keys as it is.

    `send` takes the body and the header that signs it. Returns the last answer.
    """
    if not configured.signing_keys:
        return await send(body, {})
    first, *older = configured.signing_keys
    answer = await send(*await _signed(body, first, clock_ms))
    for key in older:
        if is_refused(answer):
            answer = await send(*await _signed(body, key, clock_ms))
    return answer


async def _signed(body: bytes, key: str, clock_ms: Callable[[], int]) -> tuple[bytes, dict[str, str]]:
    if len(body) < _SIGNED_AT_ONCE:
        return signed(body, key, clock_ms())
    return await asyncio.to_thread(signed, body, key, clock_ms())


async def refusal(configured: Settings, url: str) -> str:
    """Return why an app may not be called at a URL, as far as that can be told now; empty when it may."""
    if not configured.is_keyed:
        return ""
    hosts, parts = AppHosts(configured.app_hosts), urlsplit(url)
    host = parts.hostname or ""
    told = hosts.refusal_of_name(host)
    if told:
        return told
    try:
        async with asyncio.timeout(_LOOKED_UP_S):
            addresses = await addresses_of(host, parts.port or 80)
    except (OSError, UnicodeError, TimeoutError):
        return ""  # here the name means nothing; it is looked up again where it is called
    return refused(hosts, host, addresses)


class _BoundedLane(httpx2.AsyncHTTPTransport):
    """A lane whose connection is made by `_Backend`."""

    def __init__(self, hosts: AppHosts) -> None:
        super().__init__(verify=certificates(), trust_env=False, http2=True, limits=ONE, socket_options=ALIVE)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=certificates(),
            max_connections=ONE.max_connections,
            max_keepalive_connections=ONE.max_keepalive_connections,
            keepalive_expiry=ONE.keepalive_expiry,
            http2=True,
            network_backend=_Backend(hosts),
            socket_options=ALIVE,
        )


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that may be called."""

    def __init__(self, hosts: AppHosts) -> None:
        self._hosts = hosts
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a host that answers; ConnectError when one of them may not be called."""
        try:
            with anyio.fail_after(timeout):
                addresses = await addresses_of(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"the name {host} is not resolved within {timeout} s") from None
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} means nothing here: {error}") from None
        told = refused(self._hosts, host, addresses)
        if told:
            raise httpcore2.ConnectError(told)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, _NEXT_S, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Sleep: the pool does so before it tries again."""
        await anyio.sleep(seconds)


def refused(hosts: AppHosts, host: str, addresses: list[str]) -> str:
    """Return why a host with these addresses may not be called; empty when it may."""
    return next((told for address in addresses if (told := hosts.refusal(host, address))), "")


async def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which the system would try them."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
