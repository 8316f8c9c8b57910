"""Slots and SlotQueue: how far a worker reads ahead of its slots."""

import asyncio
from typing import Any, cast

from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.slot_queue import SlotQueue, StartedRun
from stepstream.consumers.delivery.slots import Slots


def held(total: int) -> Slots:
    capacity = Slots(total)
    for _ in range(total):
        assert capacity.take()
    return capacity


def test_where_bodies_take_long_nothing_is_read_ahead() -> None:
    capacity = held(100)
    capacity.give_back()
    assert capacity.take()
    capacity.beat(busy=True)
    assert capacity.room == 0


def test_where_slots_turn_over_fast_as_much_is_read_as_they_free_in_5_ms_and_at_most_a_quarter() -> None:
    capacity = held(100)
    for turned, ahead in ((200, 10), (4_000, 25)):
        for _ in range(turned):
            capacity.give_back()
            assert capacity.take()
        capacity.beat(busy=True)
        assert capacity.room == ahead
    capacity.beat(busy=False)
    assert capacity.room == 0


def started(n: int) -> StartedRun:
    return StartedRun(Delivery(cast("Any", object()), f"{n}-0", {}, "w.0"), cast("Any", None), cast("Any", None))


async def test_runs_in_line_begin_as_slots_free_and_count_as_read() -> None:
    capacity = held(3)
    begun: list[StartedRun] = []
    queue = SlotQueue(capacity)
    runs = [started(n) for n in range(3)]

    async def begin() -> None:
        while True:
            begun.extend(await queue.next())

    beginning = asyncio.ensure_future(begin())
    capacity.wait(len(runs))
    for run in runs:
        queue.add(run)
    await asyncio.sleep(0)
    assert (begun, capacity.room) == ([], -3)
    for _ in range(2):
        capacity.give_back()
        queue.slot_freed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (begun, capacity.waiting) == (runs[:2], 1)
    assert queue.take_out(lambda _: True) == [runs[2].delivery]
    assert (capacity.room, capacity.waiting) == (0, 0)
    beginning.cancel()


async def test_a_run_begins_at_once_when_there_is_a_slot_and_nobody_before_it() -> None:
    capacity = Slots(1)
    queue = SlotQueue(capacity)
    runs = [started(n) for n in range(2)]
    capacity.wait(2)
    for run in runs:
        queue.add(run)
    begun = await queue.next()
    assert (begun, capacity.free, capacity.waiting) == (runs[:1], 0, 1)


async def test_a_worker_is_idle_when_no_slot_is_taken_and_nothing_waits_for_one() -> None:
    capacity = Slots(1)
    capacity.wait()
    idle = asyncio.ensure_future(capacity.wait_idle())
    await asyncio.sleep(0)
    assert not idle.done()
    capacity.wait_no_more()
    await idle
