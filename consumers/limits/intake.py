"""Intake: decides whether and when events of a function with limits may run.

Entries are read whether there are slots or not, recorded as runs with a verdict, and acknowledged; the runs then wait
in a backlog until the dispatcher gives them their places.
"""

from collections.abc import Sequence

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values import codec
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.limits.admit import Applicant, admit
from stepstream.checkpoint.run.begin import begun_event
from stepstream.checkpoint.waits import cancel_index
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery, EntryHandler
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.limits import limit_keys
from stepstream.consumers.limits.backlog import Backlog
from stepstream.consumers.relay.event_cancellation import EventCancellation

AT_ONCE = 200
TOGETHER = 50
_FAILED = "the intake failed; it is tried again"


def _buffer_ms(function: Function) -> int:
    """Return how soon a buffer of a function may be due."""
    debounce, batch = function.flow.debounce, function.flow.batch
    return milliseconds(debounce.period if debounce else batch.timeout if batch else 0)


class Intake:
    """The intake of one function. What it finds decided already goes to the executor."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        function: Function,
        executor: EntryHandler,
        subscriptions: Subscriptions,
        cancellation: EventCancellation,
        exits: Exits,
        backlog: Backlog,
    ) -> None:
        self.slots = Slots(AT_ONCE)
        self._wire = wire
        self._signals = signals
        self._function = function
        self._buffer_ms = _buffer_ms(function)
        self._executor = executor
        self._exits = exits
        self._backlog = backlog
        self._subscriptions = subscriptions
        self._cancellation = cancellation
        self._admitting = Background(signals)

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Decide on new runs."""
        for start in range(0, len(deliveries), TOGETHER):
            part = deliveries[start : start + TOGETHER]
            taken = sum(self.slots.take() for _ in part)
            self._admitting.start(self._admit(part, taken))

    async def settled(self) -> None:
        """Wait until all that was taken is decided on."""
        await self._admitting.settled()

    async def _admit(self, deliveries: Sequence[Delivery], slots: int) -> None:
        try:
            wanted: list[tuple[Delivery, Applicant, RawEvent]] = []
            for delivery in deliveries:
                try:
                    found = self._applicant(delivery)
                except CannotOpen as error:  # a condition, or a key, looks at what is sealed
                    self._exits.leave(delivery, "lost")
                    self._signals.notice(_FAILED, function=self._function.slug, error=str(error))
                    continue
                except ValueError as error:
                    self._exits.drop_senseless(delivery, error)
                    continue
                if found is None:
                    self._exits.leave(delivery, "passed")
                else:
                    wanted.append((delivery, *found))
            if wanted:
                await self._decide(wanted)
        except Exception as error:  # noqa: BLE001 - the loop's top: they stay pending and are read again
            for delivery in deliveries:
                self._exits.leave(delivery, "lost")
            self._signals.notice(_FAILED, function=self._function.slug, error=repr(error))
        finally:
            for _ in range(slots):
                self.slots.give_back()

    async def _decide(self, wanted: Sequence[tuple[Delivery, Applicant, RawEvent]]) -> None:
        function = self._function
        over = wanted[0][0].feed.overrides
        verdicts = await admit(
            self._wire, function, self._subscriptions.statuses(function), [one for _, one, _ in wanted], over
        )
        for (delivery, applicant, event), verdict in zip(wanted, verdicts, strict=True):
            if verdict.word == "error":
                self._exits.leave(delivery, "lost")
                self._signals.notice(_FAILED, run=applicant.run, error=verdict.why)
                continue
            if verdict.word == "there":
                # Decided on before, or begun before the function had limits: then this entry holds it. Start knows.
                self._executor.begin([delivery])
                continue
            self._exits.leave(delivery, "passed")
            if verdict.word == "merged":
                self._backlog.alarm.expect(self._buffer_ms)
            elif verdict.word == "later" and applicant.not_before:
                self._backlog.alarm.expect(max(0, applicant.not_before - applicant.queued))
            if verdict.word == "later" and function.cancel_on:
                await self._cancellation.look_back(function, applicant.run, event)
        self._backlog.grew()

    def _applicant(self, delivery: Delivery) -> tuple[Applicant, RawEvent] | None:
        """Return what a delivered entry applies for; None when no trigger wants it."""
        function, feed = self._function, delivery.feed
        # Where a test has set the clock, events have its time, and entries of a queue have the server's.
        ms = entry_ms(delivery.id) if feed.triggers else int(self._wire.now or entry_ms(delivery.id))
        if feed.triggers:
            event = delivery.wanted_event()
            if event is None:
                return None
            cause = feed.cause(delivery.id)
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
            cancels=cancel_index.words(function, event, run, ms),
            rerun_of=delivery.fields.get(b"rerun_of", b"").decode() if not feed.triggers else "",
            not_before=not_before,
            ts=event.ts,
        )
        try:
            plain = event.plain()
        except msgspec.MsgspecError:  # no JSON: the run is made, and ends with that error
            plain = {"id": event.id, "name": event.name, "data": None, "ts": event.ts}
        limit_keys.apply(function, applicant, plain, cause)
        return applicant, event
