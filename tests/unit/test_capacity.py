"""Capacity and Line: how far a worker reads ahead of its slots."""

import asyncio
from typing import Any, cast

from consumers.capacity import Capacity
from consumers.delivery import Delivery
from consumers.line import Line


def held(total: int) -> Capacity:
    capacity = Capacity(total)
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


async def test_entries_in_line_start_together_when_slots_free_and_count_as_read() -> None:
    capacity = held(3)
    started: list[list[Delivery]] = []
    line = Line(asyncio.get_running_loop(), capacity, started.append)
    source = cast("Any", object())
    entries = [Delivery(source, f"{n}-0", {}, "w.0") for n in range(3)]
    for entry in entries:
        line.add(entry)
    assert capacity.room == -3
    for _ in range(2):
        capacity.give_back()
        line.slot_freed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert started == [entries[:2]]
    assert line.take_out(lambda _: True) == entries[2:]
    assert (capacity.room, capacity.waiting) == (0, 0)
