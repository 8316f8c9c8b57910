"""Stream: server-sent events as an answer, for a client that may go, one that takes nothing, one that may no more."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from stepstream.bus.process.tasks import cancelled

TAKEN_WITHIN_S = 30.0
"""How long a client may take nothing of what waits for it before its connection is closed."""
ASKED_AGAIN_S = 5.0
"""How often it is asked whether a client may still have what it gets: how long that goes on when it may not."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Nobody in between keeps what is sent, or holds it back."""


class Stream(StreamingResponse):
    """A response that ends its listening however it ends: also when its body has never begun, or is not taken.

    It goes on for days: `may_still`, where that is set, says whether who asked still is who they were.
    """

    def __init__(
        self, entered: AsyncExitStack, body: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body, headers={**HEADERS, **(headers or {})}, media_type="text/event-stream")
        self._entered = entered
        self.may_still: Callable[[], Awaitable[bool]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(TAKEN_WITHIN_S):  # it raises an OSError, as a client does that has gone
                await send(message)

        async with self._entered:
            if self.may_still is None:
                await super().__call__(scope, receive, send_soon)
                return
            allowed = asyncio.timeout(None)
            try:
                async with allowed:
                    asking = asyncio.create_task(_ask(self.may_still, allowed))
                    try:
                        await super().__call__(scope, receive, send_soon)
                    finally:
                        await cancelled(asking)
            except TimeoutError:
                if not allowed.expired():
                    raise
                # As the end of a body: clients connect again, and are told why that is refused.
                await send_soon({"type": "http.response.body", "body": b"", "more_body": False})


async def _ask(may_still: Callable[[], Awaitable[bool]], allowed: asyncio.Timeout) -> None:
    """Let time be up when a client may have no more. Nobody tells a site of that: another one may have decided it."""
    while await may_still():  # noqa: ASYNC110 - what it waits for is in Redis, and no event
        await asyncio.sleep(ASKED_AGAIN_S)
    allowed.reschedule(asyncio.get_running_loop().time())


def event(data: bytes, id: str = "", kind: str = "") -> bytes:
    """Return a server-sent event; its data is JSON, which has no line ends."""
    head = (f"id: {id}\n" if id else "") + (f"event: {kind}\n" if kind else "")
    return head.encode() + b"data: " + data + b"\n\n"
