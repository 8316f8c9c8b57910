"""Drive: whatever a driver does, one TurnExit comes of a turn. The driver here calls no Python handler, as one that
calls functions elsewhere would: it records steps, and lets runs wait, through what the contract gives it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from stepstream.bus.event import RawEvent
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values import codec
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_of
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.delivery.delivery import Delivery, Feed, StreamGroup
from stepstream.consumers.drivers.contract import Call, Outcome, Raised, Returned, Stopped
from stepstream.consumers.drivers.drive import drive
from stepstream.consumers.turn.exit import Abandoned, Ended, Refused, Suspended, TryAgain, TurnExit, TurnOver
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.turn import Turn
from tests.patience import PATIENT_S
from tests.redis.test_scripts import RUN, SLUG, begin, function, hash_of, owned

FAILED = Failure("ValueError", "no")


class Scripted:
    """Does what a test says."""

    def __init__(self, act: Callable[[Call, Turn], Awaitable[Outcome]]) -> None:
        self._act = act

    async def call(self, call: Call, turn: Turn) -> Outcome:
        try:
            return await self._act(call, turn)
        except TurnOver:
            return Stopped()


async def exit_of(wire: Wire, act: Callable[[Call, Turn], Awaitable[Outcome]], **asked: Any) -> TurnExit:
    """Begin a run, or its next turn, and drive it."""
    reply = await begin(wire, **asked)
    assert reply.word == "go"
    event = codec.decode_as(reply.event or b'{"id":"e1","name":"a","data":{},"ts":1}', RawEvent)
    feed = Feed(StreamGroup.of_function("queue", SLUG), cast("Any", None), function, cast("Any", None))
    services = Services(wire, Signals(), lambda _: None)
    threads = ThreadPoolExecutor(1)
    fenced = owned(asked.get("fence", "f1"), reply.turn)
    turn = Turn(services, threads, Delivery(feed, "1-0", {}, "w.0"), fenced, reply, event)
    try:
        return await asyncio.wait_for(drive(turn, Scripted(act)), PATIENT_S)
    finally:
        threads.shutdown()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Returned(b"7"), Ended("completed", output=b"7")),
        (Raised(FAILED, is_final=True), Ended("failed", error=FAILED, has_raised=True)),
        (Raised(FAILED, is_final=True, is_steps=True), Ended("failed", error=FAILED)),
        (Raised(FAILED, asked_ms=500), TryAgain(FAILED, 500)),
    ],
)
async def test_an_outcome_is_an_exit_that_is_still_to_be_recorded(
    wire: Wire, outcome: Outcome, expected: TurnExit
) -> None:
    async def act(call: Call, turn: Turn) -> Outcome:
        assert (call.run, call.function.slug, call.attempt) == (RUN, SLUG, 0)
        return outcome

    assert await exit_of(wire, act) == expected
    assert (await hash_of(wire))["status"] == "running"


async def test_a_driver_records_steps_and_the_next_turn_is_told_of_them(wire: Wire) -> None:
    async def first(call: Call, turn: Turn) -> Outcome:
        assert not call.memos
        assert await turn.recorder.save("a", "run", data=b"1") is None
        noted = await turn.recorder.note("nap", "sleep", due="+60000")
        assert await turn.recorder.suspend(noted.due)
        return Stopped()

    suspended = await exit_of(wire, first)
    assert isinstance(suspended, Suspended)
    assert 59_000 < suspended.due_in_ms <= 60_000
    assert (await hash_of(wire))["status"] == "waiting"

    async def second(call: Call, turn: Turn) -> Outcome:
        assert {step: bytes(memo.data) for step, memo in call.memos.items()} == {"a": b"1"}
        assert list(call.open) == ["nap"]
        return Returned(b"null")

    again = {"turn": 2, "entry": "queue|2-0", "event": b"", "fence": "f2"}
    assert await exit_of(wire, second, **again) == Ended("completed", output=b"null")


async def test_who_lost_the_run_hears_of_it_at_the_next_write_and_records_nothing(wire: Wire) -> None:
    async def act(call: Call, turn: Turn) -> Outcome:
        await begin(wire, owner="w.0", consumer="other.0", fence="f2")
        await turn.recorder.save("a", "run", data=b"1")
        raise AssertionError("it went on")

    assert await exit_of(wire, act) == Refused("lost")


async def test_a_run_that_is_cancelled_ends_as_cancelled(wire: Wire) -> None:
    async def act(call: Call, turn: Turn) -> Outcome:
        await cancel_of(wire, SLUG, RUN, "enough")
        await turn.recorder.save("a", "run", data=b"1")
        raise AssertionError("it went on")

    ended = await exit_of(wire, act)
    assert isinstance(ended, Ended)
    assert ended.status == "cancelled"
    assert ended.error is not None
    assert "enough" in ended.error.message


async def test_a_call_that_does_not_come_back_holds_nobody_up(wire: Wire) -> None:
    gate = asyncio.Event()

    async def act(call: Call, turn: Turn) -> Outcome:
        turn.recorder.end(Abandoned())
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        return Stopped()

    try:
        assert await exit_of(wire, act) == Abandoned()
    finally:
        gate.set()
