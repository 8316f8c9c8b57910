"""The least that calls an application: it answers at once whatever the application asks, and keeps nothing.

What an application does in a second when it is called like this is all that its SDK can do on this machine.
"""

import asyncio
import json
import time
import uuid
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from bench.installation import Broken, cpu_s, started
from stepstream.bus.process.ports import free_port
from stepstream.consumers.remote.calls.lanes import KEPT_S


class Caller:
    """One process of an application, and a server for it that knows only to say yes."""

    def __init__(self, app: str, environ: dict[str, str]) -> None:
        self._app, self._environ = app, environ
        site = web.Application()
        site.router.add_route("*", "/{path:.*}", _yes)
        self._runner = web.AppRunner(site, keepalive_timeout=60)
        self._port = free_port()

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self._process = started(self._app, self._port, {**self._environ, "INNGEST_DEV": f"http://127.0.0.1:{port}"})
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()
        self._process.terminate()
        await asyncio.to_thread(self._process.wait)
        await self._runner.cleanup()

    async def rate(self, name: str, count: int, warm: int, at_once: int) -> tuple[float, float]:
        """Return how many runs end in a second, so many at once, and the CPU of the application for each, s."""
        await self._reached(name)
        await asyncio.gather(*(self._run(name) for _ in range(warm)))
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await self._run(name)

        began, cpu = time.perf_counter(), cpu_s(self._process.pid)
        await asyncio.gather(*(some() for _ in range(at_once)))
        return count / (time.perf_counter() - began), (cpu_s(self._process.pid) - cpu) / count

    async def _reached(self, name: str) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                return await self._run(name)
            except aiohttp.ClientConnectorError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise Broken(f"the application {self._app} does not listen") from None
                await asyncio.sleep(0.05)

    async def _run(self, name: str) -> None:
        """Call until a run has ended, with what it has done so far."""
        event = {"data": {}, "id": str(uuid.uuid4()), "name": f"bench-{self._app}/{name}", "ts": 1_795_308_985_442}
        run, done = uuid.uuid4().hex, dict[str, Any]()
        path = f"/api/inngest?fnId=bench-{self._app}-{name}&stepId=step"
        while True:
            ctx = {
                "attempt": 0, "disable_immediate_execution": False, "env": "", "fn_id": str(uuid.uuid4()),
                "generation_id": 1, "job_id": run, "max_attempts": 5, "qi_id": run, "request_id": run, "run_id": run,
                "stack": {"current": len(done), "stack": list(done)}, "step_id": "step", "use_api": False,
            }  # fmt: skip
            body = {
                "ctx": ctx, "defers": {}, "event": event, "events": [event], "steps": done, "use_api": False,
                "version": -1,
            }  # fmt: skip
            headers = {"x-inngest-req-version": "-1", "x-run-id": run}
            async with self._http.post(f"http://127.0.0.1:{self._port}{path}", json=body, headers=headers) as answer:
                told = json.loads(await answer.read() or b"null")
            if answer.status not in {200, 206}:
                raise Broken(f"{self._app} answered {answer.status}: {told}")
            if answer.status == 200 or any(op["op"] == "RunComplete" for op in told):
                return
            done |= {op["id"]: {"data": op.get("data")} for op in told}


async def _yes(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({})
