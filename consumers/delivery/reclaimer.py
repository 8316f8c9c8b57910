"""Reclaims pending entries of expired consumers, released ones, and those of our own whose delivery was lost."""

import time

from stepstream.bus.errors import GroupMissing
from stepstream.bus.observe.signals import Reclaimed, Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.wire.streams import RELEASED, pending, reclaim, take
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.reader import Reader
from stepstream.consumers.delivery.slots import Slots

MOST = 100
UNDELIVERED_EVERY_S = 5.0


class Reclaimer:
    """Looks for such entries in one feed."""

    def __init__(self, wire: Wire, reader: Reader, slots: Slots, signals: Signals) -> None:
        self._wire = wire
        self.feed = reader.feed
        self._reader = reader
        self._slots = slots
        self._signals = signals
        self._looked = time.monotonic()
        self._seen: dict[str, float] = {}
        """Entries pending for us and not in hand, since when (monotonic, s)."""

    async def once(self) -> None:
        """Look once; called every sweep interval (BUS_SWEEP)."""
        feed = self.feed
        # A worker that stops would reclaim what it has just given back to others; what is paused stays where it is.
        if self._reader.is_stopping or self._reader.is_paused or not feed.lease.is_fresh() or self._slots.free <= 0:
            return
        try:
            await self._reclaim()
            since = time.monotonic() - self._looked
            if since >= min(UNDELIVERED_EVERY_S, self._wire.settings.lease_ms / 1_000) or self._reader.broke:
                self._looked = time.monotonic()
                self._reader.broke = False
                await self._take_undelivered()
        except GroupMissing:
            return  # the reader tells of it, and makes the group again

    async def _reclaim(self) -> None:
        feed = self.feed
        lease_ms = self._wire.settings.lease_ms
        sure = feed.lease.judges_until(lease_ms)
        if not sure:
            return
        me = feed.lease.consumer
        count = min(MOST, self._slots.free)
        claimed = await reclaim(
            self._wire,
            feed.stream,
            feed.workers_key,
            feed.group,
            me,
            lease_ms=lease_ms,
            count=count,
            sure=sure,
        )
        if not claimed:
            return
        reached("claim.replied")
        deliveries: list[Delivery] = []
        for entry, owner, fields in claimed:
            deliveries += feed.receive([(entry, fields)], me, "" if owner == RELEASED else owner)
        if self._signals.reclaimed:
            from_dead = sum(owner != RELEASED for _, owner, _ in claimed)
            self._signals.reclaimed.send(Reclaimed(feed.slug, len(claimed), from_dead))
        self._signals.notice(
            "reclaimed pending entries",
            group=feed.group,
            entries=len(claimed),
            consumers=sorted({owner for _, owner, _ in claimed}),
        )
        self._reader.begin(deliveries)

    async def _take_undelivered(self) -> None:
        """Read again what is pending for this consumer and never arrived: nobody else would ever claim it."""
        feed = self.feed
        me = feed.lease.consumer
        # In-hand entries are pending too: ask for enough to see past them.
        ids = await pending(self._wire, feed.stream, feed.group, me, len(feed.in_hand) + MOST)
        now = time.monotonic()
        self._seen = {entry: self._seen.get(entry, now) for entry in ids if entry not in feed.in_hand}
        # One that was seen just now may be on its way. How long it is idle is not asked: the server's clock may be set.
        least_s = min(UNDELIVERED_EVERY_S, self._wire.settings.lease_ms / 2_000)
        undelivered = [entry for entry, since in self._seen.items() if now - since >= least_s]
        undelivered = undelivered[: max(0, min(MOST, self._slots.free))]
        if not undelivered:
            return
        rows = await take(self._wire, feed.stream, feed.group, me, undelivered)
        deliveries = feed.receive(rows, me)
        if deliveries:
            self._signals.notice(
                "read pending entries again that never arrived", entries=len(deliveries), stream=feed.stream
            )
            self._reader.begin(deliveries)
