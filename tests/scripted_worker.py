"""A connected worker of a test: it answers calls as its script says, and tells what it was sent."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx2
import websockets

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.web.connect.gateway import Gateway
from stepstream.web.connect.messages import (
    PROTOCOL,
    AppConfiguration,
    AuthData,
    ConnectionReady,
    ExtendLease,
    ExtendLeaseAck,
    Frame,
    Kind,
    ReplyAck,
    Request,
    RequestAck,
    Response,
    StartResponse,
    Status,
    SyncFailed,
    WorkerConnect,
    frame,
)
from stepstream.web.connect.protobuf import Message
from stepstream.web.serving.server import server

Script = Callable[["Call"], Awaitable[None]]


class Site:
    """A site that listens, in the test's own loop."""

    def __init__(self, configured: Settings) -> None:
        self._bound = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._bound.getsockname()[1]}"
        self.app = create_app(configured=configured)
        self.server = server(self.app, configured)
        self._serving: asyncio.Task[None] | None = None

    @property
    def gateway(self) -> Gateway:
        return self.app.state.gateway

    async def start(self) -> None:
        self._serving = asyncio.create_task(self.server.serve(sockets=[self._bound]))
        while not self.server.started:
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._serving is not None:
            self.server.should_exit = True
            await self._serving
            self._serving = None


@contextlib.asynccontextmanager
async def site(configured: Settings) -> AsyncGenerator[Site]:
    one = Site(configured)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


class Call:
    """A call that a worker was sent."""

    def __init__(self, worker: "ScriptedWorker", request: Request) -> None:
        self.worker = worker
        self.request = request
        self.body: dict[str, Any] = json.loads(request.request_payload)
        self.steps: dict[str, Any] = self.body["steps"]

    async def ack(self) -> None:
        await self.worker.say(Kind.REQUEST_ACK, RequestAck(request_id=self.request.request_id))

    async def extend(self) -> None:
        await self.worker.say(Kind.EXTEND_LEASE, ExtendLease(request_id=self.request.request_id))

    def response(self, value: Any, status: Status = Status.DONE, **more: Any) -> Response:
        given = {"sdk_version": "inngest-js:v4.24.0", "request_version": 2, **more}
        body = json.dumps(value).encode()
        return Response(request_id=self.request.request_id, status=status, body=body, **given)

    async def returns(self, value: Any) -> None:
        await self.ack()
        await self.worker.say(Kind.REPLY, self.response(value))

    async def ops(self, *several: dict[str, Any]) -> None:
        await self.ack()
        await self.worker.say(Kind.REPLY, self.response(several, Status.NOT_COMPLETED))


class ScriptedWorker:
    """A worker of one application, `shop`, with the function `f` on `order/paid`."""

    def __init__(self, url: str, script: Script | None = None, **more: Any) -> None:
        self.url = url
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.told: asyncio.Queue[tuple[Kind, bytes]] = asyncio.Queue()
        """What else it was sent."""
        self.headers: dict[str, str] = more.pop("headers", {})
        self.slugs: tuple[str, ...] = more.pop("slugs", ("shop-f",))
        self.options: dict[str, Any] = more.pop("options", {})
        self.name: str = more.pop("name", "shop")
        self.hello: dict[str, Any] = more
        self._script = script
        self.socket: Any = None
        self.start: StartResponse = StartResponse()
        self._hearing: asyncio.Task[None] | None = None

    async def begin(self) -> httpx2.Response:
        async with httpx2.AsyncClient(verify=False) as http:
            answer = await http.post(f"{self.url}/v0/connect/start", content=b"", headers=self.headers)
        if answer.status_code == 200:
            self.start = StartResponse.decoded(answer.content)
        return answer

    async def open(self) -> None:
        """Open the connection, and be greeted."""
        self.socket = await websockets.connect(self.start.gateway_endpoint, subprotocols=[PROTOCOL])  # type: ignore[list-item]
        hello = Frame.decoded(await self.socket.recv())
        assert hello.kind == Kind.HELLO
        said = {
            "connection_id": self.start.connection_id, "instance_id": "one", "sdk_language": "typescript",
            "sdk_version": "v4.24.0", "framework": "connect",
            "auth_data": AuthData(session_token=self.start.session_token, sync_token=self.start.sync_token),
            "apps": (AppConfiguration(app_name=self.name, app_version="7", functions=json.dumps(self._functions()).encode()),),
            **self.hello,
        }  # fmt: skip
        await self.say(Kind.WORKER_CONNECT, WorkerConnect(**said))

    def _functions(self) -> list[Any]:
        runtime = {"type": "ws", "url": "wss://connect/?fnId={}&stepId=step"}
        return [
            {
                "id": slug, "name": slug, "triggers": [{"event": "order/paid"}],
                "steps": {"step": {"id": "step", "name": "step", "retries": {"attempts": 3},
                                   "runtime": {**runtime, "url": runtime["url"].format(slug)}}},
                **self.options,
            }
            for slug in self.slugs
        ]  # fmt: skip

    async def connect(self) -> None:
        """Do all of it, and hear from then on."""
        answer = await self.begin()
        assert answer.status_code == 200, answer.text
        await self.open()
        said = Frame.decoded(await self.socket.recv())
        assert said.kind == Kind.CONNECTION_READY, SyncFailed.decoded(said.payload)
        self.ready = ConnectionReady.decoded(said.payload)
        if self.hello.get("worker_manual_readiness_ack"):
            await self.say(Kind.WORKER_READY)
        self._hearing = asyncio.create_task(self._hear())

    async def say(self, kind: Kind, payload: Message | None = None) -> None:
        await self.socket.send(frame(kind, payload))

    async def next(self, kind: Kind) -> bytes:
        """Wait until it is told this; what else it is told is left out."""
        while True:
            told, payload = await asyncio.wait_for(self.told.get(), 10)
            if told == kind:
                return payload

    async def call(self) -> Call:
        """Wait for a call that no script answers."""
        return await asyncio.wait_for(self.calls.get(), 15)

    async def acked(self) -> str:
        return ReplyAck.decoded(await self.next(Kind.REPLY_ACK)).request_id

    async def lease(self) -> str:
        return ExtendLeaseAck.decoded(await self.next(Kind.EXTEND_LEASE_ACK)).new_lease_id

    async def _hear(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for raw in self.socket:
                said = Frame.decoded(raw)
                if said.kind != Kind.REQUEST:
                    self.told.put_nowait((Kind(said.kind), said.payload))
                    continue
                call = Call(self, Request.decoded(said.payload))
                if self._script is None:
                    self.calls.put_nowait(call)
                else:
                    await self._script(call)

    async def close(self) -> None:
        if self.socket is not None:
            await self.socket.close()
        if self._hearing is not None:
            await self._hearing

    async def die(self) -> None:
        """Be gone at once, as a process that is killed."""
        self.socket.transport.abort()
        if self._hearing is not None:
            await self._hearing


@contextlib.asynccontextmanager
async def connected(url: str, script: Script | None = None, **more: Any) -> AsyncGenerator[ScriptedWorker]:
    worker = ScriptedWorker(url, script, **more)
    await worker.connect()
    try:
        yield worker
    finally:
        await worker.close()
