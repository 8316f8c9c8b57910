"""Gateway: the WebSockets that workers hold to this process: each is greeted, given calls, and heard.

What is decided of a call is decided in Redis, by whichever connection its worker speaks: it may have the call from a
gateway that stops, and answer through another one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine
from typing import Any

import structlog
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.values.ids import token
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.connections.calls import answer, app_of_call, hold, leases_of, put_back
from stepstream.checkpoint.connections.workers import join, leave
from stepstream.web.connect.greeting import Refused, greeted
from stepstream.web.connect.line import Line
from stepstream.web.connect.messages import (
    PROTOCOL,
    ConnectionReady,
    ExtendLease,
    ExtendLeaseAck,
    Frame,
    Kind,
    ReplyAck,
    RequestAck,
    Response,
    SyncFailed,
    frame,
)
from stepstream.web.connect.replies import reply_of
from stepstream.web.connect.worker import Connected
from stepstream.web.store import Store

_log = structlog.get_logger("connect")

_GOING_AWAY, _REFUSED = 1001, 1008
CLOSING = "connect_gateway_closing"
"""Why a connection is closed whose worker is to connect again at once: SDKs know the word."""
_PATIENCE_S = 2.0


class Gateway:
    """The connections of one process."""

    def __init__(self, store: Store) -> None:
        self.id = token()
        self.is_draining = False
        self._store = store
        self._workers: set[Connected] = set()
        self._lines: dict[str, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()

    @property
    def _wire(self) -> Wire:
        return self._store.wire

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection to its end."""
        if PROTOCOL not in socket.scope.get("subprotocols", ()):
            await socket.close(_REFUSED, f"the subprotocol is {PROTOCOL}")
            return
        await socket.accept(PROTOCOL)
        with contextlib.suppress(WebSocketDisconnect):
            if self.is_draining:
                await socket.close(_GOING_AWAY, CLOSING)
                return
            try:
                worker, waits = await greeted(socket, self._wire, self.id)
            except Refused as refused:
                _log.warning("a worker is not connected", code=refused.code, error=str(refused))
                failed = SyncFailed(code=refused.code, message=str(refused))
                await socket.send_bytes(frame(Kind.SYNC_FAILED, failed))
                await socket.close(_REFUSED, f"{refused.code}: {refused}"[:120])
                return
            await self._serve(socket, worker, waits=waits)

    async def _serve(self, socket: WebSocket, worker: Connected, *, waits: bool) -> None:
        leases = leases_of(self._wire.settings)
        self._workers.add(worker)
        try:
            ready = ConnectionReady(
                heartbeat_interval=f"{leases.beat_ms // 1_000}s", extend_lease_interval=f"{leases.extend_ms // 1_000}s"
            )
            await worker.send(Kind.CONNECTION_READY, ready)  # before any call: SDKs expect nothing else now
            if not waits:
                await self._open(worker)
            while True:
                try:
                    async with asyncio.timeout(leases.worker_ms / 1_000):
                        said = await socket.receive_bytes()
                except TimeoutError:
                    _log.warning("a connected worker is silent, and is disconnected", instance=worker.worker.instance)
                    return
                except KeyError:  # text, which no SDK sends
                    await worker.close(_REFUSED, "messages are binary")
                    return
                try:
                    await self._hear(worker, Frame.decoded(said))
                except BadRequest as error:
                    await worker.close(_REFUSED, str(error))
                    return
        finally:
            self._begin(self._leave(worker))

    # -- what workers say ---------------------------------------------------------------------------------------------

    async def _hear(self, worker: Connected, said: Frame) -> None:
        match said.kind:
            case Kind.WORKER_HEARTBEAT:
                worker.prune()
                await worker.send(Kind.GATEWAY_HEARTBEAT)
                self._begin(self._note(worker))
                self._begin(self._take(worker))  # it may have room again, for calls whose lease ran out
            case Kind.WORKER_READY:
                self._begin(self._open(worker))
            case Kind.WORKER_PAUSE:
                worker.takes = False
                self._begin(self._note(worker))
            case Kind.REQUEST_ACK:
                call = RequestAck.decoded(said.payload).request_id
                worker.heard(call)
                worker.keep(call)
                self._begin(self._hold(worker, call))
            case Kind.EXTEND_LEASE:
                self._begin(self._extend(worker, ExtendLease.decoded(said.payload).request_id))
            case Kind.REPLY:
                self._begin(self._answer(worker, Response.decoded(said.payload)))
            case _:  # what newer SDKs tell
                return

    async def _hold(self, worker: Connected, call: str) -> bool:
        return await hold(self._wire, app_of_call(call), call, worker.id, leases_of(self._wire.settings).call_ms)

    async def _extend(self, worker: Connected, call: str) -> None:
        if await self._hold(worker, call):
            worker.keep(call)
            told = ExtendLeaseAck(request_id=call, new_lease_id=call)
        else:
            worker.forget(call)
            told = ExtendLeaseAck(request_id=call)
        await worker.send(Kind.EXTEND_LEASE_ACK, told)
        await self._take(worker)

    async def _answer(self, worker: Connected, said: Response) -> None:
        worker.heard(said.request_id)
        await answer(self._wire, app_of_call(said.request_id), said.request_id, reply_of(said), _PATIENCE_S)
        worker.forget(said.request_id)
        await worker.send(Kind.REPLY_ACK, ReplyAck(request_id=said.request_id))
        await self._take(worker)

    # -- who is here --------------------------------------------------------------------------------------------------

    async def _open(self, worker: Connected) -> None:
        """Let a worker have calls."""
        if self.is_draining:
            return
        worker.takes = True
        await self._note(worker)
        for app in worker.apps:
            if app not in self._lines:
                leases = leases_of(self._wire.settings)
                self._lines[app] = Line(self._wire, app, self.id, leases, self._put_back)
            self._lines[app].workers.add(worker)
        await self._take(worker)

    async def _note(self, worker: Connected) -> None:
        lease_ms = leases_of(self._wire.settings).worker_ms
        for app in worker.apps:
            await join(self._wire, app, worker.worker, lease_ms, takes=worker.takes)

    async def _take(self, worker: Connected) -> None:
        for app in worker.apps:
            if (line := self._lines.get(app)) is not None:
                await line.take()

    async def _leave(self, worker: Connected) -> None:
        worker.takes = False
        self._workers.discard(worker)
        self._left.set()
        for app, call in worker.unheard():
            self._put_back(app, call)
        for app in worker.apps:
            line = self._lines.get(app)
            if line is not None:
                line.workers.discard(worker)
                if not line.workers:
                    del self._lines[app]
                    await line.close()
            await leave(self._wire, app, worker.id)

    def _put_back(self, app: str, call: str) -> None:
        self._begin(put_back(self._wire, app, call, leases_of(self._wire.settings).waiting_ms))

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Do what needs Redis beside the connection, which is heard meanwhile."""
        task = asyncio.create_task(_told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more calls, send workers elsewhere once they have none in hand, and close what is left in the end.

        A call that goes on then is answered through another gateway, or this one's successor, within its lease.
        """
        self.is_draining = True
        workers = tuple(self._workers)
        for worker in workers:
            worker.takes = False
            self._begin(self._note(worker))
        letting_go = [asyncio.create_task(self._let_go(worker)) for worker in workers]
        if letting_go:
            await asyncio.wait(letting_go, timeout=self._wire.settings.drain_ms / 1_000)
        for worker in tuple(self._workers):
            await worker.send(Kind.CLOSING)
            await worker.close(_GOING_AWAY, CLOSING)
        for task in letting_go:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE_S)

    async def _let_go(self, worker: Connected) -> None:
        await worker.is_idle.wait()
        await worker.send(Kind.CLOSING)


async def _told(work: Awaitable[object]) -> None:
    try:
        await work
    except BusError as error:  # Redis does not serve, which its connection has told: the worker says it again
        _log.debug("what a connected worker said is not kept", error=str(error))
    except Exception as error:  # noqa: BLE001 - the top of a task of its own
        _log.error("a message of a connected worker failed", exc_info=error)


def gateway_of(request: HTTPConnection) -> Gateway:
    """Return the gateway of the site that serves a request."""
    return request.app.state.gateway
