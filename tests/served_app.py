"""An application that is called over HTTP, served in the test's own process, with a worker that calls it."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator
from typing import NamedTuple

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepstream import Bus, mount, serve
from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import signed
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.apps import app_of
from stepstream.consumers.remote.functions import bus_of
from tests.support import Lab, free_port

PATH = "/api/inngest"


class Heard(NamedTuple):
    """A call that has come."""

    url: str
    headers: dict[str, str]
    body: bytes


class Served:
    """Where an application is served. `calls` counts those that have come: `next` asks what is next, `one` is for a
    step."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls = Counter[str]()
        self.heard: list[Heard] = []

    def counted(self, app: ASGIApp) -> ASGIApp:
        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                asked = Request(scope).query_params.get("stepId")
                self.calls["next" if asked == "step" else "one"] += 1
                request = Request(scope, receive)
                body = await request.body()
                self.heard.append(Heard(str(request.url), dict(request.headers), body))
                is_told = False

                async def told() -> Message:
                    nonlocal is_told
                    if is_told:
                        return await receive()
                    is_told = True
                    return {"type": "http.request", "body": body, "more_body": False}

                return await app(scope, told, send)
            await app(scope, receive, send)
            return None

        return counting


@contextlib.asynccontextmanager
async def served(lab: Lab, app: Bus, settings: Settings | None = None) -> AsyncGenerator[Served]:
    """Serve an application's functions, with settings of its own, register it, and run a worker that has not loaded
    them."""
    web = Starlette()
    mount(
        web, PATH, serve(app, functions=list(app.functions.values()), called=True, configured=settings or lab.settings)
    )
    port = free_port()
    it = Served(f"http://127.0.0.1:{port}{PATH}")
    config = uvicorn.Config(it.counted(web), port=port, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        async with httpx2.AsyncClient(verify=False) as http:
            body, headers = json.dumps({"url": it.url}).encode(), dict[str, str]()
            if lab.settings.signing_key:
                body, headers = signed(body, lab.settings.signing_key, now_ms())
            told = (await http.put(it.url, content=body, headers=headers)).json()
        assert told["ok"], told
        found = await app_of(lab.wire, app.id)
        assert found is not None
        lab.app = bus_of(found)
        await lab.work()
        yield it
    finally:
        server.should_exit = True
        await serving
