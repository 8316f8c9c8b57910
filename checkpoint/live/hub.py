"""Hub: all who listen in one process share one blocking read of all their channels, on one connection.

A listener catches up by itself with what its channel keeps, and from then on gets what the hub reads. One that does not
take it fast enough is ended: it may listen again, and go on behind the last message it has got.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from stepstream.bus.errors import BadRequest, BusError, StoreUnavailable
from stepstream.bus.process.tasks import retrieved
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_place, is_entry
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.connection.retry import Tries, patiently
from stepstream.bus.wire.connection.rights import CLIENT_ID, CLIENT_UNBLOCK
from stepstream.bus.wire.streams import newest_entry
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.messages import Message, between, check_channel, messages_of

MOST_LISTENERS = 5_000
"""How many may listen in one process."""
MOST_WAITING = 256
MOST_WAITING_BYTES = 2 * 1024 * 1024
"""What a listener may be behind, in messages and in bytes, before it is ended."""

_BLOCK_MS, _BLOCK_BRIEFLY_MS = 2_000, 200
_COUNT = 100
_AGAIN_S = 0.01
_LONG_S = 3_600.0


class TooSlow(BusError):
    """A listener that is too far behind: the messages it has not taken are dropped, and it is ended."""

    code = "too_slow"

    def __init__(self, channel: str, last: str) -> None:
        self.last = last
        super().__init__(f"too many messages of channel {channel!r} are not taken: go on after {last}")


class Crowded(BusError):
    """This process has as many listeners as it may have."""

    code = "too_many_listeners"
    status = 503


class Ended(BusError):
    """The process stops: listeners go on elsewhere."""

    code = "closing"


def check_after(after: str) -> str:
    """Return the id of a message as it was given; BadRequest for what is not an id."""
    if after and not (is_entry(after) or is_entry(f"{after}-0")):
        raise BadRequest(f"after must be the id of a message (1700000000000-0), or 0 for all, got {after[:60]!r}")
    return after


class Listener:
    """One who listens to a channel: `await next(1.0)` until it raises."""

    def __init__(self, wire: Wire, channel: str, topics: Sequence[str], after: str, until: str) -> None:
        self.channel = channel
        self.last = after
        """The id of the last message that it has been given."""
        self.is_gap = False
        """Whether messages behind the last one were no longer kept; who looks sets it back."""
        self._wire = wire
        self._topics = frozenset(topics)
        self._until = until
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._error: BusError | None = None
        self._come = asyncio.Event()

    async def next(self, within: float) -> list[Message]:
        """Return the messages that have come, in order; none after `within` seconds.

        Raises TooSlow, Ended, or what Redis refuses: it has ended then.
        """
        while entry_place(self.last) < entry_place(self._until):
            found, self.is_gap = await patiently(lambda: between(self._wire, self.channel, self.last, self._until))
            self.last = found[-1].id if found else self._until
            if wanted := self._wanted(found):
                return wanted
        if not self._waiting and self._error is None:
            self._come.clear()
            try:
                async with asyncio.timeout(within):
                    await self._come.wait()
            except TimeoutError:
                return []
        if self._error is not None:
            raise self._error
        messages = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self.last = messages[-1].id
        return messages

    def give(self, messages: Sequence[Message]) -> None:
        """Give it messages; one that has too many already is ended."""
        wanted = self._wanted(messages)
        if not wanted or self._error is not None:
            return
        self._waiting.extend(wanted)
        self._bytes += sum(len(one.json) for one in wanted)
        if len(self._waiting) > MOST_WAITING or (self._bytes > MOST_WAITING_BYTES and len(self._waiting) > 1):
            self.end(TooSlow(self.channel, self.last))
        self._come.set()

    def end(self, error: BusError) -> None:
        """End it: whoever reads from it gets this error."""
        self._error = self._error or error
        self._waiting.clear()
        self._come.set()

    def _wanted(self, messages: Sequence[Message]) -> list[Message]:
        return [one for one in messages if not self._topics or one.topic in self._topics]


class _Channel:
    """A channel that is read: up to where, and for whom."""

    def __init__(self, position: str) -> None:
        self.position = position
        self.listeners: set[Listener] = set()


class Hub:
    """Reads the channels that somebody of this process listens to, while there is one."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._channels: dict[str, _Channel] = {}
        self._reading: asyncio.Task[None] | None = None
        self._here = 0
        """How many listen, or are about to."""
        self._has_new = asyncio.Event()
        self._ended: Ended | None = None

    @asynccontextmanager
    async def listen(self, channel: str, topics: Sequence[str] = (), after: str = "") -> AsyncGenerator[Listener]:
        """Listen to a channel, to all its topics or some: from now on, or from behind a message (`0`: all it keeps)."""
        self._here += 1
        try:
            check_channel(channel)
            check_after(after)
            if self._here > MOST_LISTENERS:
                raise Crowded(f"{MOST_LISTENERS} listen in this process already: try another, or later")
            async with self._listening(channel, topics, after) as listener:
                yield listener
        finally:
            self._here -= 1
            if not self._here:
                self._close()

    @asynccontextmanager
    async def _listening(self, channel: str, topics: Sequence[str], after: str) -> AsyncGenerator[Listener]:
        now = await newest_entry(self._wire, keys.live(channel))
        found = self._channels.get(channel)
        if found is None:
            found = self._channels[channel] = _Channel(now)
            self._has_new.set()
        # Whoever names a message of the future listens from now on: the store has been emptied, or its clock set back.
        start = after if after and entry_place(after) < entry_place(found.position) else found.position
        listener = Listener(self._wire, channel, topics, _whole(start), found.position)
        found.listeners.add(listener)
        if self._ended is not None:
            listener.end(self._ended)
        elif self._reading is None:
            # In an empty context: the task serves all listeners, and must not keep what this run or request has in its.
            self._reading = asyncio.get_running_loop().create_task(self._read(), context=contextvars.Context())
        try:
            yield listener
        finally:
            found.listeners.discard(listener)
            if not found.listeners and self._channels.get(channel) is found:
                del self._channels[channel]

    def end(self) -> None:
        """End all listeners, for this process stops, and whoever begins to listen."""
        self._ended = Ended("the server stops: connect again, and go on after the last message")
        for channel in self._channels.values():
            for listener in channel.listeners:
                listener.end(self._ended)

    def _close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        _hubs.pop(self._wire, None)

    async def _read(self) -> None:
        pipe, tries = self._wire.pipe(extra_timeout=_BLOCK_MS / 1_000), Tries()
        try:
            client = None
            while True:
                try:
                    client = await pipe.ask(CLIENT_ID)
                    while True:
                        await self._read_once(pipe, client)
                        tries = Tries()
                except StoreUnavailable as error:
                    await asyncio.sleep(tries.pause(error))
                except BusError as error:
                    await self._let_spoilt_go(error)
        finally:
            await pipe.close()

    async def _read_once(self, pipe: Pipe, client: int | None) -> None:
        while not self._channels:  # the last has gone, and another is about to come
            self._has_new.clear()
            await self._has_new.wait()
        self._has_new.clear()
        channels = {keys.live(name): (name, channel) for name, channel in self._channels.items()}
        positions = [channel.position for _, channel in channels.values()]
        block = _BLOCK_BRIEFLY_MS if client is None else _BLOCK_MS
        reading = pipe.call("XREAD", "COUNT", _COUNT, "BLOCK", block, "STREAMS", *channels, *positions)
        reading.add_done_callback(retrieved)  # this task may be cancelled while it waits
        if client is not None:
            await self._until_new(reading, client)
        for key, rows in await reading or ():
            name, channel = channels[codec.text(key)]
            channel.position = codec.text(rows[-1][0])
            messages = messages_of(name, rows)
            for listener in tuple(channel.listeners):
                listener.give(messages)

    async def _until_new(self, reading: "asyncio.Future[Any]", client: int) -> None:
        """Wait until something was read, or end the read: a channel has come that it does not cover."""
        has_new = asyncio.ensure_future(self._has_new.wait())
        try:
            await asyncio.wait({reading, has_new}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_new.cancel()
        while not reading.done():  # the word may come before the read does, on another connection
            if await self._wire.ask(CLIENT_UNBLOCK, client) is None:
                return
            await asyncio.wait({reading}, timeout=_AGAIN_S)

    async def _let_spoilt_go(self, error: BusError) -> None:
        """A key among them is no stream: its listeners hear so, and the others go on. If it is not that, all hear."""
        spoilt: dict[str, BusError] = {}
        for name in tuple(self._channels):
            try:
                await patiently(lambda name=name: newest_entry(self._wire, keys.live(name)))
            except BusError as own:
                spoilt[name] = own
        for name in spoilt or tuple(self._channels):
            channel = self._channels.pop(name, None)
            for listener in channel.listeners if channel is not None else ():
                listener.end(spoilt.get(name, error))


def _whole(message: str) -> str:
    ms, number = entry_place(message)
    return f"{ms}-{number}"


_hubs: dict[Wire, Hub] = {}
"""Of the connections through which somebody listens."""


def hub_of(wire: Wire) -> Hub:
    """Return the hub of a connection to Redis."""
    return _hubs.get(wire) or _hubs.setdefault(wire, Hub(wire))


async def followed(wire: Wire, channel: str, topics: Sequence[str] = (), after: str = "") -> AsyncGenerator[Message]:
    """Yield the messages of a channel as they come. A loop that is too slow goes on with what the channel keeps."""
    while True:
        try:
            async with hub_of(wire).listen(channel, topics, after) as listener:
                while True:
                    for message in await listener.next(_LONG_S):
                        after = message.id
                        yield message
        except TooSlow as error:
            after = error.last


def end_listening() -> None:
    """End all who listen in this process, for it stops."""
    for hub in tuple(_hubs.values()):
        hub.end()
