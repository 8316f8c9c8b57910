"""Shared: limits that several functions share. Their places lie in a slot of their own, so each is a lease.

A run that has its function's places asks for the shared one before it starts; without it, it goes back into line, and
is tried when somebody gives one back, or within a second.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from bus.errors import BusError
from bus.function import Function
from bus.observe.signals import Signals
from bus.wire import keys
from bus.wire.retry import patiently
from bus.wire.wire import Wire
from consumers.acks import Acks
from consumers.delivery import Delivery
from consumers.quiet import outside
from consumers.turn import Turn


class _Held(msgspec.Struct, frozen=True):
    """The shared places a run has while its entry is in hand."""

    limits: tuple[str, ...]
    delivery: Delivery

    @property
    def is_over(self) -> bool:
        """Whether the entry has gone without a turn: its run had ended, or is another worker's."""
        return self.delivery.source.in_hand.get(self.delivery.id) is not self.delivery


class Shared:
    """The shared places that the runs of one worker hold."""

    def __init__(self, wire: Wire, signals: Signals) -> None:
        self._wire = wire
        self._signals = signals
        self._held: dict[str, _Held] = {}
        self._giving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Renew the leases of all places held; runs until cancelled.

        A place whose entry is no longer in hand is left to its lease: by now another worker may have it for that run.
        """
        lease_ms = self._wire.settings.lease_ms
        while True:
            await asyncio.sleep(lease_ms / 4_000)
            try:
                self._held = {holder: held for holder, held in self._held.items() if not held.is_over}
                if self._held:
                    until = await self._wire.clock() + lease_ms
                    pairs = [(limit, holder) for holder, held in self._held.items() for limit in held.limits]
                    await asyncio.gather(
                        *(self._wire.call("ZADD", keys.limit(limit), "XX", until, holder) for limit, holder in pairs)
                    )
            except BusError as error:
                self._signals.notice("renewing shared places failed", error=str(error))

    async def admitted(self, function: Function, deliveries: Sequence[Delivery], acks: Acks) -> list[Delivery]:
        """Return those turns that have their shared places; the others go back into line and are acknowledged."""
        found = await asyncio.gather(*(self._ask(function, delivery, acks) for delivery in deliveries))
        return [delivery for delivery, has_place in zip(deliveries, found, strict=True) if has_place]

    async def _ask(self, function: Function, delivery: Delivery, acks: Acks) -> bool:
        run, holds = delivery.fields[b"run"].decode(), delivery.fields.get(b"holds", b"").decode()
        holder, taken = f"{function.slug}|{run}", list[str]()
        for hold in holds.split("\n"):
            rule = function.flow.concurrency[int(hold[1])] if hold[:1] == "c" and hold[1:2].isdecimal() else None
            if rule is None or rule.shared is None:
                continue
            limit = f"{rule.shared}={hold[3:]}"
            names = [keys.limit(limit), keys.limit_waiting(limit)]
            arguments = (holder, self._wire.settings.lease_ms, rule.limit, f"{function.slug}|{hold}")
            if not await self._wire.lasting_script("limit_take", names, *arguments):
                for other in taken:
                    await self._give(other, holder)
                entry = delivery.source.entry_name(delivery.id)
                prefix = [keys.function(function.slug)]
                if await self._wire.lasting_script("run_wait", prefix, run, entry, hold):
                    acks.add(delivery)
                    return False
                return True  # it runs already under this entry: start knows
            taken.append(limit)
        if taken:
            self._held[holder] = _Held(tuple(taken), delivery)
        return True

    def left(self, turn: Turn) -> None:
        """A turn has left: its places are given back, if the run is still this worker's."""
        holder = f"{turn.owned.slug}|{turn.owned.run}"
        held = self._held.get(holder)
        if held is None or held.delivery is not turn.delivery:  # the run's next turn has begun, and has them now
            return
        del self._held[holder]
        if turn.delivery.consumer == turn.delivery.source.lease.consumer:
            task = outside(self._loop, self._give_all(held.limits, holder))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _give_all(self, limits: Sequence[str], holder: str) -> None:
        try:
            for limit in limits:
                await self._give(limit, holder)
        except BusError as error:  # then its lease ends
            self._signals.notice("giving back a shared place failed", error=str(error))

    async def _give(self, limit: str, holder: str) -> None:
        names = [keys.limit(limit), keys.limit_waiting(limit)]
        waiting: list[bytes] = await self._wire.lasting_script("limit_give", names, holder, patience=5.0)
        for line in waiting:
            slug, hold = line.decode().split("|", 1)
            await patiently(lambda slug=slug, hold=hold: self._try(slug, hold), 5.0)

    async def _try(self, slug: str, hold: str) -> Any:
        return await self._wire.script("line_try", [keys.function(slug)], hold)
