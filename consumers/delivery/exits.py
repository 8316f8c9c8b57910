"""Exits: the one place where an entry leaves this worker, and all that follows from how it leaves.

Whoever is done with an entry says so once, with one word. What follows is decided here: what Redis is told, whether the
shared places held for it are given back, and whether its function's dispatcher is woken.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from stepstream.bus.observe.signals import EntryDropped, Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.wire.streams import acknowledge, acknowledge_turns, release
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery, Feed
from stepstream.consumers.delivery.failing import Failing

Exit = Literal["turn over", "passed", "elsewhere", "given back", "lost"]
"""How an entry leaves.

`turn over`: its run has ended, waits, or has gone on to a later turn. `passed`: there is nothing to run for it here: no
trigger wants it, its run waits for a place, it only woke the dispatcher, or its message is delivered.
`elsewhere`: another entry holds its run. These three are acknowledged. `given back`: any worker may have it at once.
`lost`: another worker has it by now, or it stays pending and is read again; Redis is told nothing.
"""

_FREES: frozenset[Exit] = frozenset({"turn over", "passed", "given back"})
"""After these no turn of the run is at work, so that its places may go to others."""


class Held(Protocol):
    """What entries hold beside themselves while they are in hand: places of limits that functions share."""

    def give_back(self, delivery: Delivery) -> None:
        """Give back what an entry holds, if anything, without waiting."""

    def leave_to_lease(self, delivery: Delivery) -> None:
        """Keep it no more, and give nothing back: another worker may have it under the same name."""

    async def settled(self) -> None:
        """Wait until all that was given back is free."""


class Exits:
    """The exits of one worker's entries: acknowledged, or given back, with the others of the same loop tick."""

    def __init__(self, wire: Wire, signals: Signals, held: Held) -> None:
        self._wire = wire
        self._signals = signals
        self._failing = Failing(signals, "letting entries go failed; they are read again")
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._leaving: dict[tuple[Feed, bool], list[tuple[Delivery, str]]] = {}
        self._telling = Background(signals)

    def leave(self, delivery: Delivery, how: Exit, failpoint: str = "") -> None:
        """Let an entry go. It stays in hand until Redis has answered; `failpoint` is reached then."""
        if how in _FREES and delivery.feed.backlog is not None:
            delivery.feed.backlog.ring()
        if how == "lost":
            self._held.leave_to_lease(delivery)
            delivery.feed.drop(delivery)
            return
        if how == "elsewhere":
            self._held.leave_to_lease(delivery)
        elif how != "given back":
            self._held.give_back(delivery)
        if not self._leaving:
            self._loop.call_soon(self._flush)
        self._leaving.setdefault((delivery.feed, how == "given back"), []).append((delivery, failpoint))

    def drop_senseless(self, delivery: Delivery, error: ValueError) -> None:
        """Let an entry go that somebody added by hand: no run can have made it, and nothing can come of it, ever."""
        self._signals.notice(
            "an entry makes no sense; it is dropped",
            stream=delivery.feed.stream,
            entry=delivery.id,
            error=str(error),
        )
        if self._signals.entry_dropped:
            self._signals.entry_dropped.send(EntryDropped(delivery.feed.slug))
        self.leave(delivery, "passed")

    def lose(self, feeds: Iterable[Feed], is_lost: Callable[[Delivery], bool]) -> list[Delivery]:
        """Let go all entries for which `is_lost` is true: by now they are another's. Returns them."""
        lost = [delivery for feed in feeds for delivery in feed.in_hand.values() if is_lost(delivery)]
        for delivery in lost:
            self.leave(delivery, "lost")
        return lost

    async def settled(self) -> None:
        """Wait until Redis has been told of every entry that has left so far."""
        while self._leaving or self._telling.tasks:
            await asyncio.sleep(0)
            await self._telling.settled()

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, {}
        for (feed, is_given_back), deliveries in leaving.items():
            tell = self._give_back if is_given_back else self._acknowledge
            self._telling.start(tell(feed, deliveries))

    async def _acknowledge(self, feed: Feed, deliveries: list[tuple[Delivery, str]]) -> None:
        """Acknowledge, in a later write than the answer that came before: else a refused end would be a lost run."""
        ids = [delivery.id for delivery, _ in deliveries]
        is_told = False
        with self._failing:  # then they stay pending, and are read again
            if feed.is_deleted_when_done:
                await acknowledge_turns(self._wire, feed.stream, feed.group, ids)
            else:
                await acknowledge(self._wire, feed.stream, feed.group, ids)
            is_told = True
        for delivery, failpoint in deliveries:
            feed.drop(delivery)
            if is_told and failpoint:
                reached(failpoint)

    async def _give_back(self, feed: Feed, deliveries: list[tuple[Delivery, str]]) -> None:
        """Give entries back, their shared places first: who claims one asks for a place under the same name."""
        for delivery, _ in deliveries:
            self._held.give_back(delivery)
        await self._held.settled()
        by_consumer: dict[str, list[str]] = {}
        for delivery, _ in deliveries:
            feed.drop(delivery)
            by_consumer.setdefault(delivery.consumer, []).append(delivery.id)
        for consumer, ids in by_consumer.items():
            with self._failing:
                await release(self._wire, feed.stream, feed.group, consumer, ids)
        reached("release.replied")
