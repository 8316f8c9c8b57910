"""Stream: server-sent events as an answer, for a client that may go, and one that takes nothing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

TAKEN_WITHIN_S = 30.0
"""How long a client may take nothing of what waits for it before its connection is closed."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Nobody in between keeps what is sent, or holds it back."""


class Stream(StreamingResponse):
    """A response that ends its listening however it ends: also when its body has never begun, or is not taken."""

    def __init__(
        self, entered: AsyncExitStack, body: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body, headers={**HEADERS, **(headers or {})}, media_type="text/event-stream")
        self._entered = entered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(TAKEN_WITHIN_S):  # it raises an OSError, as a client does that has gone
                await send(message)

        async with self._entered:
            await super().__call__(scope, receive, send_soon)


def event(data: bytes, id: str = "", kind: str = "") -> bytes:
    """Return a server-sent event; its data is JSON, which has no line ends."""
    head = (f"id: {id}\n" if id else "") + (f"event: {kind}\n" if kind else "")
    return head.encode() + b"data: " + data + b"\n\n"
