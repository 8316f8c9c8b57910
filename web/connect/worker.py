"""Worker: one connection of a worker: what it can do, and what it has in hand."""

import asyncio
import time
from collections.abc import Callable

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from stepstream.checkpoint.connections.calls import Asked
from stepstream.checkpoint.connections.workers import Worker
from stepstream.web.connect.messages import Kind, Request, frame
from stepstream.web.connect.protobuf import Message


class Offered(msgspec.Struct, frozen=True):
    """An application of a worker: its name as the SDK has it, and its functions, also as the SDK calls them."""

    name: str
    slugs: frozenset[str]


class Connected:
    """A worker that is connected here. `apps` are its applications, by the names that the bus has for them."""

    def __init__(self, socket: WebSocket, worker: Worker, apps: dict[str, Offered], lease_s: float) -> None:
        self.worker = worker
        self.apps = apps
        self.takes = False
        """Whether it is given calls."""
        self._socket = socket
        self._lease_s = lease_s
        self._hand: dict[str, float] = {}
        """Calls that it was sent and has not answered, each with when its lease ends (monotonic)."""
        self._unheard: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """Those of them that it has not acknowledged: the application, and what is done if it never does."""
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    @property
    def id(self) -> str:
        """The connection."""
        return self.worker.connection

    @property
    def in_hand(self) -> int:
        """How many calls it has in hand."""
        return len(self._hand)

    @property
    def room(self) -> int:
        """How many calls it can take."""
        return max(0, self.worker.capacity - len(self._hand)) if self.takes else 0

    async def give(self, app: str, asked: Asked, unheard_s: float, put_back: Callable[[str, str], None]) -> None:
        """Send it a call. Unless it acknowledges it within `unheard_s`, `put_back` gets the application and the id."""

        def refused() -> None:
            self._unheard.pop(asked.id, None)
            self.forget(asked.id)
            put_back(app, asked.id)

        self.keep(asked.id)
        timer = asyncio.get_running_loop().call_later(unheard_s, refused)
        self._unheard[asked.id] = (app, timer)
        request = Request(
            request_id=asked.id,
            account_id="stepstream",
            env_id="stepstream",
            app_id=app,
            app_name=self.apps[app].name,
            function_id=asked.slug,
            function_slug=asked.slug,
            step_id=asked.step,
            request_payload=asked.body,
            run_id=asked.run,
            lease_id=asked.id,
        )
        await self.send(Kind.REQUEST, request)

    def heard(self, call: str) -> None:
        """Note that it has acknowledged a call, which is not put back any more."""
        found = self._unheard.pop(call, None)
        if found is not None:
            found[1].cancel()

    def keep(self, call: str) -> None:
        """Note that it has a call in hand, for a lease from now on."""
        self._hand[call] = time.monotonic() + self._lease_s
        self.is_idle.clear()

    def forget(self, call: str) -> None:
        """Note that it does not have a call in hand any more."""
        self.heard(call)
        self._hand.pop(call, None)
        if not self._hand:
            self.is_idle.set()

    def prune(self) -> None:
        """Forget calls whose lease it has let run out."""
        now = time.monotonic()
        for call in [call for call, until in self._hand.items() if until < now]:
            self.forget(call)

    def unheard(self) -> list[tuple[str, str]]:
        """Return the calls that it has not acknowledged, with their applications, and forget them."""
        found = [(app, call) for call, (app, _) in self._unheard.items()]
        for _, call in found:
            self.forget(call)
        return found

    async def send(self, kind: Kind, payload: Message | None = None) -> None:
        """Send it a message; one that cannot be sent is lost with the connection."""
        try:
            await self._socket.send_bytes(frame(kind, payload))
        except (WebSocketDisconnect, RuntimeError):  # it is closed, which who reads from it finds
            self.takes = False

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        self.takes = False
        try:
            await self._socket.close(code, reason[:120])
        except (WebSocketDisconnect, RuntimeError):
            return
