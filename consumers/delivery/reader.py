"""Reader: reads new entries of one feed as slots free up. One blocking connection each."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from stepstream.bus.errors import BusError, GroupMissing, StoreUnavailable
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.connection.retry import Tries
from stepstream.bus.wire.connection.rights import CLIENT_ID, CLIENT_UNBLOCK
from stepstream.bus.wire.streams import Fields, ensure_group, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import register
from stepstream.checkpoint.run.start import StartReply, StartRequest
from stepstream.consumers.delivery.delivery import Delivery, Feed
from stepstream.consumers.delivery.eager_starts import EagerStarts
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.slots import Slots

BLOCK_MS = 2_000
_AGAIN_S = 1.0
_AGAIN_WAKEN_S = 0.05


class Reader:
    """An idle reader blocks with COUNT 1; a full read is followed at once by one with its share of the free slots.

    With `eager_starts`, what a blocked read brings is started in the same round trip.
    """

    def __init__(
        self,
        wire: Wire,
        feed: Feed,
        slots: Slots,
        exits: Exits,
        signals: Signals,
        since_ms: int,
        eager_starts: EagerStarts | None = None,
    ) -> None:
        self.feed = feed
        self.broke = False
        """Whether a read failed since the reclaimer last looked for entries that never arrived."""
        self._wire = wire
        self._slots = slots
        self._exits = exits
        self._signals = signals
        self._since_ms = since_ms
        self._eager_starts = eager_starts
        self._newest = "0-0"
        self._stopping = False
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.lets_one = False
        """Whether one run that gets its places is let through while it is paused."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._pipe = self._new_pipe()
        self._client_id: int | None = None
        self._is_asked = False

    def _new_pipe(self) -> Pipe:
        return self._wire.pipe(extra_timeout=BLOCK_MS / 1_000)

    async def open(self) -> None:
        """Open the connection, when it is not; StoreUnavailable when that fails."""
        if not self._is_asked:
            self._client_id = await self._pipe.ask(CLIENT_ID)
            self._is_asked = True

    async def close(self) -> None:
        """Give the connection back; open() or run() opens another."""
        pipe, self._pipe = self._pipe, self._new_pipe()
        self._is_asked = False
        await pipe.close()

    async def run(self) -> None:
        """Read until stop(), or until nobody waits any more for the events that are read for waits."""
        failing = Failing(self._signals, "reading failed", stream=self.feed.stream)
        tries, full = Tries(), False
        try:
            while not self._stopping:
                await self._resumed.wait()
                await self._slots.wait_room(first=self.feed.kind == "queue")
                while not self.feed.lease.is_fresh() and not self._stopping:
                    await self.feed.lease.renewed()
                if self._stopping:
                    return
                if self.is_paused:
                    self._slots.decline()
                    continue
                wait = _AGAIN_S
                with failing:
                    self._idle.clear()
                    try:
                        full = await self._read(full=full)
                    except GroupMissing:
                        if self.feed.kind == "waits":  # nobody waits any more
                            return
                        await self._make_group()
                    except StoreUnavailable as error:
                        self._client_id, self._is_asked = None, False
                        wait = tries.pause(error)
                        raise
                    finally:
                        self._idle.set()
                    tries = Tries()
                    continue
                self.broke = True  # what was delivered stays pending and is read again
                await asyncio.sleep(wait)
        finally:
            await self._pipe.close()

    async def _make_group(self) -> None:
        """Flushed, or failed over to before the group: made again where its trigger was registered."""
        self._signals.notice("a consumer group is gone; was Redis wiped?", stream=self.feed.stream)
        await register(self._wire, self.feed.function)
        await ensure_group(self._wire, self.feed.stream, self.feed.group, self._since_ms)

    async def _read(self, *, full: bool) -> bool:
        await self.open()
        pipe, consumer = self._pipe, self.feed.lease.consumer
        count = self._slots.share() if full else 1
        how = ("COUNT", count) if full else ("COUNT", count, "BLOCK", BLOCK_MS)
        reading = pipe.call("XREADGROUP", "GROUP", self.feed.group, consumer, *how, "STREAMS", self.feed.stream, ">")
        starting = self._eager_starts.send(pipe, self._newest) if self._eager_starts and not full else None
        reply = await reading
        if not reply:
            return False
        rows = [(entry.decode(), fields_of(fields or ())) for entry, fields in reply[0][1]]
        reached("read.replied")
        self._newest = rows[-1][0]
        deliveries = self.feed.receive(rows, consumer)
        if not deliveries:
            return False
        if starting:
            deliveries[0].started = await starting.run_of(deliveries[0].id)
        self.begin(deliveries)
        return len(rows) >= count

    def receive(
        self, rows: Iterable[tuple[str, Fields]], consumer: str, started: Mapping[str, tuple[StartRequest, StartReply]]
    ) -> None:
        """Take in hand what another act delivered to our consumer; `started` has the runs it started, by entry."""
        deliveries = self.feed.receive(rows, consumer)
        for delivery in deliveries:
            delivery.started = started.get(delivery.id)
        self.begin(deliveries)

    def begin(self, deliveries: list[Delivery]) -> None:
        """Hand on entries in hand, however they were taken; a worker that stops gives them back."""
        if self._stopping:
            for delivery in deliveries:
                self._exits.leave(delivery, "given back")
        elif deliveries:
            self.feed.handler.begin(deliveries)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is taken."""
        return self._stopping

    @property
    def is_paused(self) -> bool:
        """Whether nothing is taken until resume()."""
        return not self._resumed.is_set()

    async def pause(self) -> None:
        """Read no more until resume(); what is in hand goes on. Returns when no read is under way."""
        self._resumed.clear()
        while not self._idle.is_set():  # a read that is on its way to the server is not blocked yet, and not woken
            await self._wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_WAKEN_S):
                    await self._idle.wait()

    async def read_one(self) -> list[Delivery]:
        """Take one entry in hand while it is paused; none, when there is none, or no room or no lease for it."""
        if self._stopping or not self.feed.lease.is_fresh() or self._slots.room <= 0:
            return []
        await self.open()
        pipe, consumer = self._pipe, self.feed.lease.consumer
        reply = await pipe.call(
            "XREADGROUP", "GROUP", self.feed.group, consumer, "COUNT", 1, "STREAMS", self.feed.stream, ">"
        )
        if not reply:
            return []
        rows = [(entry.decode(), fields_of(fields or ())) for entry, fields in reply[0][1]]
        self._newest = rows[-1][0]
        deliveries = self.feed.receive(rows, consumer)
        self.begin(deliveries)
        return deliveries

    def resume(self) -> None:
        """Read on."""
        self.lets_one = False
        self._resumed.set()

    async def stop(self) -> None:
        """Read no more."""
        self._stopping = True
        self._resumed.set()
        await self._wake()

    async def _wake(self) -> None:
        """End a blocked read. It is not cancelled: its entries would be lost to us."""
        if self._client_id is not None:
            with contextlib.suppress(BusError):  # then BLOCK runs out
                await self._wire.ask(CLIENT_UNBLOCK, self._client_id)
