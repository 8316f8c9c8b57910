"""Post: one request to an app, and its whole answer, over connections that are kept.

Over plain HTTP it goes by aiohttp, whose parser is in C: a worker that calls apps is mostly an HTTP client, and this
one takes a sixth of httpx2's CPU. Over TLS, where the two ends may agree on HTTP/2, it goes by httpx2.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from stepstream.bus.settings import Settings
from stepstream.bus.trust.app_hosts import AppHosts
from stepstream.consumers.delivery.background import outside
from stepstream.consumers.remote.calls.opening import Connector
from stepstream.consumers.remote.calls.reach import CONNECT_S, addresses_of, client, refused
from stepstream.consumers.remote.protocol import MAX_ANSWER_BYTES, Answer, BadAnswer, without_secrets

_LONGEST_HEADER = 65_536
_MOST_CLOSED = 5
"""How many kept connections in a row may turn out to be closed."""
_SENT_AT_ONCE = 1_048_576
"""Bodies that are larger are sent in parts, bytes."""


class Unreachable(Exception):
    """Nobody listens there, or no connection could be made: the app has seen nothing of the call."""


class CallBroken(Exception):
    """The call began and its answer did not come whole: what the app has done is not known."""

    again_ms: int | None = None
    """How soon to try again, ms; None: as usual."""


class Post:
    """Posts to apps. Cookies are not kept, no redirect is followed, and no proxy is looked for."""

    def __init__(self, configured: Settings, timeout_s: float) -> None:
        self._configured = configured
        self._timeout_s = timeout_s
        self._hosts = AppHosts(configured.app_hosts) if configured.is_keyed else None
        self._plain: aiohttp.ClientSession | None = None
        self._secure: httpx2.AsyncClient | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """Post a body and return the answer. Unreachable, CallBroken or BadAnswer when there is none."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                if url.startswith("https:"):
                    return await self._post_secure(url, body, headers)
                # What aiohttp does beside (a name that others wait for, too) is no run's, and ends with none.
                return await outside(asyncio.get_running_loop(), self._post_plain(url, body, headers))
        except TimeoutError:
            raise CallBroken(f"{without_secrets(url)}: no whole answer within {self._timeout_s:.0f} s") from None

    async def close(self) -> None:
        """Close the connections."""
        plain, secure, self._plain, self._secure = self._plain, self._secure, None, None
        if plain is not None:
            await plain.close()
        if secure is not None:
            await secure.aclose()

    async def _post_plain(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._plain is None:
            self._plain = _session(self._hosts)
        try:
            where = URL(url, encoded=True)
            if self._hosts is not None and (told := self._hosts.refusal_of_address(where.raw_host or "")):
                raise Unreachable(f"{without_secrets(url)}: {told}")
            return await self._sent_plain(where, body, headers)
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{without_secrets(url)}: {error.os_error or error}") from None
        except aiohttp.ConnectionTimeoutError:
            raise Unreachable(f"{without_secrets(url)}: no connection within {CONNECT_S:.0f} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError) as error:
            raise BadAnswer(f"{without_secrets(url)} is no address to call: {error}") from None
        except aiohttp.ClientError as error:
            told = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
            raise _broken(url, " ".join(told.split()) or type(error).__name__) from None

    async def _sent_plain(self, where: URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        assert self._plain is not None
        for again in reversed(range(_MOST_CLOSED)):
            sent = body if len(body) <= _SENT_AT_ONCE else io.BytesIO(body)
            try:
                async with self._plain.post(where, data=sent, headers=headers, allow_redirects=False) as answer:
                    named = {name.lower(): value for name, value in answer.headers.items()}
                    return Answer(answer.status, named, await _whole(str(where), answer.content.iter_any()))
            except aiohttp.ClientOSError as error:
                # Without a number it is aiohttp's own: a kept connection turned out to be closed before the body was
                # written, so the app has no call that it could have acted on.
                if error.errno is not None or isinstance(error, aiohttp.ClientConnectorError) or not again:
                    raise
        raise AssertionError

    async def _post_secure(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._secure is None:
            self._secure = client(self._configured, self._timeout_s)
        try:
            async with self._secure.stream("POST", url, content=body, headers=headers) as answer:
                return Answer(answer.status_code, dict(answer.headers), await _whole(url, answer.aiter_bytes()))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise Unreachable(f"{without_secrets(url)}: {error or type(error).__name__}") from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise BadAnswer(f"{without_secrets(url)} is no address to call: {error}") from None
        except (httpx2.HTTPError, ssl.SSLError) as error:
            raise _broken(url, str(error) or type(error).__name__) from None


def _broken(url: str, told: str) -> CallBroken:
    return CallBroken(f"{without_secrets(url)}: the answer did not come whole: {told}")


async def _whole(url: str, parts: AsyncIterator[bytes]) -> bytes:
    """Return the body; a streamed one may begin with white space, which is not kept, and counts like the rest."""
    body, taken = bytearray(), 0
    async for part in parts:
        taken += len(part)
        body += part if body else part.lstrip()
        if taken > MAX_ANSWER_BYTES:
            raise BadAnswer(
                f"output_too_large: {without_secrets(url)} answered more than {MAX_ANSWER_BYTES} bytes: "
                "store what is large, and return where it is"
            )
    return bytes(body)


def _session(hosts: AppHosts | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=Connector(None if hosts is None else _Bounded(hosts), CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    )


class _Bounded(AbstractResolver):
    """Looks up names, and refuses those that have an address that may not be called."""

    def __init__(self, hosts: AppHosts) -> None:
        self._hosts = hosts

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the signature is aiohttp's
    ) -> list[ResolveResult]:
        """Return the addresses of a host; OSError, which aiohttp takes as no connection, when one is not allowed."""
        found = await addresses_of(host, port)
        if told := refused(self._hosts, host, found):
            raise OSError(told)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing was opened."""
