"""A Redis that takes connections and answers nothing, as one that is stopped: who looks at something is told soon."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.web.trust.sessions import COOKIE, Sessions
from stepstream.web.trust.users import User
from tests.system.test_keys import asked_of, asking

STREAMS = {"api_changes"}
"""It has begun, and goes on."""


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """The URL of a server that answers nothing, of which pages and lists wait 0.3 s."""
    for module in ("routing", "pages.page", "trust.keys"):
        monkeypatch.setattr(f"stepstream.web.{module}.PATIENCE_S", 0.3)
    monkeypatch.setattr("stepstream.web.api.engine.metrics.PATIENCE_S", 0.1)
    held: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        while await reader.read(65_536):
            pass

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        for writer in held:
            writer.close()


async def test_every_page_and_every_list_says_soon_that_redis_does_not_answer(silent: str) -> None:
    site = create_app(configured=Settings(redis_url=silent, timeout_ms=60_000))
    async with asking(site) as asked:
        looks = [
            (str(route.name), path.partition("?")[0])
            for route, method, path in asked_of(site)
            if method == "GET" and route.needs in ("read", "admin") and route.name not in STREAMS
        ]

        async def answer(name: str, path: str) -> tuple[str, int, bytes]:
            try:
                async with asyncio.timeout(5):
                    status, _, told = await asked("GET", path)
            except TimeoutError:
                return name, 0, b"hangs"
            return name, status, told

        told = {name: (status, text) for name, status, text in await asyncio.gather(*(answer(*one) for one in looks))}
    needs_none = {name for name, (status, _) in told.items() if status == 200}
    assert needs_none == {"openapi", "metrics"}, "what is answered without Redis"
    assert b"stepstream_redis_up 0.0" in told["metrics"][1]
    assert len(told) > 30
    for name, (status, text) in told.items():
        assert name in needs_none or status in {303, 400, 404, 503}, (name, status, text)
        if status == 503:
            assert f"no Redis at {silent}".encode() in text, (name, text)


async def test_who_has_logged_in_is_told_soon_too(silent: str) -> None:
    configured = Settings(redis_url=silent, timeout_ms=60_000, session_key="k" * 32)
    site, given = create_app(configured=configured), Response()
    user = User(role="read", password="", since=1, sessions="s")
    async with asking(site) as asked:
        request = Request({"type": "http", "scheme": "http", "headers": [], "path": "/", "server": ("localhost", 80)})
        Sessions("k" * 32).begin(request, given, "ada", user)
        async with asyncio.timeout(5):
            status, _, told = await asked("GET", "/v1/runs", {"cookie": given.headers["set-cookie"].partition(";")[0]})
    assert COOKIE in given.headers["set-cookie"]
    assert status == 503
    # Whose session it is is in Redis: until that answers they are a stranger, who is not told where Redis is.
    assert b"Redis does not serve this site now" in told
    assert silent.encode() not in told
