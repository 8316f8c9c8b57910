"""Fetch: a durable HTTP request. A try that finds no server, or one that says later, is an attempt like any other."""

from collections.abc import Mapping
from typing import Any

import httpx2

from bus.errors import RetryAfter
from bus.step import Fetched

_LATER = frozenset({429, 503})
MAX_BODY = 3 * 1024 * 1024


class FetchFailed(Exception):
    """The request came to nothing; it is tried again as the step's retries say."""


async def fetch(
    method: str, url: str, headers: Mapping[str, str] | None, json: Any, data: bytes | str | None, timeout_s: float
) -> Fetched:
    """Send one request; raises for what another try may mend: no answer, 5xx, and 429 with its Retry-After."""
    async with httpx2.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False) as client:
        try:
            answer = await client.request(method, url, headers=dict(headers or {}), json=json, content=data)
        except httpx2.HTTPError as error:
            raise FetchFailed(f"{method} {url}: {error or type(error).__name__}") from error
    if len(answer.content) > MAX_BODY:
        raise FetchFailed(f"{method} {url}: the answer is {len(answer.content)} bytes; a step keeps at most {MAX_BODY}")
    if answer.status_code in _LATER and (after := answer.headers.get("retry-after", "")).isdecimal():
        raise RetryAfter(float(after), f"{method} {url}: {answer.status_code}")
    if answer.status_code >= 500 or answer.status_code == 429:
        raise FetchFailed(f"{method} {url}: {answer.status_code} {answer.reason_phrase}")
    return Fetched(answer.status_code, dict(answer.headers), answer.text)
