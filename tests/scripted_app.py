"""An application behind HTTP of a test: it answers calls as it is told, and remembers them."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.functions import RemoteBus, bus_of
from tests.support import free_port

SDK = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-req-version": "2"}


def sha(step: str) -> str:
    return hashlib.sha1(step.encode()).hexdigest()


def op(kind: str, step: str, **more: Any) -> dict[str, Any]:
    return {
        "op": kind,
        "id": sha(step),
        "name": step,
        "displayName": step,
        "userland": {"id": step},
        "opts": {},
        **more,
    }


class Told:
    """One call: what the application was asked."""

    def __init__(self, request: Request, raw: bytes) -> None:
        body: dict[str, Any] = json.loads(raw)
        self.raw = raw
        self.step = request.query_params["stepId"]
        self.function = request.query_params["fnId"]
        self.headers = request.headers
        self.connection = request.client
        self.body = body
        self.ctx = body["ctx"]
        self.steps = body["steps"]

    def has(self, step: str) -> bool:
        return sha(step) in self.steps

    def value(self, step: str) -> Any:
        return self.steps[sha(step)]


def ops(*several: dict[str, Any], **headers: str) -> Response:
    given = {**SDK, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(json.dumps(several), 206, given, "application/json")


def returned(value: Any) -> Response:
    return Response(json.dumps(value), 200, SDK, "application/json")


Script = Callable[[Told], Response | Awaitable[Response]]


class ScriptedApp:
    """Serves one script; `bus(…)` has the functions that it would have registered."""

    def __init__(self, script: Script) -> None:
        self.calls: list[Told] = []
        self.port = free_port()
        self._script = script
        self.server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/api/inngest"

    def bus(self, *triggers: str, id: str = "f", retries: int = 4, **options: Any) -> RemoteBus:
        config = {
            "id": f"shop-{id}",
            "triggers": [{"event": one} for one in triggers],
            "steps": {"step": {
                "id": "step", "retries": {"attempts": retries},
                "runtime": {"type": "http", "url": f"{self.url}?fnId=shop-{id}&stepId=step"},
            }},
            **options,
        }  # fmt: skip
        return bus_of(App(name="shop", url=self.url, sdk="js:v4.24.0", functions={f"shop-{id}": config}))

    async def _called(self, request: Request) -> Response:
        told = Told(request, await request.body())
        self.calls.append(told)
        answer = self._script(told)
        return answer if isinstance(answer, Response) else await answer

    async def start(self) -> None:
        site = Starlette(routes=[Route("/api/inngest", self._called, methods=["POST"])])
        config = uvicorn.Config(site, port=self.port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._serving = asyncio.create_task(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self.server is not None and self._serving is not None:
            self.server.should_exit = True
            await self._serving
            self.server = None


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncGenerator[ScriptedApp]:
    app = ScriptedApp(script)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()
