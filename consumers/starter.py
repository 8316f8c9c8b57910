"""Starter: start says which runs of entries in hand may have their code run; those that may get a slot each.

Runs are started before they have a slot: when one frees, the next body begins at once, not a round trip later.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import NotStarted, RunEnded
from stepstream.bus.observe.tracing import Tracing
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.ends.ends import load_end
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.run.end import worker_crash
from stepstream.checkpoint.run.start import MAX_CRASHES, StartReply, StartRequest, load_memos, start
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exit, Exits
from stepstream.consumers.delivery.failing import FAILED
from stepstream.consumers.delivery.slot_queue import SlotQueue, StartedRun
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.start_requests import start_request
from stepstream.consumers.delivery.wakeup import Alarms
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.turn.services import Services


class _Asked(NamedTuple):
    """An entry in hand, the event it brings if it is one's, and what start is asked for it."""

    delivery: Delivery
    event: RawEvent | None
    request: StartRequest


class Suspects:
    """Runs whose worker has died twice while it ran them. One at a time is let through; the others wait."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._is_taken = False
        self._through: Delivery | None = None

    def __bool__(self) -> bool:
        """Whether one waits."""
        return bool(self._waiting)

    def take(self) -> bool:
        """Whether the start that is asked next may let one through; until its reply no other may."""
        was_taken, self._is_taken = self._is_taken, True
        return not was_taken

    def passed(self, through: Delivery | None) -> None:
        """The start that might let one through has replied, and this is the one; None when there was none."""
        self._through, self._is_taken = through, through is not None

    def wait(self, delivery: Delivery) -> None:
        """One was not let through."""
        self._waiting.append(delivery)

    def left(self, deliveries: Sequence[Delivery]) -> bool:
        """Entries have left before their runs began; return whether the one that was let through is among them."""
        if self._through is None or self._through not in deliveries:
            return False
        self.passed(None)
        return True

    def next(self) -> Delivery | None:
        """Take out the one to be asked for next; None while another is let through, or none waits."""
        return self._waiting.popleft() if self._waiting and not self._is_taken else None

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out, of those that wait, the entries for which `is_meant` is true."""
        out = [delivery for delivery in self._waiting if is_meant(delivery)]
        self._waiting = deque(delivery for delivery in self._waiting if not is_meant(delivery))
        return out


