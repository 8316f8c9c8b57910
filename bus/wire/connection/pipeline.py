"""One connection on which all commands of a loop tick leave in one write.

redis-py opens the connection; this module packs commands, parses replies and matches them: replies come in order, so a
deque of futures is enough. There is no task per command: a caller gets a future, and a cancelled caller does not cancel
the others. One watchdog per connection bounds every wait.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import hiredis

from stepstream.bus.errors import RightMissing, StoreUnavailable
from stepstream.bus.process.tasks import retrieved
from stepstream.bus.values.address import Address
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection import opening
from stepstream.bus.wire.connection.refusals import ELSEWHERE, translated
from stepstream.bus.wire.connection.retry import Pace
from stepstream.bus.wire.connection.rights import CLIENT_SETNAME, SCRIPT_LOAD, Right, Rights
from stepstream.bus.wire.connection.trouble import Trouble

Argument = str | bytes | int | float
Reply = Any

YOUNG_S = 1.0
"""A connection that turns out to lead to the wrong server within this time counts as a failed attempt to connect."""

_pack: Callable[[tuple[Argument, ...]], bytes] = cast("Any", hiredis).pack_command


class Pipe(asyncio.Protocol):
    """A connection that opens itself at the first call, and again after it broke.

    A call in flight when the connection breaks fails with StoreUnavailable: its outcome is unknown. When a server says
    that it is not the primary (one that has become a replica keeps its connections), the connection is closed, later
    replies on it are dropped, and the address is looked up again. `only_reads`: a replica serves reads without an
    error, so what such a connection sends begins with a command that changes nothing and that only a primary accepts.
    `scripts` returns the texts of the scripts that the server must know, by their SHA-1.
    """

    def __init__(
        self,
        where: Address,
        *,
        timeout: float,
        name: str,
        pace: Pace,
        rights: Rights,
        trouble: Trouble,
        scripts: Callable[[], Mapping[str, str]] | None = None,
        only_reads: bool = False,
    ) -> None:
        self._where = where
        self._rights = rights
        self._timeout = timeout
        self._name = name
        self._pace = pace
        self._trouble = trouble
        self._scripts = scripts
        self._proof = _pack(("ZREM", keys.workers(), "")) if only_reads else b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._stream: asyncio.StreamWriter | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reader = hiredis.Reader()
        self._buffer: list[bytes] = []
        self._unsent: deque[asyncio.Future[Reply]] = deque()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._loading: set[asyncio.Future[Reply]] = set()
        self._optional: set[asyncio.Future[Reply]] = set()
        self._flushing = False
        self._opened = 0.0
        self._heard = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self.closed = False

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send a command together with the others of this tick; the future gets the reply or a BusError."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._buffer.append(_pack(command))
        self._unsent.append(future)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return future

    def load(self, text: str) -> None:
        """Load a script, and do not wait for that; a refusal is reported once, as a right that is missing."""
        self._is_loading(self.call("SCRIPT", "LOAD", text))

    def _is_loading(self, loading: asyncio.Future[Reply]) -> None:
        self._loading.add(loading)
        loading.add_done_callback(self._loaded)

    async def ask(self, right: Right, *arguments: Argument) -> Reply | None:
        """Send an optional command; None when it is refused. That is reported once, and not as trouble.

        Hosted servers refuse with ERR and words of their own, so an ERR counts as a refusal when it comes three times.
        """
        said = ""
        for _ in range(3):
            asked = self._optional_one(self.call(*right.command, *arguments))
            try:
                return await self._rights.answer(right, asked)
            except StoreUnavailable as error:
                if error.state != "ERR":
                    raise
                said = str(error)
                await asyncio.sleep(0.05)
        self._rights.refused(right, said)
        return None

    def _optional_one(self, future: asyncio.Future[Reply]) -> asyncio.Future[Reply]:
        self._optional.add(future)
        future.add_done_callback(self._optional.discard)
        return future

    def _unheard(self) -> asyncio.Future[Reply]:
        future = self._optional_one(self._loop.create_future())
        future.add_done_callback(retrieved)
        return future

    async def close(self) -> None:
        """Close for good; calls in flight fail."""
        self.closed = True
        opening, transport = self._opening, self._transport
        if opening is not None:
            opening.cancel()
        self._broken(StoreUnavailable("the connection was closed"))
        if transport is not None:
            transport.close()
        # Who is cancelled gets no further than this: all is said by now.
        if opening is not None:
            await asyncio.wait({opening})  # see bus/process/tasks.py; cancelled again it would not tidy up
        await asyncio.sleep(0)

    def _flush(self) -> None:
        self._flushing = False
        if not self._unsent:
            return
        if self._transport is None:
            if self.closed:
                self._fail(StoreUnavailable("the connection is closed"))
            elif self._opening is None:
                # In an empty context: else the run whose tick this is would own the task, and cancel it at its end.
                self._opening = self._loop.create_task(self._open(), context=contextvars.Context())
            return
        if not self._waiting:
            self._heard = time.monotonic()
        if self._proof:
            self._buffer.insert(0, self._proof)
            self._waiting.append(self._unheard())
        self._transport.write(b"".join(self._buffer))
        self._buffer.clear()
        self._waiting.extend(self._unsent)
        self._unsent.clear()

    async def _open(self) -> None:
        scripts: Mapping[str, str] = self._scripts() if self._scripts is not None else {}
        try:
            async with self._pace.attempt():
                unnamed = partial(self._rights.refused, CLIENT_SETNAME)
                stream, there = await opening.opened(self._where, self._timeout, self._name, unnamed, [*scripts])
        except BaseException as error:
            self._opening = None
            self._fail(self._not_opened(error))
            if isinstance(error, Exception):
                return
            raise
        self._opening = None
        if self.closed:  # redis-py may lose a cancellation that comes as the socket opens
            stream.transport.abort()
            self._fail(StoreUnavailable("the connection is closed"))
            return
        self._stream = stream  # kept: a StreamWriter that is garbage-collected closes its transport
        self._reader = hiredis.Reader()
        transport = stream.transport
        transport.set_protocol(self)
        self._transport = transport
        # Those that the server has not are loaded before anything else, so no NOSCRIPT can overtake them.
        for text in (text for text, is_there in zip(scripts.values(), there, strict=True) if not is_there):
            loading: asyncio.Future[Reply] = self._loop.create_future()
            self._is_loading(loading)
            self._buffer.insert(0, _pack(("SCRIPT", "LOAD", text)))
            self._unsent.appendleft(loading)
        self._opened = self._heard = time.monotonic()
        if self._trouble.opened is not None:
            self._trouble.opened()
        self._watch()
        self._flush()

    def _not_opened(self, error: BaseException) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            return StoreUnavailable("opening was cancelled")
        if isinstance(error, StoreUnavailable):
            error.is_paced = True
            self._trouble.met(error)
        return error

    def _loaded(self, loading: asyncio.Future[Reply]) -> None:
        self._loading.discard(loading)
        error = None if loading.cancelled() else loading.exception()
        if isinstance(error, RightMissing):
            self._rights.refused(SCRIPT_LOAD, str(error))

    def _watch(self) -> None:
        if self._transport is None:
            return
        if self._waiting and time.monotonic() - self._heard > self._timeout:
            self._abort(StoreUnavailable(f"Redis did not answer for {self._timeout:.1f} s", state="timeout"))
            return
        self._watchdog = self._loop.call_later(min(1.0, self._timeout / 8), self._watch)

    def data_received(self, data: bytes) -> None:
        """Match replies to callers, in order."""
        self._heard = time.monotonic()
        reader = self._reader
        waiting = self._waiting
        leave: StoreUnavailable | None = None
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                future = waiting.popleft()
                if leave is not None:
                    _settle(future, leave)
                elif isinstance(reply, hiredis.ReplyError):
                    error = translated(str(reply))
                    is_asked = future not in self._optional
                    if future in self._loading:  # whatever keeps scripts from being loaded is told by what is asked
                        pass
                    elif isinstance(error, StoreUnavailable) and (is_asked or error.state == "READONLY"):
                        self._trouble.met(error)
                        leave = error if error.state in ELSEWHERE else None
                    _settle(future, error)
                elif not future.done():  # its caller may have been cancelled
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            leave = StoreUnavailable(f"Redis sent a reply that no command asked for: {error}")
        if leave is not None:
            if self._heard - self._opened < YOUNG_S:
                self._pace.set_back()
            self._abort(leave)
        elif self._trouble.is_on:
            self._trouble.served()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is in flight; the next call opens again."""
        if self._transport is not None:
            self._broken(StoreUnavailable(f"the connection to Redis broke: {exc or 'closed by the server'}"))

    def _abort(self, error: StoreUnavailable) -> None:
        transport = self._transport
        self._broken(error)
        if transport is not None:
            transport.abort()

    def _broken(self, error: StoreUnavailable) -> None:
        self._transport = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        waiting, self._waiting = self._waiting, deque()
        if waiting and not self.closed:
            self._trouble.met(error)
        for future in waiting:
            _settle(future, error)
        if self._unsent and not self._flushing and not self.closed:
            self._flushing = True
            self._loop.call_soon(self._flush)
        elif self.closed:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._buffer.clear()
        unsent, self._unsent = self._unsent, deque()
        for future in unsent:
            _settle(future, error)


def _settle(future: asyncio.Future[Reply], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
