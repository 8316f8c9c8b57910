"""Starter: at most one suspect has its code run, and one that does not get to it makes room for the next."""

import asyncio
from typing import Any, cast

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.leases import Leases
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.ends.subscriptions import Subscriptions
from stepstream.consumers.delivery.delivery import Delivery, Feed, StreamGroup
from stepstream.consumers.delivery.exits import Exits
from stepstream.consumers.delivery.slots import Slots
from stepstream.consumers.delivery.wakeup import Alarms
from stepstream.consumers.limits.shared_places import SharedPlaces
from stepstream.consumers.relay.event_cancellation import EventCancellation
from stepstream.consumers.starter import Starter
from stepstream.consumers.turn.services import Services
from tests.redis.test_scripts import SLUG, begin, function
from tests.support import eventually

ME = "w"


class _Lease:
    consumer = f"{ME}.0"


class Bench:
    """A starter with one slot, and which entries' runs it let begin."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.capacity = Slots(1)
        self.begun: list[str] = []
        self.feed = Feed(StreamGroup.of_function("queue", SLUG), cast("Any", _Lease()), function, cast("Any", None))
        exits = Exits(
            wire, Signals(), SharedPlaces(wire, Signals(), Leases(wire.settings, ME, lambda *_: None, lambda *_: None))
        )
        services, cancels = Services(wire, Signals(), lambda _: None), EventCancellation(wire, Signals())
        self.starter = Starter(services, self.capacity, exits, Subscriptions(), cancels, Alarms(), ME)
        self.beginning = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        while True:
            self.begun += [run.delivery.id for run in await self.starter.next()]

    async def suspect(self, n: int) -> Delivery:
        """Return the entry of a run whose worker has died twice: the third, now, would be the third time."""
        run, entry = f"01ARZ3NDEKTSV4RRFFQ69G5FA{n}", f"{n}-0"
        owner = ""
        for worker in ("dead.0", "dead.1"):
            await begin(self.wire, run=run, entry=f"queue|{entry}", owner=owner, consumer=worker, fence=worker)
            owner = worker
        fields = {b"run": run.encode(), b"turn": b"1"}
        return self.feed.receive([(entry, fields)], _Lease.consumer, owner)[0]

    async def answered(self) -> None:
        async def look() -> bool:
            await asyncio.sleep(0)
            return not self.starter._starting

        await eventually(look, "start has answered")
        for _ in range(3):  # what it let through gets its slot
            await asyncio.sleep(0)


async def test_a_suspect_runs_alone_and_the_next_when_it_has_left(wire: Wire) -> None:
    bench = Bench(wire)
    first, second = await bench.suspect(1), await bench.suspect(2)
    bench.starter.begin([first, second])
    await bench.answered()
    assert bench.begun == ["1-0"]
    bench.starter.free_slot()
    bench.starter.suspect_left()
    await bench.answered()
    assert bench.begun == ["1-0", "2-0"]


async def test_a_suspect_that_got_no_slot_and_is_given_back_keeps_no_other_waiting(wire: Wire) -> None:
    bench = Bench(wire)
    assert bench.capacity.take()
    first, second = await bench.suspect(1), await bench.suspect(2)
    bench.starter.begin([first])
    await bench.answered()
    assert bench.begun == []
    assert bench.starter.take_out(lambda _: True) == [first]
    bench.starter.begin([second])
    await bench.answered()
    bench.starter.free_slot()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.begun == ["2-0"]


async def test_a_suspect_whose_lease_was_lost_before_it_began_keeps_no_other_waiting(wire: Wire) -> None:
    bench = Bench(wire)
    first, second = await bench.suspect(1), await bench.suspect(2)
    bench.starter.begin([first])
    await bench.answered()
    bench.starter.not_begun(first)
    bench.starter.begin([second])
    await bench.answered()
    assert bench.begun == ["1-0", "2-0"]
    assert (bench.capacity.free, bench.capacity.waiting) == (0, 0)
