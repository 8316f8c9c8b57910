"""Intake: where events of functions with limits are decided on before they may run.

Entries are read whether there are slots or not, recorded as runs with a verdict, and acknowledged; the runs then wait
in a backlog (dispatcher.py). The queue of such a function brings turns that have their places, new runs (a call, a
schedule, a buffer whose time is over), and entries that only wake the dispatcher.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values import codec
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.admit import Applicant, admit
from stepstream.checkpoint.run.begin import begun_event
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Wakeup
from stepstream.consumers.executor import Executor
from stepstream.consumers.limits import limit_keys
from stepstream.consumers.limits.shared_places import SharedPlaces
from stepstream.consumers.relay import event_cancellation
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.relay.subscriptions import Subscriptions
from stepstream.consumers.turn.idle_detection import outside

AT_ONCE = 200
TOGETHER = 50


def _buffer_ms(function: Function) -> int:
    """Return how soon a buffer of a function may be due."""
    debounce, batch = function.flow.debounce, function.flow.batch
    return milliseconds(debounce.period if debounce else batch.timeout if batch else 0)


class Intake:
    """The intake of one function."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        function: Function,
        executor: Executor,
        heard: Subscriptions,
        made: EventCancellation,
        places: SharedPlaces,
        exits: Exits,
        line: Wakeup,
        slots: Slots,
    ) -> None:
        self.capacity = Slots(AT_ONCE)
        self._wire = wire
        self._signals = signals
        self._function = function
        self._buffer_ms = _buffer_ms(function)
        self._executor = executor
        self._exits = exits
        self._line = line
        self._heard = heard
        self._cancels = made
        self._places = places if any(one.shared for one in function.flow.concurrency) else None
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._working: set[asyncio.Task[Any]] = set()

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Take what was read: new runs are decided on, turns that have their places begin."""
        turns: list[Delivery] = []
        new: list[Delivery] = []
        for delivery in deliveries:
            if delivery.source.kind == "queue" and b"run" not in delivery.fields:
                self._exits.leave(delivery, "passed")  # it only wakes
            elif delivery.source.kind == "queue" and b"event" not in delivery.fields:
                turns.append(delivery)
            else:
                new.append(delivery)
        if turns and self._places is not None:
            self._work(self._begin_placed(self._places, turns))
        elif turns:
            self._executor.begin(turns)
        for start in range(0, len(new), TOGETHER):
            part = new[start : start + TOGETHER]
            taken = sum(self.capacity.take() for _ in part)
            self._work(self._admit(part, taken))

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = outside(self._loop, work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _begin_placed(self, places: SharedPlaces, turns: Sequence[Delivery]) -> None:
        """Begin those turns that get their shared places; the others stand in line again."""
        found = await asyncio.gather(*(self._is_placed(places, delivery) for delivery in turns))
        ready = [delivery for delivery, is_placed in zip(turns, found, strict=True) if is_placed]
        if ready:
            self._executor.begin(ready)

    async def _is_placed(self, places: SharedPlaces, delivery: Delivery) -> bool:
        try:
            if await places.take(self._function, delivery):
                return delivery.is_in_hand
            self._exits.leave(delivery, "passed")
        except ValueError as error:
            self._exits.drop_senseless(delivery, error)
        except Exception as error:  # noqa: BLE001 - the loop's top: it stays pending and is taken up again
            self._exits.leave(delivery, "lost")
            self._signals.notice("asking for shared places failed", function=self._function.slug, error=repr(error))
        return False

    async def settled(self) -> None:
        """Wait until all that was taken is decided on and acknowledged."""
        while self._working:
            await asyncio.wait(tuple(self._working))

    async def _admit(self, deliveries: Sequence[Delivery], slots: int) -> None:
        try:
            wanted: list[tuple[Delivery, Applicant, RawEvent]] = []
            for delivery in deliveries:
                try:
                    found = self._applicant(delivery)
                except ValueError as error:
                    self._exits.drop_senseless(delivery, error)
                    continue
                if found is None:
                    self._exits.leave(delivery, "passed")
                else:
                    wanted.append((delivery, *found))
            if wanted:
                await self._decide(wanted)
        except Exception as error:  # noqa: BLE001 - the loop's top: they stay pending and are taken up again
            for delivery in deliveries:
                self._exits.leave(delivery, "lost")
            self._signals.notice(
                "the intake failed; it is tried again", function=self._function.slug, error=repr(error)
            )
        finally:
            for _ in range(slots):
                self.capacity.give_back()

    async def _decide(self, wanted: Sequence[tuple[Delivery, Applicant, RawEvent]]) -> None:
        function = self._function
        verdicts = await admit(self._wire, function, self._heard.statuses(function), [one for _, one, _ in wanted])
        for (delivery, applicant, event), verdict in zip(wanted, verdicts, strict=True):
            if verdict.word == "error":
                self._exits.leave(delivery, "lost")
                self._signals.notice("the intake failed; it is tried again", run=applicant.run, error=verdict.why)
                continue
            if verdict.word == "there":
                # Decided on before, or begun before the function had limits: then this entry holds it. Start knows.
                self._executor.begin([delivery])
                continue
            self._exits.leave(delivery, "passed")
            if verdict.word == "merged":
                self._executor.expect(function, self._buffer_ms)
            elif verdict.word == "later" and applicant.not_before:
                self._executor.expect(function, max(0, applicant.not_before - applicant.queued))
            if verdict.word == "later" and function.cancel_on:
                await self._cancels.look_back(function, applicant.run, event)
        if self._slots.room > 0:
            self._line.ring()
        else:  # this worker is full; perhaps another is not
            self._wire.tell("XADD", keys.queue(function.slug), "*", "bell", "admitted")

    def _applicant(self, delivery: Delivery) -> tuple[Applicant, RawEvent] | None:
        """Return what a delivered entry applies for; None when no trigger wants it."""
        function, source, ms = self._function, delivery.source, entry_ms(delivery.id)
        if source.triggers:
            event = delivery.wanted_event()
            if event is None:
                return None
            cause = source.cause(delivery.id)
            run, kind, parent = run_id(function.slug, "event", cause, ms), "event", ""
            begins, not_before = codec.encode(event), event.ts if event.ts > ms else 0
        else:
            fields = delivery.fields
            begins = begun_event(fields)
            event = codec.decode_as(begins, RawEvent)
            run, kind = fields[b"run"].decode(), fields.get(b"source", b"").decode()
            parent, cause, not_before = fields.get(b"parent", b"").decode(), fields[b"run"].decode(), 0
        applicant = Applicant(
            run=run,
            event=begins,
            source=kind,
            queued=ms,
            parent=parent,
            cancels=event_cancellation.words(function, event, run, ms),
            rerun_of=delivery.fields.get(b"rerun_of", b"").decode() if not source.triggers else "",
            not_before=not_before,
            ts=event.ts,
        )
        try:
            plain = event.plain()
        except msgspec.MsgspecError:  # no JSON: the run is made, and ends with that error
            plain = {"id": event.id, "name": event.name, "data": None, "ts": event.ts}
        limit_keys.apply(function, applicant, plain, cause)
        return applicant, event
