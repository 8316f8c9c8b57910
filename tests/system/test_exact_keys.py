"""Values that are keys: of limits, idempotency, waits and cancels: exact, and types kept apart."""

import asyncio
from typing import Any

import pytest

from stepstream.bus.limits.cancel_on import CancelOn
from stepstream.bus.limits.flow import Flow
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.wire import keys
from stepstream.checkpoint.limits.admit import Applicant
from stepstream.consumers.limits import limit_keys
from tests.support import Lab, eventually

DIFFERENT = [1, "1", True, "true", None, "null", [1], "[1]", 2**64 + 1, 2**64 + 2, "", "=1", "#", 0.5, {"a": 1}]
"""No two of these are the same value."""


async def test_numbers_above_64_bits_are_two_idempotency_keys(lab: Lab) -> None:
    """Both became the double 2^64, and the second event was lost."""

    @lab.app.function("f", on="a", idempotency="event.data.id")
    async def f(ctx, step):
        return ctx.event.data["id"]

    await lab.work()
    for number in (2**64 + 1, 2**64 + 2, 2**64 + 1):
        await lab.send("a", {"id": number})
    ended = await lab.ended(3)
    assert sorted(int(bytes(run.output)) for run in ended if run.output) == [2**64 + 1, 2**64 + 2]
    assert sorted(run.status for run in ended) == ["completed", "completed", "skipped"]


async def test_values_of_different_types_stand_in_different_lines(lab: Lab) -> None:
    """1 and "1", true and "true", null and "null" shared one."""
    inside: list[Any] = []
    opened = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=Concurrency(1, key="event.data.key"))
    async def f(ctx, step):
        inside.append(ctx.event.data["key"])
        await opened.wait()

    await lab.work(concurrency=50)
    for value in DIFFERENT * 2:
        await lab.send("a", {"key": value})

    async def one_of_each() -> bool:
        return len(inside) == len(DIFFERENT)

    await eventually(one_of_each, "one of each value is at work")
    assert all(value in inside for value in DIFFERENT)
    opened.set()
    await lab.ended(2 * len(DIFFERENT))


KEYED = [
    Flow(concurrency=(Concurrency(1, key="event.data.key"), Concurrency(1, key="event.data.key", shared="s"))),
    Flow(throttle=Throttle(1, "1s", key="event.data.key")),
    Flow(rate_limit=RateLimit(1, "1s", key="event.data.key")),
    Flow(debounce=Debounce("1s", key="event.data.key")),
    Flow(batch=Batch(2, "1s", key="event.data.key")),
    Flow(singleton=Singleton("skip", key="event.data.key")),
]


@pytest.mark.parametrize("flow", KEYED)
def test_every_limit_keeps_them_apart_and_text_readable(lab_function: Any, flow: Flow) -> None:
    def of(value: Any) -> tuple[str, ...]:
        applicant = Applicant("run", b"", "event", 1)
        event = {"id": "e", "name": "a", "data": {"key": value}, "ts": 1, "v": None}
        limit_keys.apply(lab_function(flow), applicant, event, "a|1-0")
        return (*applicant.holds.split("\n"), applicant.rate, applicant.single, applicant.buffer)

    assert len({of(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert of(1) == of(1.0)
    assert {part.partition(":")[2] for part in of("ada/lovelace-1.b") if part} == {"ada/lovelace-1.b"}
    assert {part.partition(":")[2] for part in of(42) if part} == {"=42"}


@pytest.fixture
def lab_function() -> Any:
    from stepstream.bus.bus import Bus

    async def handler(ctx, step):
        return None

    def make(flow: Flow) -> Any:
        given = {name: value for name in flow.__struct_fields__ if (value := getattr(flow, name))}
        if "concurrency" in given:
            given["concurrency"] = list(given["concurrency"])
        return Bus("test").function("f", on="a", **given)(handler)

    return make


async def test_a_wait_and_a_cancel_match_exactly_by_value(lab: Lab) -> None:
    """As doubles 2^64 + 1 and 2^64 + 2 were equal; 7 and 7.0 are, however they are written, and 7 and "7" are not."""

    @lab.app.function("f", on="a", cancel_on=CancelOn("stop", match="data.id"))
    async def f(ctx, step):
        came = await step.wait_for_event("w", "b", match="data.id", timeout="1h")
        return came.data["from"]

    await lab.work()
    runs = {}
    for number in (2**64 + 1, 7, "7"):
        await lab.send("a", {"id": number})
        run = next(run for run in await lab.some(len(runs) + 1) if run.id not in runs.values())
        await lab.status(run.id, "waiting")
        runs[number] = run.id
    await lab.send("b", {"id": 2**64 + 2, "from": "other"})
    await lab.send("stop", {"id": 2**64 + 2})
    await lab.send("stop", {"id": 2**64})
    await lab.wire.call("XADD", keys.events("b"), "*", "data", '{"id": 7.0, "from": "seven"}')
    await lab.send("b", {"id": "7", "from": "text"})
    assert bytes((await lab.status(runs[7], "completed")).output or b"") == b'"seven"'
    assert bytes((await lab.status(runs["7"], "completed")).output or b"") == b'"text"'
    await lab.status(runs[2**64 + 1], "waiting")
    await lab.send("stop", {"id": 2**64 + 1})
    await lab.status(runs[2**64 + 1], "cancelled")
