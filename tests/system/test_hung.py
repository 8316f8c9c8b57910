"""A Redis that takes connections and answers nothing, as one that is stopped: who looks at something is told soon."""

import asyncio

import pytest

from stepstream import create_app
from stepstream.bus.settings import Settings
from tests.system.test_keys import asked_of, asking

WAIT = {"api_run", "api_changes"}
"""A run's end can be waited for; a stream has begun."""


async def test_every_page_and_every_list_says_soon_that_redis_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("routing", "pages.page"):
        monkeypatch.setattr(f"stepstream.web.{module}.PATIENCE_S", 0.3)
    held: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        while await reader.read(65_536):
            pass

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        site = create_app(configured=Settings(redis_url=f"redis://127.0.0.1:{port}/0", timeout_ms=60_000))
        async with asking(site) as asked:
            looks = [
                (str(route.name), path.partition("?")[0])
                for route, method, path in asked_of(site)
                if method == "GET" and route.needs == "read"
            ]

            async def answer(name: str, path: str) -> tuple[str, int, bytes]:
                try:
                    async with asyncio.timeout(5):
                        status, _, told = await asked("GET", path)
                except TimeoutError:
                    return name, 0, b"hangs"
                return name, status, told

            told = {
                name: (status, text)
                for name, status, text in await asyncio.gather(*(answer(*one) for one in looks if one[0] not in WAIT))
            }
        for writer in held:
            writer.close()
    needs_none = {name for name, (status, _) in told.items() if status == 200}
    assert needs_none == {"openapi"}, "what is read without Redis"
    assert len(told) > 30
    for name, (status, text) in told.items():
        assert name in needs_none or status in {303, 400, 404, 503}, (name, status, text)
        if status == 503:
            assert f"no Redis at redis://127.0.0.1:{port}/0".encode() in text, (name, text)
