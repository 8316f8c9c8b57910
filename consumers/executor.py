"""Executor: load a run, call its code, settle what came of it.

Load is the starter's (which entries in hand may have their code run, and with which memos), call is a driver's, settle
is the settlement's.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from stepstream.bus.observe.signals import RunStarted
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.run.memo import Memo
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.poll import poll
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.slot_queue import StartedRun
from stepstream.consumers.delivery.slots import BEAT_S, Slots
from stepstream.consumers.delivery.wakeup import Alarms
from stepstream.consumers.drivers.contract import Driver
from stepstream.consumers.drivers.drive import drive
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.settlement import Settlement
from stepstream.consumers.starter import Starter
from stepstream.consumers.turn.exit import Abandoned, GivenBack, TurnExit
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.tasks import LINGER_S
from stepstream.consumers.turn.turn import Turn

POLL_EVERY_S = 1.0


class Executor:
    """All turns of one bus in one worker. `alarms` are set for the timers of its functions."""

    def __init__(
        self,
        services: Services,
        slots: Slots,
        exits: Exits,
        subscriptions: Subscriptions,
        cancels: EventCancellation,
        alarms: Alarms,
        worker: str,
        driver: Driver,
    ) -> None:
        self.turns: set[Turn] = set()
        self._taking_in: set[Turn] = set()
        self._services = services
        self._wire = services.wire
        self._signals = services.signals
        self._slots = slots
        self._exits = exits
        self._driver = driver
        self._loop = services.loop
        self._threads = ThreadPoolExecutor(slots.total, thread_name_prefix="bus-step")
        self._settlement = Settlement(services, exits, subscriptions, alarms)
        self._starter = Starter(services, slots, exits, subscriptions, cancels, alarms, worker)
        self._beating: asyncio.TimerHandle | None = None
        self._polled = 0.0
        self._background = Background(services.signals)
        self._context = contextvars.Context()

    # -- load -------------------------------------------------------------------------------------------------------

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the runs of entries of one feed; each that may have its code run gets a slot, or waits for one."""
        self._starter.begin(deliveries)
        self._begin_beating()

    # -- call -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Call the code of each run that has its slot; runs until cancelled."""
        while True:
            for started in await self._starter.next():
                try:
                    self._call(started)
                except Exception as error:  # noqa: BLE001 - one bad run must not take others along
                    self._starter.fail_to_begin(started.delivery, repr(error))

    def _call(self, started: StartedRun) -> None:
        delivery, request, reply = started.delivery, started.request, started.reply
        function = delivery.feed.function
        if delivery.consumer != delivery.feed.lease.consumer:  # the lease was lost while start was under way
            self._starter.not_begun(delivery)
            return
        if reply.turn < request.turn:
            self._signals.notice("the server has rolled back: a run goes on from an earlier turn", run=request.run)
        owned = Owned(function.slug, request.run, reply.turn, request.fence)
        turn = Turn(self._services, self._threads, delivery, owned, reply, started.first_event())
        self.turns.add(turn)
        if self._signals.run_started:
            waited = None if reply.began else max(0, reply.now - request.queued)
            self._signals.run_started.send(RunStarted(function.slug, request.run, reply.turn, waited))
        drive(turn, self._driver).add_done_callback(partial(self._settle, turn), context=self._context)

    # -- settle -----------------------------------------------------------------------------------------------------

    def _settle(self, turn: Turn, turn_exit: asyncio.Future[TurnExit]) -> None:
        """Free the slot first: the next body begins while this turn's exit is recorded, its entry still in hand."""
        self.turns.discard(turn)
        turn.bodies.when_threads_end(self._starter.free_slot)
        if turn.is_suspect:
            self._starter.suspect_left()
        self._settlement.settle(turn, turn_exit.result())

    # -- while turns are under way ----------------------------------------------------------------------------------

    def _begin_beating(self) -> None:
        if self._beating is None:
            self._beating = self._loop.call_later(BEAT_S, self._beat, context=self._context)

    def _beat(self) -> None:
        now = time.monotonic()
        for turn in tuple(self.turns):
            turn.note_slow_bodies(now)
        if now - self._polled >= POLL_EVERY_S:
            self._polled = now
            self._background.start(self._poll(now))
        self._starter.beat()
        is_busy = bool(self.turns or self._starter)
        self._slots.beat(busy=is_busy)
        self._beating = self._loop.call_later(BEAT_S, self._beat, context=self._context) if is_busy else None

    async def _poll(self, now: float) -> None:
        """See what has come from outside for the turns that have gone on for a second."""
        old: dict[tuple[str], list[Turn]] = {}
        for turn in self.turns:
            if now - turn.begun >= POLL_EVERY_S and not turn.over:
                old.setdefault(turn.owned.prefix, []).append(turn)
        for prefix, turns in old.items():
            seen = await poll(self._wire, prefix, [(turn.owned.run, turn.state.known) for turn in turns])
            for turn, found in zip(turns, seen, strict=True):
                if found.cancel is not None:
                    turn.recorder.cancel(found.cancel)
                elif found.resolved and not turn.over and turn not in self._taking_in:
                    self._taking_in.add(turn)
                    self._background.start(self._take_in(turn, found.resolved))

    async def _take_in(self, turn: Turn, memos: dict[str, Memo]) -> None:
        """Take in what has come for one turn: for large results a store is asked, which may hang for half a minute."""
        try:
            await turn.recorder.take_in(memos)
        finally:
            self._taking_in.discard(turn)

    # -- stopping ---------------------------------------------------------------------------------------------------

    def give_back_waiting(self) -> None:
        """Give back what is in hand and has not begun."""
        for delivery in self._starter.take_out(lambda _: True):
            self._exits.leave(delivery, "given back")

    async def wind_up(self, within_s: float) -> list[Delivery]:
        """Give back the turns that are still at work, whatever they do; return the entries that must not be.

        A body in a thread cannot be stopped, and must not run twice: its entry stays in hand until the body has ended
        and is recorded. One that has not within that time ends with this process, and its entry is nobody's until its
        lease has ended.
        """
        in_threads = [turn for turn in self.turns if turn.bodies.in_threads]
        for turn in tuple(self.turns):
            if turn in in_threads:
                turn.closing = True
                turn.recorder.notice(
                    "a body still runs in a thread, which nothing can stop: if it does not end now it is begun again "
                    "elsewhere; let BUS_DRAIN be longer than the longest sync step",
                    steps=turn.bodies.in_threads,
                )
            else:
                turn.recorder.end(GivenBack())
        if in_threads:
            closing = [asyncio.ensure_future(self._close(turn)) for turn in in_threads]
            for late in (await asyncio.wait(closing, timeout=within_s))[1]:
                late.cancel()
        stuck = [turn for turn in in_threads if not turn.over]
        for turn in stuck:
            turn.recorder.end(Abandoned())
        return [turn.delivery for turn in stuck]

    async def _close(self, turn: Turn) -> None:
        ended = asyncio.Event()
        turn.bodies.when_threads_end(ended.set)
        await ended.wait()
        if turn.tasks.main is not None:  # its result is recorded now; no other body begins
            await asyncio.wait({turn.tasks.main}, timeout=LINGER_S)
        turn.recorder.end(GivenBack())

    def abandon(self, is_lost: Callable[[Delivery], bool]) -> None:
        """Give up the turns and the waiting entries for which `is_lost` is true; nothing is acknowledged."""
        for turn in tuple(self.turns):
            if is_lost(turn.delivery):
                turn.recorder.end(Abandoned())
        self._starter.take_out(is_lost)

    async def settled(self) -> None:
        """Wait until all that was begun is recorded and acknowledged."""
        while True:
            under_way: set[asyncio.Future[Any]] = {turn.recorder.exit for turn in self.turns if turn.over}
            under_way |= self._background.tasks | self._starter.under_way() | self._settlement.under_way()
            if not under_way:
                return
            await asyncio.wait(under_way)

    def close(self) -> None:
        """Let the threads go; a body that still runs in one is not waited for. What goes on in the background ends."""
        if self._beating is not None:
            self._beating.cancel()
        self._background.cancel()
        self._starter.close()
        self._settlement.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
