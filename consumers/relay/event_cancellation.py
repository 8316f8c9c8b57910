"""Events that cancel the runs they belong to (`cancel_on`).

The runs of an event are found in an index (checkpoint/waits/cancel_index.py). An event that came after the run's own,
but before its start, is not matched there: the worker that starts the run looks back for it.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from stepstream.bus.errors import BusError
from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.limits.cancel_on import CancelOn
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.turns import Turns
from stepstream.bus.values.ids import partitions, ulid_ms
from stepstream.bus.values.matching import answers
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import event_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import AT_ONCE, cancel_of, cancel_several
from stepstream.checkpoint.run.own_event import events_json
from stepstream.checkpoint.waits.cancel_index import begin_of, run_of
from stepstream.checkpoint.waits.event_waits import look_back
from stepstream.checkpoint.waits.order import added_at, begun_before
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.relay.unasked import Unasked


class EventCancellation:
    """Finds the runs of this worker's functions that an event cancels, and the events that cancel a new run."""

    def __init__(self, wire: Wire, signals: Signals) -> None:
        self._wire = wire
        self._signals = signals

    async def offer(self, delivery: Delivery) -> None:
        """Cancel the runs that a delivered event belongs to."""
        function, name = delivery.feed.function, delivery.feed.name
        event = event_of(name, delivery.id, delivery.fields)
        try:
            came = event.plain()
        except msgspec.MsgspecError:
            return
        for one in function.cancel_on:
            begin = begin_of(one, came) if one.name == name else None
            if begin is not None:
                await self._offer(function, one, begin, delivery.id, event, came)

    async def _offer(
        self, function: Function, one: CancelOn, begin: str, entry: str, event: RawEvent, came: Mapping[str, Any]
    ) -> None:
        """Cancel the runs whose words begin so, a page at a time: one event may be about thousands."""
        slug, unopened = function.slug, None
        async for page in self._pages(slug, begin):
            words = list(map(run_of, page))
            ms = await added_at(self._wire, entry, (deadline for _, deadline in words))
            meant = [run for run, deadline in words if ms <= deadline]
            begun = await begun_before(self._wire, event.name, entry, ((slug, run) for run in meant))
            if one.if_ is not None:
                own = await events_json(self._wire, begun)
                unopened = own.unopened or unopened
                begun = await self._meant(one.if_, own.found, came, entry, event)
            done = await cancel_several(self._wire, slug, [run for run in meant if (slug, run) in begun], _why(event))
            if done.refused:
                raise BusError(done.refused)
        if unopened is not None:  # the others are cancelled; for this run the event stays pending
            raise unopened

    async def _meant(
        self,
        if_: str,
        own: Mapping[tuple[str, str], Mapping[str, Any]],
        came: Mapping[str, Any],
        entry: str,
        event: RawEvent,
    ) -> set[tuple[str, str]]:
        """Return those runs, of which the own events are given, that an expression is true of."""
        unasked = Unasked(self._signals, "a cancellation by an event", f"{event.name}|{entry}")
        turns = Turns()
        meant: set[tuple[str, str]] = set()
        for key, plain in own.items():
            if unasked.answers(plain, came, if_, key[1]):
                meant.add(key)
            await turns.pass_on()
        unasked.tell()
        return meant

    async def _pages(self, slug: str, begin: str) -> AsyncGenerator[list[bytes]]:
        for index in (keys.cancels(slug, where) for where in partitions(slug)):
            page, after = [b""] * AT_ONCE, f"[{begin}|".encode()
            while len(page) == AT_ONCE:
                page = await self._wire.load("ZRANGEBYLEX", index, after, f"({begin}}}", "LIMIT", 0, AT_ONCE)
                yield page
                after = b"(" + page[-1] if page else after

    async def look_back(self, function: Function, run: str, own: RawEvent) -> None:
        """Cancel a run that has just been made if an event has come since its own that cancels it."""
        try:
            plain = own.plain()
            for one in function.cancel_on:
                async for entry, event in look_back(self._wire, one.name, ulid_ms(run) or 0, "+"):
                    unasked = Unasked(self._signals, "a cancellation by an event", f"{one.name}|{entry}")
                    is_meant = _answers(one, plain, event, run, unasked)
                    unasked.tell()
                    if is_meant and await begun_before(self._wire, one.name, entry, [(function.slug, run)]):
                        await cancel_of(self._wire, function.slug, run, _why(event))
                        return
        except (BusError, msgspec.MsgspecError) as error:
            self._signals.notice("looking for what cancels a new run failed", run=run, error=str(error))


def _why(event: RawEvent) -> str:
    return f"cancelled by event {event.name} ({event.id})"


def _answers(one: CancelOn, own: Mapping[str, Any], event: RawEvent, run: str, unasked: Unasked) -> bool:
    try:
        came = event.plain()
    except msgspec.MsgspecError:
        return False
    return unasked.answers(own, came, one.if_, run) if one.if_ else answers(own, came, one.match, None)
