"""Connected: one call of an application whose workers hold WebSockets, by way of Redis (checkpoint/connections).

The call is put where gateways take it, and this process blocks on a stream of its own for what is answered. While it
waits it looks at the call, once in each lease: a worker that has it in hand renews its lease on it, and one that does
not is lost.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from stepstream.bus.process.tasks import cancelled
from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import news
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.connections.calls import Asked, Reply, ask, call_id, end, give_up, leases_of, look
from stepstream.consumers.remote.calls.client import CALL_S, Down
from stepstream.consumers.remote.calls.post import CallBroken, Unreachable
from stepstream.consumers.remote.functions import app_of_url
from stepstream.consumers.remote.protocol import (
    NO_RETRY_HEADER,
    RUN_HEADER,
    SDK_HEADER,
    STEP_HEADER,
    VERSION_HEADER,
    Answer,
)

_AT_ONCE_MS = 1_000
"""How soon a call whose worker is lost is tried again, ms: another worker gets it, so there is no reason to wait."""
_LEAST_LOOK_S = 0.1


class WorkerLost(CallBroken):
    """The worker that had a call in hand has let its lease run out: what it has done is not known."""

    again_ms = _AT_ONCE_MS


class ConnectedClient:
    """Calls applications whose workers are connected. Knows for how long none of them has been."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._leases = leases_of(wire.settings)
        self._process = token()
        """Who waits for the answers: a stream of its own tells of them."""
        self._waiting: dict[str, asyncio.Event] = {}
        self._reading: asyncio.Task[None] | None = None
        self.down = Down()

    async def call(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Ask a worker of the application that an URL names; Unreachable when none is connected, or CallBroken."""
        app, query = app_of_url(url), parse_qs(urlsplit(url).query)
        asked = Asked(
            id=call_id(app),
            slug=query["fnId"][0],
            step=headers[STEP_HEADER],
            run=headers[RUN_HEADER],
            body=body,
        )
        answered = self._waiting[asked.id] = asyncio.Event()
        if self._reading is None:
            # In an empty context: the task serves all runs, and must not keep what this one has in its own.
            self._reading = asyncio.get_running_loop().create_task(self._read(), context=contextvars.Context())
        reply: Reply | None = None
        try:
            await self._ask(app, asked)
            async with asyncio.timeout(CALL_S):
                await self._until_answered(app, asked.id, answered)
                reply = await end(self._wire, app, asked.id)
        except TimeoutError:
            raise CallBroken(f"{app}: no answer within {CALL_S:.0f} s") from None
        finally:
            del self._waiting[asked.id]
            if reply is None:
                give_up(self._wire, app, asked.id)
        if reply is None:
            raise WorkerLost(f"{app}: the call is not in Redis any more; was it wiped?")
        return _as_http(reply)

    async def _ask(self, app: str, asked: Asked) -> None:
        word = await ask(self._wire, app, asked, self._process, self._leases.waiting_ms)
        if word != "asked":
            self.down.note()
            told = "no worker of it is connected" if word == "nobody" else "too many of its calls wait for a worker"
            raise Unreachable(f"app {app}: {told}")
        self.down.over()

    async def _until_answered(self, app: str, call: str, answered: asyncio.Event) -> None:
        pause = self._leases.look_ms
        while True:
            try:
                async with asyncio.timeout(max(_LEAST_LOOK_S, pause / 1_000)):
                    await answered.wait()
                return
            except TimeoutError:
                word, left = await look(self._wire, app, call, self._leases.waiting_ms)
            if word == "answered":
                return
            if word == "nobody":
                self.down.note()
                raise Unreachable(f"app {app}: its workers have all left, and none had begun the call")
            if word == "lost":
                lease = self._leases.call_ms / 1_000
                raise WorkerLost(f"app {app}: the worker that had the call in hand has not said so for {lease:g} s")
            if word == "gone":
                raise WorkerLost(f"app {app}: the call is not in Redis any more; was it wiped?")
            pause = left + _AT_ONCE_MS // 10 if word == "begun" else self._leases.look_ms

    def down_ms(self) -> int:
        """Return how long to wait before an application is called again of which no worker was connected, ms."""
        return self.down.wait_ms()

    async def close(self) -> None:
        """Stop waiting for answers."""
        if self._reading is not None:
            await cancelled(self._reading)
            self._reading = None

    async def _read(self) -> None:
        """Wake those whose calls are answered. What is missed while Redis is away they find when they look."""
        stream, unread = keys.connect_answers(self._process), "answers of connected workers cannot be read"
        async with contextlib.aclosing(news(self._wire, stream, "0-0", unread=unread)) as answers:
            async for rows in answers:
                for _, fields in rows:
                    waits = self._waiting.get(codec.text(fields.get(b"call", b"")))
                    if waits is not None:
                        waits.set()


def _as_http(reply: Reply) -> Answer:
    """Return what a worker has answered as an application would over HTTP."""
    headers = {SDK_HEADER: reply.sdk, NO_RETRY_HEADER: "true" if reply.is_final else "false"}
    if reply.version:
        headers[VERSION_HEADER] = reply.version
    if reply.after:
        headers["retry-after"] = reply.after
    return Answer(reply.status, headers, reply.body)
