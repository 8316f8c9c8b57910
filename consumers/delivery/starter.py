"""Starter: start says which runs of entries in hand may have their code run; those that may get a slot each.

Runs are started before they have a slot: when one frees, the next body begins at once, not a round trip later.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import RunEnded, Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, run_id, token
from stepstream.bus.wire.leases import consumer_worker
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.begin import begun_event
from stepstream.checkpoint.run.start import StartReply, StartRequest, load_memos, start
from stepstream.checkpoint.waits import cancel_index
from stepstream.checkpoint.waits.subscriptions import Subscriptions
from stepstream.consumers.delivery.background import outside
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exit, Exits
from stepstream.consumers.delivery.failing import FAILED
from stepstream.consumers.delivery.slot_queue import SlotQueue
from stepstream.consumers.delivery.slots import Slots

Made = Callable[[Function, str, RawEvent], None]
Go = Callable[[Delivery, RawEvent | None, StartRequest, StartReply], None]


class Starter:
    """What one executor has in hand and does not run yet.

    `go` is called with each that may, `made` with new runs, `later` with how long one waits for its event's time, ms.
    """

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        capacity: Slots,
        exits: Exits,
        heard: Subscriptions,
        worker: str,
        go: Go,
        made: Made,
        later: Callable[[Function, int], None],
    ) -> None:
        self._wire = wire
        self._signals = signals
        self._capacity = capacity
        self._exits = exits
        self._heard = heard
        self._worker = worker
        self._go = go
        self._made = made
        self._later = later
        self._loop = asyncio.get_running_loop()
        self._line = SlotQueue(self._loop, capacity)
        self._starting: set[Any] = set()
        self._loading: set[asyncio.Task[None]] = set()
        self._suspects: deque[Delivery] = deque()
        self._suspect_runs = False
        self._suspect: Delivery | None = None
        """The one that was let through, until it leaves."""

    def __bool__(self) -> bool:
        """Whether anything waits to start."""
        return bool(self._starting or self._loading or self._line or self._suspects)

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Start the runs of entries of one source."""
        self._capacity.wait(len(deliveries))
        wanted: list[Delivery] = []
        for delivery in deliveries:
            if delivery.started is None:
                wanted.append(delivery)
                continue
            (asked, started), delivery.started = delivery.started, None
            delivery.run = asked.run
            self._let_run(delivery, None, asked, started)
        if wanted:
            self._start(wanted)

    def _start(self, deliveries: Sequence[Delivery]) -> None:
        """Ask for the runs of entries of one source."""
        function = deliveries[0].source.function
        wanted: list[Delivery] = []
        events: list[RawEvent | None] = []
        asked: list[StartRequest] = []
        for delivery in deliveries:
            is_event = bool(delivery.source.triggers)
            if not is_event and b"bell" in delivery.fields:  # rung for a function that had limits once
                self._leave(delivery, "passed")
                continue
            try:
                event = delivery.wanted_event() if is_event else None
                if is_event and event is None:
                    self._leave(delivery, "passed")
                    continue
                asked.append(self._ask(function, delivery, event))
                delivery.run = asked[-1].run
            except ValueError as error:
                self._exits.drop_senseless(delivery, error)
                self._capacity.wait_no_more()
                continue
            wanted.append(delivery)
            events.append(event)
        if not asked:
            return
        lets_suspect = not self._suspect_runs
        self._suspect_runs = True

        def then(answers: list[StartReply], error: BaseException | None) -> None:
            if lets_suspect:
                are = (
                    one
                    for one, answer in zip(wanted, answers, strict=False)
                    if answer.word == "go" and answer.crashes >= 2
                )
                self._suspect = next(are, None)
                self._suspect_runs = self._suspect is not None
            self._starting.discard(then)
            self._started(function, wanted, events, asked, answers, error)

        self._starting.add(then)
        start(self._wire, function, asked, 1 if lets_suspect else 0, self._heard.statuses(function), then)

    def _started(
        self,
        function: Function,
        deliveries: Sequence[Delivery],
        events: Sequence[RawEvent | None],
        asked: Sequence[StartRequest],
        answers: Sequence[StartReply],
        error: BaseException | None,
    ) -> None:
        if error is not None:
            # Redis refuses for good (a missing right): let go; they are taken up again later.
            for delivery in deliveries:
                self._let_go(delivery, repr(error))
            return
        reached("start.replied")
        for delivery, event, one, answer in zip(deliveries, events, asked, answers, strict=True):
            try:
                self._answered(function, delivery, event, one, answer)
            except Exception as failure:  # noqa: BLE001 - one bad entry must not take its read along
                self._let_go(delivery, repr(failure))
        self._next_suspect()

    def _answered(
        self, function: Function, delivery: Delivery, event: RawEvent | None, asked: StartRequest, answer: StartReply
    ) -> None:
        if function.cancel_on and (answer.word == "later" or (answer.word == "go" and not answer.resumed)):
            self._made(function, asked.run, event or codec.decode_as(asked.event, RawEvent))
        if answer.word == "later":
            self._later(function, max(0, asked.not_before - asked.queued))
        if answer.word == "go" and answer.to_load:
            task = outside(self._loop, self._load(delivery, event, asked, answer))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)
        elif answer.word == "go":
            self._let_run(delivery, event, asked, answer)
        elif answer.word == "suspect":
            self._suspects.append(delivery)
            self._capacity.wait_no_more()
        elif answer.word == "error":
            self._let_go(delivery, answer.why)
        else:
            self._not_started(function, delivery, asked, answer)

    async def _load(self, delivery: Delivery, event: RawEvent | None, asked: StartRequest, answer: StartReply) -> None:
        """Load what start left out of its answer; then the run stands in line like any other."""
        try:
            await load_memos(self._wire, delivery.source.function.slug, asked.run, answer)
        except Exception as failure:  # noqa: BLE001 - one bad run must not take others along
            self._let_go(delivery, repr(failure))
            self._left([delivery])
        else:
            self._let_run(delivery, event, asked, answer)

    def _let_run(self, delivery: Delivery, event: RawEvent | None, asked: StartRequest, answer: StartReply) -> None:
        def begin() -> None:
            try:
                self._go(delivery, event, asked, answer)
            except Exception as failure:  # noqa: BLE001 - one bad run must not take others along
                self.not_begun(delivery)
                self._drop(delivery, repr(failure))

        self._line.add(delivery, begin)

    def _leave(self, delivery: Delivery, how: Exit) -> None:
        self._exits.leave(delivery, how)
        self._capacity.wait_no_more()

    def _let_go(self, delivery: Delivery, why: str) -> None:
        self._capacity.wait_no_more()
        self._drop(delivery, why)

    def _drop(self, delivery: Delivery, why: str) -> None:
        self._exits.leave(delivery, "lost")
        self._signals.notice(FAILED, stream=delivery.source.stream, entry=delivery.id, error=why)

    def _ask(self, function: Function, delivery: Delivery, event: RawEvent | None) -> StartRequest:
        entry = delivery.source.entry_name(delivery.id)
        owner = delivery.owner
        if owner and consumer_worker(owner) == self._worker:
            owner = ""  # our own earlier name did not crash: this process lives
        ms = entry_ms(delivery.id)
        if event is None:
            fields = delivery.fields
            run = fields.get(b"run", b"").decode()
            turn = int(fields.get(b"turn", b"1"))
            source, begins = fields.get(b"source", b"").decode(), begun_event(fields)
            parent = fields.get(b"parent", b"").decode()
            indexed = ""
            if begins and function.cancel_on:
                indexed = cancel_index.words(function, codec.decode_as(begins, RawEvent), run, ms)
            return StartRequest(
                run,
                turn,
                entry,
                owner,
                delivery.consumer,
                token(),
                begins,
                source,
                ms,
                parent,
                cancels=indexed,
                rerun_of=fields.get(b"rerun_of", b"").decode(),
            )
        run = run_id(function.slug, "event", delivery.source.cause(delivery.id), ms)
        return StartRequest(
            run,
            1,
            entry,
            owner,
            delivery.consumer,
            token(),
            codec.encode(event),
            "event",
            ms,
            "",
            event.ts if event.ts > ms else 0,
            cancel_index.words(function, event, run, ms),
        )

    def _not_started(self, function: Function, delivery: Delivery, asked: StartRequest, answer: StartReply) -> None:
        self._leave(delivery, "elsewhere" if answer.word == "elsewhere" else "ended")
        if answer.word == "crashed" and self._signals.run_ended:
            self._signals.run_ended.send(
                RunEnded(function.slug, asked.run, "failed", "worker_crash: the worker died each time it ran this")
            )
        elif answer.word == "gone":
            self._signals.notice("a turn was due of a run that is gone", function=function.slug, run=asked.run)

    # -- slots and suspects -----------------------------------------------------------------------------------------

    def free_slot(self) -> None:
        """Give a slot back; an entry that waits in line gets it."""
        self._capacity.give_back()
        self._line.slot_freed()

    def not_begun(self, delivery: Delivery) -> None:
        """A run that had a slot does not begin after all."""
        self.free_slot()
        self._left([delivery])

    def suspect_left(self) -> None:
        """The suspect that ran has left: the next may be tried."""
        self._suspect_runs, self._suspect = False, None
        self._next_suspect()

    def _left(self, deliveries: Sequence[Delivery]) -> None:
        if self._suspect is not None and self._suspect in deliveries:
            self.suspect_left()

    def _next_suspect(self) -> None:
        if self._suspects and not self._suspect_runs and self._capacity.free > 0:
            delivery = self._suspects.popleft()
            delivery.owner = ""
            self._capacity.wait()
            self._start([delivery])

    def beat(self) -> None:
        """Called every 100 ms: give back the entries that have waited too long for a slot."""
        self._next_suspect()
        late = self._line.overdue(time.monotonic())
        self._left(late)
        for delivery in late:
            self._exits.leave(delivery, "given back")

    def take_out(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out, of the entries that do not run yet, those for which `is_meant` is true."""
        out = self._line.take_out(is_meant)
        suspects = [delivery for delivery in self._suspects if is_meant(delivery)]
        self._suspects = deque(delivery for delivery in self._suspects if not is_meant(delivery))
        self._left(out)
        return out + suspects
