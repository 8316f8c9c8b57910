"""Courier: carries what crosses from one slot to another: ends to their subscribers, events to runs that wait for them.

Every worker has one. It handles the streams `ends` of its functions, and group `@waits` of the events somebody waits
for. Each target is written to separately, and an entry is acknowledged when all have answered: a repeated write changes
nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.event import Outgoing, RawEvent
from stepstream.bus.observe.signals import Signals
from stepstream.bus.observe.tracing import Tracing
from stepstream.bus.process.failpoints import reached
from stepstream.bus.process.turns import Turns
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_place, run_id
from stepstream.bus.wire.bounds import MOST_BYTES
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.streams import event_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import asks_store
from stepstream.checkpoint.ends.ends import FAILED, LISTENED, EndOfRun, load_end
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.checkpoint.run.begin import begin
from stepstream.checkpoint.run.memo import Failure, open_of
from stepstream.checkpoint.run.own_event import events_json
from stepstream.checkpoint.run.resolve import resolve
from stepstream.checkpoint.waits.event_waits import Wait, by_expression, by_value, disarm
from stepstream.checkpoint.waits.given_up import give_up
from stepstream.checkpoint.waits.order import added_at
from stepstream.consumers.delivery.background import Background
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.failing import tell
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.relay.unasked import Unasked

AT_ONCE = 50
_MOST_AT_STORE = 1_000
"""So many entries may wait for the store of large results without a slot: small, for what they bring is read later."""


class _Slot:
    """The slot of an entry, if it has one: given back once, at the end or before it waits for the store."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_taken = slots.take()

    def give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._slots.give_back()


