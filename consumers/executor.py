"""Executor: entries in hand become turns; what comes of a turn is recorded, then the entry is acknowledged.

An answer always comes before an acknowledgement, and never in the same write: an acknowledged entry whose end was
refused would be a lost run.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from bus import codec
from bus.event import RawEvent
from bus.failpoints import reached
from bus.function import Function
from bus.ids import entry_ms, run_id, token
from bus.observe.signals import AttemptFailed, RunEnded, RunParked, RunStarted, Signals
from bus.trigger import Trigger
from bus.wire.leases import consumer_worker
from bus.wire.streams import is_pending_for, release
from bus.wire.wire import Wire
from checkpoint.end import end
from checkpoint.owned import Owned
from checkpoint.park import park
from checkpoint.start import Asked, Started, start
from consumers.acks import Acks
from consumers.capacity import Capacity
from consumers.delivery import Delivery
from consumers.handler import Left, Raised, Returned, call
from consumers.quiet import outside
from consumers.turn import Parting, Turn

OVERFLOW_S = 1.0
_TICK_S = 0.1


class Executor:
    """All turns of one worker."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        capacity: Capacity,
        worker: str,
        state: Any,
        on_parked: Callable[[Function, int], None],
    ) -> None:
        self.acks = Acks(wire)
        self.turns: set[Turn] = set()
        self._wire = wire
        self._signals = signals
        self._capacity = capacity
        self._worker = worker
        self._state = state
        self._on_parked = on_parked
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(capacity.total, thread_name_prefix="bus-step")
        self._overflow: deque[tuple[float, Delivery]] = deque()
        self._suspects: deque[Delivery] = deque()
        self._suspect_runs = False
        self._ticking = False
        self._background: set[asyncio.Task[Any]] = set()

    # -- beginning --------------------------------------------------------------------------------------------------

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the runs of entries of one source, as far as there are slots: those are taken at once."""
        ready: list[Delivery] = []
        for delivery in deliveries:
            if self._capacity.take():
                ready.append(delivery)
            else:
                self._overflow.append((time.monotonic(), delivery))
        if ready:
            self._background_task(self._start(ready))

    async def _start(self, deliveries: Sequence[Delivery]) -> None:
        function = deliveries[0].source.function
        events: list[RawEvent | None] = []
        asked: list[Asked] = []
        wanted: list[Delivery] = []
        for delivery in deliveries:
            trigger = delivery.source.trigger
            event = None if trigger is None else _event_of(delivery, trigger)
            if trigger is not None and event is not None and not _is_wanted(trigger, event):
                self.acks.add(delivery)
                self._free_slot()
                continue
            wanted.append(delivery)
            events.append(event)
            asked.append(self._ask(function, delivery, event))
        if not asked:
            return
        lets_suspect = not self._suspect_runs
        self._suspect_runs = True
        suspect_starts = False
        try:
            answers = await start(self._wire, function, asked, 1 if lets_suspect else 0)
            reached("start.replied")
            suspect_starts = any(answer.word == "go" and answer.crashes >= 2 for answer in answers)
        except Exception:
            # Redis refuses for good (a key of another type, a missing right): let go; they are taken up again later.
            for delivery in wanted:
                delivery.source.drop(delivery)
                self._free_slot()
            raise
        finally:
            if lets_suspect:
                self._suspect_runs = suspect_starts
        for delivery, event, one, answer in zip(wanted, events, asked, answers, strict=True):
            if answer.word == "go":
                self._go(function, delivery, event, one, answer)
            elif answer.word == "suspect":
                self._suspects.append(delivery)
                self._free_slot()
            else:
                self._not_started(function, delivery, one, answer)
        self._next_suspect()

    def _ask(self, function: Function, delivery: Delivery, event: RawEvent | None) -> Asked:
        entry = delivery.source.entry_name(delivery.id)
        # Our own earlier name did not crash: this process lives.
        owner = "" if consumer_worker(delivery.owner) == self._worker else delivery.owner
        if event is None:
            run = delivery.fields.get(b"run", b"").decode()
            turn = int(delivery.fields.get(b"turn", b"1"))
            return Asked(run, turn, entry, owner, delivery.consumer, token(), b"", "", 0)
        ms = entry_ms(delivery.id)
        run = run_id(function.slug, "event", entry, ms)
        return Asked(run, 1, entry, owner, delivery.consumer, token(), codec.encode(event), "event", ms)

    def _not_started(self, function: Function, delivery: Delivery, asked: Asked, answer: Started) -> None:
        self.acks.add(delivery)
        self._free_slot()
        if answer.word == "crashed" and self._signals.run_ended:
            self._signals.run_ended.send(
                RunEnded(function.slug, asked.run, "failed", "worker_crash: the worker died each time it ran this")
            )
        elif answer.word == "gone":
            self._signals.notice("a turn was due of a run that is gone", function=function.slug, run=asked.run)

    def _go(
        self, function: Function, delivery: Delivery, event: RawEvent | None, asked: Asked, answer: Started
    ) -> None:
        if delivery.consumer != delivery.source.lease.consumer:  # the lease was lost while start was under way
            self._free_slot()
            return
        if answer.event is not None:
            try:
                event = codec.decode_as(answer.event, RawEvent)
            except msgspec.MsgspecError:
                event = event or RawEvent("", "", msgspec.Raw(answer.event), 0)
        assert event is not None
        if answer.turn < asked.turn:
            self._signals.notice("the server has rolled back: a run goes on from an earlier turn", run=asked.run)
        owned = Owned(function.slug, asked.run, answer.turn, asked.fence)
        turn = Turn(self._wire, self._signals, self._threads, function, delivery, owned, answer, self._parted)
        self.turns.add(turn)
        if self._signals.run_started:
            self._signals.run_started.send(RunStarted(function.slug, asked.run, answer.turn))
        self._background_task(self._drive(turn, event))
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_S, self._tick)

    # -- driving ----------------------------------------------------------------------------------------------------

    async def _drive(self, turn: Turn, event: RawEvent) -> None:
        outcome = await call(turn, event, self._state)
        if isinstance(outcome, Left):
            return  # _parted has it
        forgotten = turn.never_awaited()
        if forgotten:
            self._signals.notice(
                "steps were called and never awaited: nothing of them was done",
                function=turn.function.slug,
                run=turn.owned.run,
                steps=forgotten,
            )
        turn.cancel_tasks()
        self._leave(turn)  # the slot is free when the body ends; its end follows while the entry is still in hand
        try:
            word = await self._record(turn, outcome)
        except Exception:
            turn.delivery.source.drop(turn.delivery)
            raise
        if word in ("mine", "over"):
            self.acks.add(turn.delivery, "end.acked")
        else:
            await self._look_again(turn.delivery)

    async def _record(self, turn: Turn, outcome: Returned | Raised) -> str:
        slug, run = turn.owned.slug, turn.owned.run
        signals = self._signals
        if isinstance(outcome, Returned):
            word = await end(self._wire, turn.owned, "completed", output=outcome.output)
            if word == "mine" and signals.run_ended:
                signals.run_ended.send(RunEnded(slug, run, "completed"))
            return word
        told = f"{outcome.failure.name}: {outcome.failure.message}"
        if outcome.delay_ms is None:
            word = await end(self._wire, turn.owned, "failed", error=outcome.failure)
            if word == "mine" and signals.run_ended:
                signals.run_ended.send(RunEnded(slug, run, "failed", told))
            return word
        parked = await park(
            self._wire,
            turn.owned,
            known=turn.known,
            due=f"+{outcome.delay_ms}",
            attempt=turn.attempt + 1,
            error=outcome.failure,
        )
        if parked.word == "mine":
            if signals.attempt_failed:
                signals.attempt_failed.send(AttemptFailed(slug, run, "", turn.attempt, told, outcome.delay_ms))
            if signals.run_parked:
                signals.run_parked.send(RunParked(slug, run, parked.due_in_ms))
            self._on_parked(turn.function, parked.due_in_ms)
        return parked.word

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
            self.acks.add(turn.delivery, "park.acked")
        elif parting == "abandoned":
            turn.delivery.source.drop(turn.delivery)
        self._leave(turn)
        if parting in ("lost", "absent"):
            await self._look_again(turn.delivery)

    async def _look_again(self, delivery: Delivery) -> None:
        """A write was refused: is the entry still pending for us? Then the run starts again with what is known."""
        source = delivery.source
        still_ours = delivery.consumer == source.lease.consumer and await is_pending_for(
            self._wire, source.stream, source.group, delivery.id, delivery.consumer
        )
        if still_ours:
            delivery.owner = ""
            self.begin([delivery])
        else:
            source.drop(delivery)

    def _leave(self, turn: Turn) -> None:
        if turn not in self.turns:
            return
        self.turns.discard(turn)
        turn.when_threads_end(self._free_slot)
        if turn.is_suspect:
            self._suspect_runs = False
            self._next_suspect()

    def _free_slot(self) -> None:
        self._capacity.give_back()
        if self._overflow and self._capacity.take():
            _, delivery = self._overflow.popleft()
            self._background_task(self._start([delivery]))

    def _next_suspect(self) -> None:
        if self._suspects and not self._suspect_runs and self._capacity.take():
            delivery = self._suspects.popleft()
            delivery.owner = ""
            self._background_task(self._start([delivery]))

    # -- in the background ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        for turn in tuple(self.turns):
            turn.tell_slow_bodies(now)
        while self._overflow and now - self._overflow[0][0] > OVERFLOW_S:
            _, delivery = self._overflow.popleft()
            self._background_task(self.release([delivery]))
        self._next_suspect()
        if self.turns or self._overflow or self._suspects:
            self._loop.call_later(_TICK_S, self._tick)
        else:
            self._ticking = False

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give entries of one source back for any worker to claim."""
        source = deliveries[0].source
        for delivery in deliveries:
            source.drop(delivery)
        await release(
            self._wire,
            source.stream,
            source.group,
            deliveries[0].consumer,
            [delivery.id for delivery in deliveries],
        )
        reached("release.replied")

    def abandon(self, is_lost: Callable[[Delivery], bool]) -> None:
        """Give up the turns and the waiting entries for which `is_lost` is true; nothing is acknowledged."""
        for turn in tuple(self.turns):
            if is_lost(turn.delivery):
                turn.part("abandoned")
        self._overflow = deque((since, d) for since, d in self._overflow if not is_lost(d))
        self._suspects = deque(d for d in self._suspects if not is_lost(d))

    def _background_task(self, work: Any) -> None:
        task = outside(self._loop, work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._signals.notice("the engine failed at a run; it is taken up again", error=repr(error))

    async def settled(self) -> None:
        """Wait until all that was begun is recorded and acknowledged."""
        while self._background:
            await asyncio.wait(tuple(self._background))
        await self.acks.settled()

    def close(self) -> None:
        """Let the threads go; a body that still runs in one is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _event_of(delivery: Delivery, trigger: Trigger) -> RawEvent:
    """Return the event of a stream entry; what somebody added by hand may lack all but its data."""
    fields = delivery.fields
    name = fields.get(b"name")
    event_id = fields.get(b"id")
    ts = fields.get(b"ts", b"")
    version = fields.get(b"v")
    return RawEvent(
        id=event_id.decode() if event_id else delivery.id,
        name=name.decode() if name else trigger.name,
        data=msgspec.Raw(fields.get(b"data", b"{}")),
        ts=int(ts) if ts.isdigit() else entry_ms(delivery.id),
        v=version.decode() if version else None,
    )


def _is_wanted(trigger: Trigger, event: RawEvent) -> bool:
    """Whether the trigger has no condition, or it is true; data that is no JSON makes it false."""
    try:
        return trigger.condition is None or trigger.condition.matches(event.plain())
    except msgspec.MsgspecError:
        return False
