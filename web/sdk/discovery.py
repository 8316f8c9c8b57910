"""Discovery: finds an application on this machine, for `bus dev` that was told of none.

It asks at the ports that web frameworks use, at the paths that SDKs serve, until one has registered. What answers
without naming an SDK is left alone.
"""

import asyncio

import httpx2

from stepstream.consumers.remote.protocol import SDK_HEADER

PORTS = (3000, 3001, 3002, 3003, 3004, 3005, 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888)
_PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
_CONNECT_S, _ANSWER_S = 0.5, 2.0


async def discover() -> list[str]:
    """Return the URLs of applications on this machine whose SDK answers."""
    open_ones = await asyncio.gather(*map(_is_open, PORTS))
    listening = [port for port, is_open in zip(PORTS, open_ones, strict=True) if is_open]
    if not listening:
        return []
    async with httpx2.AsyncClient(trust_env=False) as client:
        found = await asyncio.gather(*(_at(client, port) for port in listening))
    return [url for url in found if url]


async def _is_open(port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _at(client: httpx2.AsyncClient, port: int) -> str:
    """Return where at a port an SDK answers; empty when none does."""
    for path in _PATHS:
        url = f"http://127.0.0.1:{port}{path}"
        try:
            # Its headers are enough.
            async with asyncio.timeout(_ANSWER_S), client.stream("GET", url) as answer:
                if SDK_HEADER in answer.headers:
                    return url
        except (TimeoutError, httpx2.HTTPError):
            return ""
    return ""