class Courier:
    """Handles what is read of `ends`, `@waits` and `@cancel`."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        subscriptions: Subscriptions,
        cancellation: EventCancellation,
        exits: Exits,
        tracing: Tracing | None,
    ) -> None:
        self._tracing = tracing
        self._exits = exits
        self.slots = Slots(AT_ONCE)
        self._wire = wire
        self._signals = signals
        self._subscriptions = subscriptions
        self._cancellation = cancellation
        self._publisher = Publisher(wire)
        self._carrying = Background(signals)
        self._at_store = 0
        self._store_turns = asyncio.Semaphore(AT_ONCE)

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Carry what entries of one feed bring."""
        for delivery in deliveries:
            self._carrying.start(self._carry(delivery, _Slot(self.slots)))

    async def settled(self) -> None:
        """Wait until all that was taken is carried."""
        await self._carrying.settled()

    async def _carry(self, delivery: Delivery, slot: _Slot) -> None:
        try:
            await self._handle(delivery, slot)
        finally:
            slot.give_back()

    @contextlib.asynccontextmanager
    async def _storing(self, slot: _Slot, data: bytes) -> AsyncGenerator[None]:
        """Hold nobody up while the store of large results is asked, where it is: one that hangs takes half a minute."""
        if not asks_store(self._wire, data) or self._at_store >= _MOST_AT_STORE:
            yield
            return
        slot.give_back()
        self._at_store += 1
        try:
            async with self._store_turns:
                yield
        finally:
            self._at_store -= 1

    async def _handle(self, delivery: Delivery, slot: _Slot) -> None:
        try:
            if delivery.feed.kind == "ends":
                await self._tell_end(delivery, slot)
            elif delivery.feed.kind == "cancels":
                await self._cancellation.offer(delivery)
            else:
                await self._offer(delivery, slot)
        except ValueError as error:
            self._exits.drop_senseless(delivery, error)
            return
        except Exception as error:  # noqa: BLE001 - the loop's top: it stays pending and is read again
            self._exits.leave(delivery, "lost")
            tell(self._signals, "carrying failed; it is tried again", error, stream=delivery.feed.stream)
            return
        reached("courier.told")
        self._exits.leave(delivery, "passed")

    # -- ends -------------------------------------------------------------------------------------------------------

    async def _tell_end(self, delivery: Delivery, slot: _Slot) -> None:
        function = delivery.feed.function
        run, caller = (delivery.fields.get(name, b"").decode() for name in (b"run", b"parent"))
        if step := delivery.fields.get(b"step"):
            await give_up(self._wire, function.slug, run, {step.decode(): open_of(delivery.fields[b"open"])})
            return
        ended = await load_end(self._wire, function.slug, run)
        if ended is None:  # its time to be kept was over before anybody read this
            gone = Failure("gone", f"run {run} has ended; how is no longer known")
            if caller:
                await self._resolve_caller(caller, b"null", gone)
            return
        writes: list[Awaitable[Any]] = []
        if ended.parent:
            writes.append(self._tell_caller(ended, slot))
        if ended.status == "failed" and function.failure is not None:
            run = run_id(function.failure.slug, "failure", ended.run, ended.ended)
            failed = ended.told(FAILED, self._trace(ended))
            writes.append(begin(self._wire, function.failure.slug, run, "failure", failed))
        if not ended.made_by_an_end():
            writes += [
                self._publish(ended.told(name, self._trace(ended)))
                for name in self._subscriptions.names
                if ended.status in LISTENED[name].split()
            ]
        await asyncio.gather(*writes)

    def _trace(self, ended: EndOfRun) -> str | None:
        """Return the `traceparent` of what a run's end begins: the run's own span, or, untraced, its event's."""
        event = ended.began()
        if self._tracing is None:
            return event.trace
        return str(self._tracing.turn(ended.slug, ended.run, 0, event).context)

    async def _tell_caller(self, ended: EndOfRun, slot: _Slot) -> None:
        error = ended.error
        if ended.status != "completed" and error is None:
            error = Failure(ended.status, f"the invoked run was {ended.status}")
        data = bytes(ended.output) if ended.output is not None else b"null"
        async with self._storing(slot, data):
            await self._resolve_caller(ended.parent, data, error)

    async def _resolve_caller(self, caller: str, data: bytes, error: Failure | None) -> None:
        slug, run, step = caller.split("|", 2)
        await resolve(self._wire, slug, run, step, "invoke", data, error=error)

    async def _publish(self, event: RawEvent) -> None:
        outgoing = Outgoing(event.id, event.name, bytes(event.data), own_id=True, ts=event.ts, trace=event.trace)
        await patiently(lambda: self._publisher.publish([outgoing]))

    # -- waits ------------------------------------------------------------------------------------------------------

    async def _offer(self, delivery: Delivery, slot: _Slot) -> None:
        name = delivery.feed.name
        event = event_of(name, delivery.id, delivery.fields)
        try:
            plain = event.plain()
        except msgspec.MsgspecError:  # added by hand, no JSON: nobody can wait for it
            return
        encoded = codec.encode(event)
        async for waits in by_value(self._wire, name, plain):
            await self._answer(waits, name, delivery.id, plain, encoded, slot)
        await self._answer(await by_expression(self._wire, name), name, delivery.id, plain, encoded, slot)

    async def _answer(
        self, waits: list[Wait], name: str, entry: str, plain: dict[str, Any], encoded: bytes, slot: _Slot
    ) -> None:
        """Give an event to those of the waits that it is for; each is sent a copy, so a few megabytes go at a time."""
        place, ms = entry_place(entry), await added_at(self._wire, entry, (one.deadline for one in waits))
        over = [wait for wait in waits if wait.deadline < ms]
        # A courier may be behind: what was there before the wait was, the run has looked up itself.
        new = [wait for wait in waits if entry_place(wait.behind) < place and wait.deadline >= ms]
        own = await events_json(self._wire, {(wait.slug, wait.run) for wait in new if wait.if_})
        waits = await self._meant(new, own.found, plain, f"{name}|{entry}")
        at_once = max(1, 4 * MOST_BYTES // len(encoded))
        for start in range(0, len(waits), at_once):
            some = waits[start : start + at_once]
            named = f"{name}|{entry}"
            async with self._storing(slot, encoded):
                await asyncio.gather(
                    *(resolve(self._wire, one.slug, one.run, one.step, "event", encoded, entry=named) for one in some)
                )
        await disarm(self._wire, name, over + waits)
        if own.unopened is not None:  # the others have theirs; for this run it stays pending
            raise own.unopened

    async def _meant(
        self,
        waits: Sequence[Wait],
        own: Mapping[tuple[str, str], Mapping[str, Any]],
        came: dict[str, Any],
        named: str,
    ) -> list[Wait]:
        """Return those whose expression is true of an event and of the run's own, and those that have none."""
        unasked = Unasked(self._signals, "a wait for an event", named)
        turns = Turns()
        meant: list[Wait] = []
        for wait in waits:
            event = own.get((wait.slug, wait.run))
            with contextlib.suppress(ConfigError):
                if not wait.if_ or (event is not None and unasked.answers(event, came, wait.if_, wait.run)):
                    meant.append(wait)
            if wait.if_:
                await turns.pass_on()
        unasked.tell()
        return meant
