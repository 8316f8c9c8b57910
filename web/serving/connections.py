"""Connections: how many clients may have open at once, and how long a request may take to arrive.

uvicorn has no bound on either: whoever opens connections and sends nothing, or a byte a second, takes all files that
this process may open, and then nobody gets in.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import h11
import msgspec
import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from stepstream.bus.process import open_files
from stepstream.bus.values import codec
from stepstream.producers.body import has_bounds


class Bounds(msgspec.Struct, frozen=True):
    """What the connections of one server may be."""

    most: int
    """So many may be open at once: streams of changes and WebSockets count."""
    header_s: float = 10.0
    """How long a request's header may take, from its first byte, or from when the connection was opened."""
    body_s: float = 60.0
    """How long a request may take to arrive whole."""
    taken_s: float = 60.0
    """How long a client may leave an answer where it is: it takes 64 KiB of it within that, or is cut off."""
    spare: int = 16
    """So many more are heard when all are at work, so that /health answers."""


class Connections:
    """What the connections of one server share: which of them wait, which came when it was full, and what was told."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._opened: set[BoundedProtocol] = set()
        self._waiting: dict[BoundedProtocol, None] = {}  # in the order in which they began to
        self._extra: set[BoundedProtocol] = set()
        self._upgraded: set[asyncio.BaseTransport] = set()
        self._is_full = False

    def protocol(self) -> type[H11Protocol]:
        """Return the protocol that uvicorn is to make for each connection."""
        shared = self

        class Protocol(BoundedProtocol):
            bounded_by = shared

        return Protocol

    def opened(self, one: "BoundedProtocol") -> None:
        """Take a new connection in; when all are taken, the one that is idle longest is closed for it."""
        if self._taken() - len(self._extra) >= self.bounds.most:
            self._tell_full()
            if (longest := self._longest(extra=False)) is not None:
                longest.leave()
            else:
                if len(self._extra) >= self.bounds.spare and (longest := self._longest(extra=True)) is not None:
                    longest.leave()
                self._extra.add(one)
        self._opened.add(one)
        self._waiting[one] = None
        if len(self._extra) > self.bounds.spare:
            one.leave()

    def waits(self, one: "BoundedProtocol") -> None:
        """Note that a connection has no request at work, from now on."""
        if one in self._opened:
            self._waiting.pop(one, None)
            self._waiting[one] = None

    def works(self, one: "BoundedProtocol") -> None:
        """Note that a connection has a request at work: it is not closed for another."""
        self._waiting.pop(one, None)

    def has(self, one: "BoundedProtocol") -> bool:
        """Whether a connection is one of HTTP that is open."""
        return one in self._opened

    def is_extra(self, one: "BoundedProtocol") -> bool:
        """Whether a connection was opened when all were at work."""
        return one in self._extra

    def upgraded(self, one: "BoundedProtocol") -> None:
        """Note that a connection is a WebSocket's now, which counts until it is closed."""
        self.left(one)
        self._upgraded.add(one.transport)

    def left(self, one: "BoundedProtocol") -> None:
        """Let go of a connection that is about to be closed, or is a WebSocket's."""
        self._opened.discard(one)
        self._waiting.pop(one, None)
        self._extra.discard(one)

    def closed(self, one: "BoundedProtocol") -> None:
        """Let go of a connection that is closed; when a tenth of all are free again, say that it is over."""
        self.left(one)
        if self._is_full and self._taken() <= self.bounds.most * 9 // 10:
            self._is_full = False
            structlog.get_logger().info("connections are below their bound again", most=self.bounds.most)

    def _taken(self) -> int:
        self._upgraded = {transport for transport in self._upgraded if not transport.is_closing()}
        return len(self._opened) + len(self._upgraded)

    def _longest(self, *, extra: bool) -> "BoundedProtocol | None":
        return next((one for one in self._waiting if (one in self._extra) is extra and one.has_all), None)

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            structlog.get_logger().warning(
                "all connections are taken: those that are idle longest are closed for new ones, and while none is "
                "idle only /health is answered; BUS_MAX_CONNECTIONS is how many there may be",
                most=self.bounds.most,
            )


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with bounds: it is closed for another while it waits, and a request must arrive in time."""

    bounded_by: Connections

    _must_arrive: asyncio.TimerHandle | None = None
    _must_be_taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and wait for a request."""
        super().connection_made(transport)
        self.bounded_by.opened(self)
        if self.bounded_by.is_extra(self):
            self.app = _only_health(self.app)
        self._expect(self.bounded_by.bounds.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._expect(None)
        self._is_taken()
        self.bounded_by.closed(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has arrived, and see for what it waits now."""
        super().handle_events()
        if not self.bounded_by.has(self):  # closed, or a WebSocket by now
            return
        if self._is_at_work:
            self.bounded_by.works(self)
        if self._is_at_work and not self.cycle.more_body:
            self._expect(None)
        elif self._is_at_work or self.conn.their_state is h11.SEND_BODY:
            self._begin("body", self.bounded_by.bounds.body_s)
        elif self.conn.trailing_data[0]:
            self._begin("header", self.bounded_by.bounds.header_s)

    def on_response_complete(self) -> None:
        """Wait for the next request; a connection that is closed waits until its last answer is taken."""
        self.bounded_by.waits(self)
        super().on_response_complete()
        if self.transport.is_closing() and not self.has_all:
            self._wait_until_taken()

    def timeout_keep_alive_handler(self) -> None:
        """Close what has waited for long; what has not even taken its last answer is cut off, for it would stay."""
        if self.has_all:
            super().timeout_keep_alive_handler()
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Wait until more of an answer is taken, but not for ever."""
        super().pause_writing()
        self._wait_until_taken()

    def resume_writing(self) -> None:
        """Go on: most of it is taken."""
        super().resume_writing()
        self._is_taken()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Go on as a WebSocket, unless all connections are taken."""
        self._expect(None)
        self._is_taken()
        if self.bounded_by.is_extra(self):
            self._refuse(503, "all connections are taken", ((b"retry-after", b"1"),))
        else:
            self.bounded_by.upgraded(self)
            super().handle_websocket_upgrade(event)

    def leave(self) -> None:
        """Close, while no request is at work and no answer on its way."""
        self.bounded_by.left(self)
        self._expect(None)
        self.transport.abort()

    @property
    def has_all(self) -> bool:
        """Whether the client has taken all that it was sent."""
        return self.transport.get_write_buffer_size() == 0

    @property
    def _is_at_work(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # uvicorn: None before the first request

    _arriving = "header"

    def _begin(self, what: str, within_s: float) -> None:
        """Expect a part of a request, if that is not what is expected already."""
        if self._arriving != what or self._must_arrive is None:
            self._arriving = what
            self._expect(within_s)

    def _expect(self, within_s: float | None) -> None:
        if self._must_arrive is not None:
            self._must_arrive.cancel()
            self._must_arrive = None
        if within_s is not None:
            self._must_arrive = self.loop.call_later(within_s, self._give_up, within_s)

    def _give_up(self, within_s: float) -> None:
        """Close, for what was expected has not come; say so to who can still be told."""
        self._must_arrive = None
        if self._is_at_work and self._keeps_it_waiting:
            self._expect(within_s)
            return
        has_said = bool(self.conn.trailing_data[0]) or self.conn.their_state is h11.SEND_BODY
        if self._is_at_work:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if has_said and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(408, f"the request's {self._arriving} did not arrive within {within_s:g} s")
        self.transport.close()

    @property
    def _keeps_it_waiting(self) -> bool:
        """Whether the client waits for the application to read its body, or that has bounds of its own for it."""
        if self.flow.read_paused or self.conn.they_are_waiting_for_100_continue:
            return True
        return has_bounds(self.scope)

    def _wait_until_taken(self) -> None:
        if self._must_be_taken is None:
            self._must_be_taken = self.loop.call_later(self.bounded_by.bounds.taken_s, self.transport.abort)

    def _is_taken(self) -> None:
        if self._must_be_taken is not None:
            self._must_be_taken.cancel()
            self._must_be_taken = None

    def _refuse(self, status: int, message: str, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer in place of the application, and close."""
        body = codec.encode({"error": message, "data": None, "status": status})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *more,
        ]
        for part in (
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol of a WebSocket; who answers no ping and takes nothing is cut off, for it would stay."""

    def keepalive_timeout(self) -> None:
        """Close what has answered no ping."""
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def _only_health(app: Any) -> ASGIApp:
    """Return an application that answers /health alone, and closes: a connection more than there may be has it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        if scope["path"].removeprefix(scope["root_path"]) == "/health":
            await app(scope, receive, closing)
        else:
            content = {"error": "all connections are taken; try again", "data": None, "status": 503}
            await JSONResponse(content, 503, {"Retry-After": "1"})(scope, receive, closing)

    return answer


def too_few_files(most: int) -> str:
    """Return what is to be said when this process may open fewer files than so many connections need; else nothing."""
    needed, limit = open_files.needed_by_site(most), open_files.limit()
    if limit >= needed:
        return ""
    return (
        f"this process may open {limit} files, and BUS_MAX_CONNECTIONS={most} needs {needed}: "
        "raise its limit (ulimit -Hn; LimitNOFILE= of systemd), or set fewer"
    )
