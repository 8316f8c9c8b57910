"""Opening: few connections to one app are opened at a time: one that is busy must not look like one that is gone.

A server listens with a queue of connections that it has yet to accept: 511 in node, 128 in many others. When that is
full the system of the app drops whoever knocks, who knocks again after 1, 3 and 7 s. A worker with a thousand runs in
hand would fill it at once while the app is at work. That a connection was accepted is not told; an answer shows it, and
without one it is taken to be so after a while, for a call may take hours.
"""

import asyncio
import contextvars
import re
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from stepstream.consumers.remote.calls.lanes import ALIVE, KEPT_S

OPENED_AT_ONCE = 64
ACCEPTED_AFTER_S = 0.1
"""How long a new connection without an answer counts as being opened. With it an app may be at work for 0.8 s, and
accept nobody, until a queue of 511 is full; and a thousand calls that take long are all open after 1.6 s."""


class Connector(aiohttp.TCPConnector):
    """Opens connections to one app, and keeps them. Waiting for one's turn counts for no timeout of a connection."""

    def __init__(self, resolver: AbstractResolver | None, connect_s: float) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - a type of aiohttp's has an open tuple
            limit=0, keepalive_timeout=KEPT_S, resolver=resolver, socket_factory=_watched
        )
        self._factory = self._connection
        self._connect_s = connect_s
        self._opening = asyncio.Semaphore(OPENED_AT_ONCE)
        self._fresh: dict[ResponseHandler, asyncio.TimerHandle] = {}
        """Connections that the app may not have accepted yet."""

    @staticmethod
    def _connection() -> "_Connection":
        return _Connection(asyncio.get_running_loop())

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> ResponseHandler:
        await self._opening.acquire()
        try:
            async with asyncio.timeout(self._connect_s):
                made = await super()._create_connection(req, traces, timeout)
        except BaseException:
            self._opening.release()
            raise
        loop, of_no_run = asyncio.get_running_loop(), contextvars.Context()
        self._fresh[made] = loop.call_later(ACCEPTED_AFTER_S, self._accepted, made, context=of_no_run)
        return made

    def _release_acquired(self, key: Any, proto: ResponseHandler) -> None:
        """The connection has an answer, or is gone."""
        self._accepted(proto)
        super()._release_acquired(key, proto)

    def _accepted(self, made: ResponseHandler) -> None:
        if (timer := self._fresh.pop(made, None)) is not None:
            timer.cancel()
            self._opening.release()


_OLD = b"HTTP/1.0 "
_FRAMING = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*", re.IGNORECASE)


class _Connection(ResponseHandler):
    """A connection to an app; what comes by it is read as Go's client, by which SDKs are called otherwise, reads it."""

    def data_received(self, data: bytes) -> None:
        """Take what has come. HTTP/1.0 has no transfer-encoding: a proxy that speaks it hands on that of another."""
        if data.startswith(_OLD) and (self._payload is None or self._payload.is_eof()):
            head, end, body = data.partition(b"\r\n\r\n")
            data = _FRAMING.sub(b"", head) + end + body
        super().data_received(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Tell whoever reads a body, too: of one that cannot be read on aiohttp tells the connection only."""
        body = self._payload
        super().set_exception(exc, *filter(None, [exc_cause]))
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError(getattr(exc, "message", None) or str(exc)))


def _watched(address: Any) -> socket.socket:
    """Return a socket that notices when the other machine has vanished."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    for option in ALIVE:
        made.setsockopt(*option)
    return made
