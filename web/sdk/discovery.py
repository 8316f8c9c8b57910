"""Discovery: finds an application on this machine, for `bus dev` that was told of none.

It asks at the ports that web frameworks use, at the paths that SDKs serve, until one has registered. What answers
without naming an SDK is left alone.
"""

import asyncio

import httpx2

PORTS = (3000, 3001, 3002, 3003, 3004, 3005, 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888)
_PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
_CONNECT_S, _ANSWER_S = 0.5, 2.0


async def discover() -> list[str]:
    """Return the URLs of applications on this machine whose SDK answers."""
    found = await asyncio.gather(*map(_at, PORTS))
    return [url for url in found if url]


async def _at(port: int) -> str:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    except (OSError, TimeoutError):
        return ""
    for path in _PATHS:
        url = f"http://127.0.0.1:{port}{path}"
        if await _is_sdk(url):
            return url
    return ""


async def _is_sdk(url: str) -> bool:
    try:
        async with (
            asyncio.timeout(_ANSWER_S),
            httpx2.AsyncClient(trust_env=False) as client,
            client.stream("GET", url) as answer,  # its headers are enough
        ):
            return "x-inngest-sdk" in answer.headers
    except (TimeoutError, httpx2.HTTPError):
        return False
