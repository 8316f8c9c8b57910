"""Progress: how far a run says it is, sent without waiting."""

import asyncio
import contextvars
from collections.abc import Callable

EVERY_S = 0.1


class Progress:
    """The progress of one turn; `send` sends it without waiting, ten times a second at most: of several, the last."""

    __slots__ = ("_latest", "_loop", "_pausing", "_send")

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._send = send
        self._pausing = False
        self._latest: bytes | None = None

    def tell(self, progress: bytes) -> None:
        """Send it now, or, if one was sent within a tenth of a second, the latest when that is over."""
        if self._pausing:
            self._latest = progress
            return
        self._pausing = True
        self._loop.call_later(EVERY_S, self._go_on, context=contextvars.Context())
        self._send(progress)

    def _go_on(self) -> None:
        self._pausing = False
        latest, self._latest = self._latest, None
        if latest is not None:
            self.tell(latest)
