"""Fetch: a durable HTTP request. A try that finds no server, or one that says later, is an attempt like any other."""

import asyncio
import http.client
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

from stepstream.bus.errors import NonRetriable, RetryAfter
from stepstream.bus.step import Fetched
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson

_LATER = frozenset({429, 503})
MAX_BODY = 3 * 1024 * 1024


class FetchFailed(Exception):
    """The request came to nothing; it is tried again as the step's retries say."""


class Fetcher:
    """HTTP for the steps of one worker: one client, `made` at the first request, with connections to use again.

    Cookies are not kept: what a server sets for one run would reach another.
    """

    __slots__ = ("_client", "_made")

    def __init__(self, made: Callable[[], httpx2.AsyncClient] | None = None) -> None:
        self._made = made or _made
        self._client: httpx2.AsyncClient | None = None

    async def fetch(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        json: Any,
        data: bytes | str | None,
        timeout_s: float,
    ) -> Fetched:
        """Send one request; raises for what another try may mend: no answer, 5xx, and 429 with its Retry-After.

        The whole answer is there within `timeout_s`; one that is larger than a step keeps is not read to its end.
        """
        what = f"{method} {url}"
        sent, sent_headers = data, httpx2.Headers(dict(headers or {}))
        if json is not None:
            sent = _encoded(what, json)
            sent_headers.setdefault("content-type", "application/json")
        answer = await self.ask(method, url, sent_headers, sent, timeout_s)
        if answer.status in _LATER and (after := answer.headers.get("retry-after", "")).isdecimal():
            raise RetryAfter(float(after), f"{what}: {answer.status}")
        if answer.status >= 500 or answer.status == 429:
            raise FetchFailed(f"{what}: {answer.status} {http.client.responses.get(answer.status, '')}".rstrip())
        return answer

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | str | None, timeout_s: float
    ) -> Fetched:
        """Send one request and return the answer, whatever its status; FetchFailed when none came whole in time."""
        if self._client is None:
            self._client = self._made()
        what = f"{method} {url}"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream(method, url, headers=headers, content=data, timeout=timeout_s) as answer,
            ):
                text = (await _body(what, answer)).decode(answer.encoding or "utf-8", errors="replace")
        except TimeoutError:
            raise FetchFailed(f"{what}: no whole answer within {timeout_s:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchFailed(f"{what}: {error or type(error).__name__}") from error
        return Fetched(answer.status_code, dict(answer.headers), text)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


def _encoded(what: str, json: Any) -> bytes:
    try:
        return codec.encode(json)
    except NotJson as error:
        raise NonRetriable(f"{what}: its json is not JSON: {error}") from None


async def _body(what: str, answer: httpx2.Response) -> bytearray:
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise FetchFailed(f"{what}: the answer is {length} bytes; a step keeps at most {MAX_BODY}")
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_BODY:
            raise FetchFailed(f"{what}: the answer is longer than the {MAX_BODY} bytes that a step keeps")
    return body


def _made() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
    )