class Starter:
    """What one executor has in hand and does not run yet. `alarms` are set for the timers of its functions."""

    def __init__(
        self,
        services: Services,
        slots: Slots,
        exits: Exits,
        subscriptions: Subscriptions,
        cancels: EventCancellation,
        alarms: Alarms,
        worker: str,
    ) -> None:
        self._wire = services.wire
        self._signals = services.signals
        self._tracing = services.tracing
        self._slots = slots
        self._exits = exits
        self._subscriptions = subscriptions
        self._cancels = cancels
        self._alarms = alarms
        self._worker = worker
        self._queue = SlotQueue(slots)
        self._background = Background(services.signals)
        self._starting = 0
        """Calls of start that have not been answered."""
        self._suspects = Suspects()

    def __bool__(self) -> bool:
        """Whether anything waits to start."""
        return bool(self._starting or self._background.tasks or self._queue or self._suspects)

    async def next(self) -> list[StartedRun]:
        """Wait for runs that may have their code run; each has a slot, which free_slot gives back."""
        return await self._queue.next()

    # -- starting ---------------------------------------------------------------------------------------------------

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the runs of entries of one feed, but for those that were started as they were read."""
        self._slots.wait(len(deliveries))
        wanted: list[Delivery] = []
        for delivery in deliveries:
            if delivery.started is None:
                wanted.append(delivery)
                continue
            (request, reply), delivery.started = delivery.started, None
            delivery.run = request.run
            self._queue.add(StartedRun(delivery, request, reply))
        if wanted:
            self._start(wanted)

    def _start(self, deliveries: Sequence[Delivery]) -> None:
        """Ask for the runs of entries of one feed."""
        asked: list[_Asked] = []
        for delivery in deliveries:
            is_event = bool(delivery.feed.triggers)
            if not is_event and b"bell" in delivery.fields:  # rung for a function that had limits once
                self._leave(delivery, "passed")
                continue
            try:
                event = delivery.wanted_event() if is_event else None
                if is_event and event is None:
                    self._leave(delivery, "passed")
                    continue
                request = start_request(delivery, event, self._worker, self._wire.now)
            except CannotOpen as error:  # a condition, or what cancels it, looks at what is sealed
                self._fail(delivery, str(error))
                continue
            except ValueError as error:
                self._exits.drop_senseless(delivery, error)
                self._slots.wait_no_more()
                continue
            delivery.run = request.run
            asked.append(_Asked(delivery, event, request))
        function = deliveries[0].feed.function
        for _, part in keys.by_partition(function.slug, asked, lambda one: one.request.run):
            self._ask(function, part)

    def _ask(self, function: Function, asked: Sequence[_Asked]) -> None:
        """Ask for runs that lie together, in one call."""
        lets_suspect = self._suspects.take()
        self._starting += 1
        subscribed = self._subscriptions.statuses(function)
        requests = [one.request for one in asked]
        start(
            self._wire, function, requests, int(lets_suspect), subscribed, partial(self._replied, asked, lets_suspect)
        )

    def _replied(
        self, asked: Sequence[_Asked], lets_suspect: bool, replies: Sequence[StartReply], error: BaseException | None
    ) -> None:
        self._starting -= 1
        if lets_suspect:
            is_suspect = (reply.word == "go" and reply.crashes >= 2 for reply in replies)
            self._suspects.passed(
                next((one.delivery for one, is_it in zip(asked, is_suspect, strict=False) if is_it), None)
            )
        if error is not None:
            # Redis refuses for good (a missing right): they are dropped here, and reclaimed later.
            for one in asked:
                self._fail(one.delivery, repr(error))
            return
        reached("start.replied")
        for (delivery, event, request), reply in zip(asked, replies, strict=True):
            try:
                self._take_reply(delivery.feed.function, StartedRun(delivery, request, reply, event))
            except Exception as failure:  # noqa: BLE001 - one bad entry must not take its read along
                self._fail(delivery, repr(failure))
        self._next_suspect()

    def _take_reply(self, function: Function, started: StartedRun) -> None:
        delivery, request, reply = started.delivery, started.request, started.reply
        word = reply.word
        if function.cancel_on and (word == "later" or (word == "go" and not reply.resumed)):
            # A run has just been made: has what cancels it come already?
            event = started.event or codec.decode_as(request.event, RawEvent)
            self._background.start(self._cancels.look_back(function, request.run, event))
        if word == "later":
            self._alarms.expect(function, max(0, request.not_before - request.queued))
        if word == "go" and reply.to_load:
            self._background.start(self._load(started))
        elif word == "go":
            self._queue.add(started)
        elif word == "suspect":
            self._suspects.wait(delivery)
            self._slots.wait_no_more()
        elif word == "error":
            self._fail(delivery, reply.why)
        else:
            self._not_started(function, delivery, request, word)

    async def _load(self, started: StartedRun) -> None:
        """Load what start left out of its reply; then the run waits for a slot like any other."""
        delivery = started.delivery
        try:
            await load_memos(self._wire, delivery.feed.function.slug, started.request.run, started.reply)
        except Exception as failure:  # noqa: BLE001 - one bad run must not take others along
            self._fail(delivery, repr(failure))
            self._left([delivery])
        else:
            self._queue.add(started)

    def _not_started(self, function: Function, delivery: Delivery, request: StartRequest, word: str) -> None:
        self._leave(delivery, "elsewhere" if word == "elsewhere" else "turn over")
        if self._signals.not_started:
            self._signals.not_started.send(NotStarted(function.slug, request.run, word))
        if word == "crashed" and self._signals.run_ended:
            why = worker_crash(MAX_CRASHES)
            self._signals.run_ended.send(RunEnded(function.slug, request.run, "failed", why.told(), why.name))
        if word in ("crashed", "cancelled") and self._tracing is not None:
            self._background.start(_trace_end(self._wire, self._tracing, function.slug, request.run))
        elif word == "gone":
            self._signals.notice("a turn was due of a run that is gone", function=function.slug, run=request.run)

    def _leave(self, delivery: Delivery, how: Exit) -> None:
        self._exits.leave(delivery, how)
        self._slots.wait_no_more()

    def _fail(self, delivery: Delivery, why: str) -> None:
        self._slots.wait_no_more()
        self._let_go(delivery, why)

    def _let_go(self, delivery: Delivery, why: str) -> None:
        self._exits.leave(delivery, "lost")
        self._signals.notice(FAILED, stream=delivery.feed.stream, entry=delivery.id, error=why)

    # -- slots and suspects -----------------------------------------------------------------------------------------

    def free_slot(self) -> None:
        """Give a slot back; a run that waits for one gets it."""
        self._slots.give_back()
        self._queue.slot_freed()

    def not_begun(self, delivery: Delivery) -> None:
        """A run that had a slot does not begin after all."""
        self.free_slot()
        self._left([delivery])

    def fail_to_begin(self, delivery: Delivery, why: str) -> None:
        """A run that had a slot could not begin."""
        self.not_begun(delivery)
        self._let_go(delivery, why)

    def suspect_left(self) -> None:
        """The suspect that ran has left: the next may be tried."""
        self._suspects.passed(None)
        self._next_suspect()

    def _left(self, deliveries: Sequence[Delivery]) -> None:
        if self._suspects.left(deliveries):
            self._next_suspect()

    def _next_suspect(self) -> None:
        if self._suspects and self._slots.free > len(self._queue) and (delivery := self._suspects.next()) is not None:
            delivery.owner = ""
            self._slots.wait()
            self._start([delivery])

    def beat(self) -> None:
        """Called every 100 ms: give back the entries that have waited too long for a slot."""
        self._next_suspect()
        late = self._queue.overdue(time.monotonic())
        self._left(late)
        for delivery in late:
            self._exits.leave(delivery, "given back")

    # -- stopping ---------------------------------------------------------------------------------------------------

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out, of the entries that do not run yet, those for which `is_meant` is true."""
        out = self._queue.take_out(is_meant)
        suspects = self._suspects.take_out(is_meant)
        self._left(out)
        return out + suspects

    def under_way(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that have not ended."""
        return self._background.tasks

    def close(self) -> None:
        """End what goes on in the background."""
        self._background.cancel()


async def _trace_end(wire: Wire, tracing: Tracing, slug: str, run: str) -> None:
    """Tell whoever makes spans of a run that start has ended: there was no turn to tell it."""
    ended = await load_end(wire, slug, run)
    if ended is not None:
        tracing.turn(slug, run, 0, ended.began()).ended(ended.status, ended.ended * 1_000_000, ended.error)
