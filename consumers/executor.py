"""Executor: entries in hand become turns; what comes of a turn is recorded, then the entry is acknowledged.

An answer always comes before an acknowledgement, and never in the same write: an acknowledged entry whose end was
refused would be a lost run.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import AttemptFailed, RunEnded, RunParked, RunStarted, Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire.streams import is_pending_for
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import end
from stepstream.checkpoint.run.fence import Owned
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.poll import look
from stepstream.checkpoint.run.start import StartReply, StartRequest
from stepstream.checkpoint.run.suspend import park
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import FAILED, tell
from stepstream.consumers.delivery.slots import BEAT_S, Slots
from stepstream.consumers.delivery.starter import Starter
from stepstream.consumers.drivers.local import Left, Raised, Returned, call
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.relay.subscriptions import Subscriptions
from stepstream.consumers.turn.idle_detection import outside
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.turn import LINGER_S, Parting, Turn

LOOK_EVERY_S = 1.0
CHANGED_AGAIN_MS = 60_000
"""How often a run whose code has changed is tried: it goes on within a minute of the deploy that mends it."""


class Executor:
    """All turns of one worker."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        capacity: Slots,
        heard: Subscriptions,
        errands: Services,
        cancels: EventCancellation,
        worker: str,
        state: Any,
        on_parked: Callable[[Function, int], None],
        exits: Exits,
    ) -> None:
        self.turns: set[Turn] = set()
        self._wire = wire
        self._signals = signals
        self._capacity = capacity
        self._heard = heard
        self._errands = errands
        self._cancels = cancels
        self._state = state
        self._on_parked = on_parked
        self._exits = exits
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(capacity.total, thread_name_prefix="bus-step")
        self._starter = Starter(wire, signals, capacity, exits, heard, worker, self._go, self._made, on_parked)
        self._beating: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._background: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Future[Any]] = set()
        self._context = contextvars.Context()

    # -- beginning --------------------------------------------------------------------------------------------------

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the runs of entries of one source; each that may have its code run gets a slot, or waits for one."""
        self._starter.begin(deliveries)
        self._begin_beating()

    def begin_started(self, delivery: Delivery, asked: StartRequest, started: StartReply) -> None:
        """Let a run's code run that was started as it was read."""
        self._starter.begin_started(delivery, asked, started)
        self._begin_beating()

    def expect(self, function: Function, due_in_ms: int) -> None:
        """A timer was set for something else than a turn that parked."""
        self._on_parked(function, due_in_ms)

    def _begin_beating(self) -> None:
        if self._beating is None:
            self._beating = self._loop.call_later(BEAT_S, self._beat)

    def _go(self, delivery: Delivery, event: RawEvent | None, asked: StartRequest, answer: StartReply) -> None:
        """A run may have its code run."""
        function = delivery.source.function
        if delivery.consumer != delivery.source.lease.consumer:  # the lease was lost while start was under way
            self._starter.not_begun(delivery)
            return
        stored = answer.event or (asked.event if event is None else None)
        if stored is not None:
            try:
                event = codec.decode_as(stored, RawEvent)
            except msgspec.MsgspecError:
                event = event or RawEvent("", "", msgspec.Raw(stored), 0)
        assert event is not None
        if answer.turn < asked.turn:
            self._signals.notice("the server has rolled back: a run goes on from an earlier turn", run=asked.run)
        owned = Owned(function.slug, asked.run, answer.turn, asked.fence)
        turn = Turn(
            self._loop,
            self._wire,
            self._signals,
            self._threads,
            function,
            delivery,
            owned,
            answer,
            event,
            self._errands,
            self._parted,
        )
        if answer.expires:
            turn.expire_in(answer.expires - answer.now)
        self.turns.add(turn)
        if self._signals.run_started:
            self._signals.run_started.send(RunStarted(function.slug, asked.run, answer.turn))
        turn.main = outside(self._loop, self._drive(turn))

    def _made(self, function: Function, run: str, event: RawEvent) -> None:
        """A run has just been made: has what cancels it come already?"""
        self._background_task(self._cancels.look_back(function, run, event))

    # -- driving ----------------------------------------------------------------------------------------------------

    async def _drive(self, turn: Turn) -> None:
        """The turn's main task: the handler runs in it. Nothing is awaited here once the slot is given back."""
        outcome = await call(turn, self._state)
        if isinstance(outcome, Left):
            return  # _parted has it
        forgotten = turn.ids.never_awaited()
        if forgotten:
            self._signals.notice(
                "steps were called and never awaited: nothing of them was done",
                function=turn.function.slug,
                run=turn.owned.run,
                steps=forgotten,
            )
        turn.cancel_tasks()
        self._free(turn)  # the slot is free when the body ends; its end follows while the entry is still in hand
        if isinstance(outcome, Raised) and outcome.delay_ms is not None:
            self._background_task(self._try_later(turn, outcome.failure, outcome.delay_ms, turn.attempt + 1))
        else:
            self._end(turn, outcome)

    def _end(self, turn: Turn, outcome: Returned | Raised | Failure) -> None:
        """Record an end; a Failure is why the run is cancelled."""
        heard = self._heard.statuses(turn.function)
        if isinstance(outcome, Returned):
            recorded = end(
                self._wire, turn.owned, "completed", output=outcome.output, leaves=turn.leaves(), heard=heard
            )
        else:
            status, error = ("cancelled", outcome) if isinstance(outcome, Failure) else ("failed", outcome.failure)
            recorded = end(self._wire, turn.owned, status, error=error, leaves=turn.leaves(), heard=heard)
        self._ending.add(recorded)
        recorded.add_done_callback(partial(self._ended, turn, outcome), context=self._context)

    def _ended(self, turn: Turn, outcome: Returned | Raised | Failure, recorded: asyncio.Future[Any]) -> None:
        self._ending.discard(recorded)
        error = recorded.exception()
        if error is not None:
            self._exits.leave(turn.delivery, "lost")
            tell(self._signals, FAILED, error)
            return
        reached("end.replied")
        word = recorded.result()
        if word == b"mine" and self._signals.run_ended:
            slug, run = turn.owned.slug, turn.owned.run
            if isinstance(outcome, Returned):
                self._signals.run_ended.send(RunEnded(slug, run, "completed"))
            elif isinstance(outcome, Failure):
                self._signals.run_ended.send(RunEnded(slug, run, "cancelled", outcome.told()))
            else:
                self._signals.run_ended.send(RunEnded(slug, run, "failed", outcome.failure.told()))
        if word in (b"mine", b"over"):
            self._exits.leave(turn.delivery, "ended", "end.acked")
        else:
            self._background_task(self._look_again(turn.delivery))

    async def _try_later(self, turn: Turn, failure: Failure, delay_ms: int, attempt: int) -> None:
        try:
            parked = await park(
                self._wire, turn.owned, known=turn.known, due=f"+{delay_ms}", attempt=attempt, error=failure
            )
        except Exception:
            self._exits.leave(turn.delivery, "lost")
            raise
        if parked.word == "mine":
            slug, run = turn.owned.slug, turn.owned.run
            if self._signals.attempt_failed and attempt > turn.attempt:
                self._signals.attempt_failed.send(AttemptFailed(slug, run, "", turn.attempt, failure.told(), delay_ms))
            if self._signals.run_parked:
                self._signals.run_parked.send(RunParked(slug, run, parked.due_in_ms))
            self._on_parked(turn.function, parked.due_in_ms)
        if parked.word == "cancel":
            self._end(turn, parked.cancel or Failure("cancelled", ""))
        elif parked.word in ("mine", "over"):
            self._exits.leave(turn.delivery, "parked", "end.acked")
        else:
            await self._look_again(turn.delivery)

    # -- parting ----------------------------------------------------------------------------------------------------

    def _parted(self, turn: Turn, parting: Parting, due_in_ms: int) -> None:
        if parting == "parked":
            self._on_parked(turn.function, due_in_ms)
        self._background_task(self._part(turn, parting))

    async def _part(self, turn: Turn, parting: Parting) -> None:
        alive = await turn.gone()
        if alive:
            self._signals.notice(
                "a handler lives on after its turn has ended; do not catch TurnOver or CancelledError",
                function=turn.function.slug,
                run=turn.owned.run,
                at=alive,
            )
        if parting in ("parked", "over"):
            self._exits.leave(turn.delivery, "parked", "park.acked")
        elif parting == "given back":
            self._exits.leave(turn.delivery, "given back")
        elif parting == "abandoned":
            self._exits.leave(turn.delivery, "lost")
        self._free(turn)
        if parting == "changed":
            await self._wait_for_deploy(turn)
        if turn.cancelled is not None and parting == "cancelled":
            self._end(turn, turn.cancelled)
        if parting in ("lost", "absent"):
            await self._look_again(turn.delivery)

    async def _wait_for_deploy(self, turn: Turn) -> None:
        """The function does not call what the run has begun: nothing new was done, and no attempt is used up."""
        steps = ", ".join(sorted(turn.uncalled))
        slug, run = turn.owned.slug, turn.owned.run
        self._signals.notice(
            "the code has changed under a run; it waits for a deploy", function=slug, run=run, steps=steps
        )
        failure = Failure(
            "code_changed",
            f"the function as it is now does not call {steps}, which this run has begun; it waits for a version "
            "that does (docs/living-with-code-changes.md)",
        )
        await self._try_later(turn, failure, CHANGED_AGAIN_MS, turn.attempt)

    async def _look_again(self, delivery: Delivery) -> None:
        """A write was refused: is the entry still pending for us? Then it is taken again, as if it had just come."""
        source = delivery.source
        try:
            still_ours = delivery.consumer == source.lease.consumer and await is_pending_for(
                self._wire, source.stream, source.group, delivery.id, delivery.consumer
            )
        except Exception:
            self._exits.leave(delivery, "lost")
            raise
        if still_ours:
            delivery.owner = ""
            source.handler.begin([delivery])
        else:
            self._exits.leave(delivery, "lost")

    def _free(self, turn: Turn) -> None:
        """Give the turn's slot back, once no body of it runs in a thread any more."""
        if turn not in self.turns:
            return
        self.turns.discard(turn)
        turn.bodies.when_threads_end(self._starter.free_slot)
        if turn.is_suspect:
            self._starter.suspect_left()

    # -- in the background ------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        now = time.monotonic()
        for turn in tuple(self.turns):
            turn.bodies.tell_slow(now)
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._background_task(self._look(now))
        self._starter.beat()
        is_busy = bool(self.turns or self._starter)
        self._capacity.beat(busy=is_busy)
        self._beating = self._loop.call_later(BEAT_S, self._beat) if is_busy else None

    async def _look(self, now: float) -> None:
        """See what has come from outside for the turns that have gone on for a second."""
        old: dict[str, list[Turn]] = {}
        for turn in self.turns:
            if now - turn.begun >= LOOK_EVERY_S and not turn.over:
                old.setdefault(turn.owned.slug, []).append(turn)
        for slug, turns in old.items():
            seen = await look(self._wire, slug, [(turn.owned.run, turn.known) for turn in turns])
            for turn, found in zip(turns, seen, strict=True):
                if found.cancel is not None:
                    turn.cancel(found.cancel)
                elif found.news and not turn.over:
                    turn.hear(found.news)

    def give_back_waiting(self) -> None:
        """Give back what is in hand and has not begun."""
        for delivery in self._starter.take_out(lambda _: True):
            self._exits.leave(delivery, "given back")

    async def wind_up(self) -> None:
        """Give back the turns that are still at work, whatever they do.

        A body in a thread cannot be stopped, and must not run twice: its entry stays in hand, under its lease, until
        the body has ended and is recorded. Waits as long as that takes.
        """
        in_threads = [turn for turn in self.turns if turn.bodies.in_threads]
        for turn in tuple(self.turns):
            if turn in in_threads:
                turn.closing = True
                self._signals.notice(
                    "a body still runs in a thread: its run stays this worker's until that ends; "
                    "let the grace period of the process be longer than its longest sync step",
                    function=turn.function.slug,
                    run=turn.owned.run,
                    steps=turn.bodies.in_threads,
                )
            else:
                turn.part("given back")
        await asyncio.gather(*(self._close(turn) for turn in in_threads))

    async def _close(self, turn: Turn) -> None:
        ended = asyncio.Event()
        turn.bodies.when_threads_end(ended.set)
        await ended.wait()
        if turn.main is not None:  # its result is recorded now; no other body begins
            await asyncio.wait({turn.main}, timeout=LINGER_S)
        turn.part("given back")

    def abandon(self, is_lost: Callable[[Delivery], bool]) -> None:
        """Give up the turns and the waiting entries for which `is_lost` is true; nothing is acknowledged."""
        for turn in tuple(self.turns):
            if is_lost(turn.delivery):
                turn.part("abandoned")
        self._starter.take_out(is_lost)

    def _background_task(self, work: Any) -> None:
        task = outside(self._loop, work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            tell(self._signals, FAILED, error)

    async def settled(self) -> None:
        """Wait until all that was begun is recorded and acknowledged."""
        while self._background or self._ending:
            await asyncio.wait((*self._background, *self._ending))

    def close(self) -> None:
        """Let the threads go; a body that still runs in one is not waited for. What goes on in the background ends."""
        if self._beating is not None:
            self._beating.cancel()
        for task in self._background:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
