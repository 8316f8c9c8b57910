"""Time travel: everything that is bound to a moment happens at its moment, however far the clock was moved before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepstream import (
    Batch,
    Bus,
    CancelOn,
    Context,
    Cron,
    Debounce,
    EventData,
    NewEvent,
    RateLimit,
    Retry,
    RetryAfter,
    Step,
    Throttle,
    Timeouts,
)
from stepstream.testing import Harness

BEGIN = datetime(2020, 2, 28, 23, tzinfo=UTC)
"""Long ago, so that whatever takes the server's clock for the harness's is years off."""


class Ping(EventData, name="ping"):
    n: int = 0


async def of_each(bus: Harness, function: Any) -> list[Any]:
    return [await bus.output(run) for run in await bus.runs(function) if run.status == "completed"]


async def test_a_scheduled_run_hears_an_event_that_is_sent_days_later() -> None:
    app = Bus("shop")

    @app.function("nightly", on=Cron("0 4 * * *"))
    async def nightly(ctx: Context[dict[str, Any]], step: Step) -> Any:
        answer = await step.wait_for_event("answer", Ping, timeout="2d")
        return answer and answer.data.n

    for begin in (BEGIN, datetime.now(UTC).replace(hour=23) + timedelta(days=400)):
        async with Harness(app, at=begin) as bus:
            await bus.advance("6h")
            await bus.advance("1h")
            await bus.send(Ping(7))
            assert await bus.output(nightly) == 7
            assert (await bus.event(Ping)).ts == bus.now


async def test_an_event_that_comes_after_its_deadline_is_not_heard() -> None:
    app = Bus("shop")

    @app.function("f", on="go")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> Any:
        first = await step.wait_for_event("first", Ping, timeout="1d")
        second = await step.wait_for_event("second", Ping, timeout="1d")
        return [first and first.data.n, second and second.data.n]

    async with Harness(app, at=BEGIN) as bus:
        await bus.send("go")
        await bus.advance("25h")
        await bus.send(Ping(1))
        assert await bus.output(f) == [None, 1]
        assert (await bus.run(f)).queued == round(BEGIN.timestamp() * 1_000)


async def test_a_timeout_counts_from_when_the_event_came() -> None:
    app = Bus("shop")

    @app.function("quick", on=Ping, timeouts=Timeouts(start="1h", finish="2h"))
    async def quick(ctx: Context[Ping], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "done"

    @app.function("slow", on=Ping, timeouts=Timeouts(finish="2h"))
    async def slow(ctx: Context[Ping], step: Step) -> None:
        await step.sleep("nap", "3h")

    @app.function("daily", on=Cron("0 0 * * *"), timeouts=Timeouts(start="10m"), concurrency=1)
    async def daily(ctx: Context[dict[str, Any]], step: Step) -> None:
        return None

    async with Harness(app, at=BEGIN) as bus:
        await bus.advance("30d")
        assert {run.status for run in await bus.runs(daily)} == {"completed"}
        assert (await bus.run(await bus.invoke(daily))).status == "completed"
        await bus.send(Ping())
        await bus.advance("1h")
        assert await bus.output(quick) == "done"
        await bus.advance("5h")
        assert (await bus.run(slow)).status == "cancelled"


async def test_retries_and_retry_after() -> None:
    app = Bus("shop")
    tries: list[str] = []

    def flaky() -> None:
        tries.append("x")
        if len(tries) < 3:
            raise ValueError("again")
        if len(tries) == 3:
            raise RetryAfter(datetime.fromtimestamp(now() / 1_000 + 7_200, UTC))

    @app.function("f", on=Ping, retries=Retry(5, backoff=600))
    async def f(ctx: Context[Ping], step: Step) -> int:
        await step.run("flaky", flaky)
        return len(tries)

    async with Harness(app, at=BEGIN) as bus:

        def now() -> int:
            return bus.now

        await bus.send(Ping())
        counts: list[int] = []
        for _ in range(6):
            counts.append(len(tries))
            await bus.advance("10m")
        assert (counts[0], counts[-1] >= 2) == (1, True)
        await bus.finish()
        assert await bus.output(f) == 4


async def test_debounce_batch_rate_limit_and_throttle() -> None:
    app = Bus("shop")

    @app.function("last", on=Ping, debounce=Debounce("1h"))
    async def last(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    @app.function("many", on=Ping, batch=Batch(10, "1h"))
    async def many(ctx: Context[Ping], step: Step) -> list[int]:
        return [event.data.n for event in ctx.events]

    @app.function("rated", on=Ping, rate_limit=RateLimit(1, "1d"))
    async def rated(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    @app.function("even", on=Ping, throttle=Throttle(1, "1d"))
    async def even(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    @app.function("once", on=Ping, idempotency="'all'")
    async def once(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    async with Harness(app, at=BEGIN) as bus:
        for n in range(3):
            await bus.send(Ping(n))
            await bus.advance("40m")
        assert (await of_each(bus, last), await of_each(bus, many)) == ([], [[0, 1]])
        await bus.advance("20m")
        assert (await of_each(bus, last), await of_each(bus, rated), await of_each(bus, even)) == ([2], [0], [0])
        await bus.advance("25h")
        await bus.send(Ping(9))
        assert (await of_each(bus, rated), await of_each(bus, once)) == ([0, 9], [0, 9])
        assert await of_each(bus, even) == [0, 1]
        await bus.advance("3d")
        assert await of_each(bus, even) == [0, 1, 2, 9]
        assert await of_each(bus, many) == [[0, 1], [2], [9]]
        assert await of_each(bus, last) == [2, 9]


async def test_an_event_for_later_and_one_sent_twice() -> None:
    app = Bus("shop")

    @app.function("f", on=Ping)
    async def f(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    async with Harness(app, at=BEGIN) as bus:
        await bus.send(NewEvent(Ping(1), ts=bus.now + 86_400_000))
        await bus.send(Ping(2), id="mine")
        await bus.send(Ping(3), id="mine")
        assert await of_each(bus, f) == [2]
        await bus.advance("1d")
        assert sorted(await of_each(bus, f)) == [1, 2]
        await bus.send(Ping(4), id="mine")  # an id is remembered for 24 h
        assert sorted(await of_each(bus, f)) == [1, 2, 4]
        assert (await bus.runs(f))[-1].queued == bus.now


async def test_events_that_are_sent_for_later_come_at_their_time() -> None:
    app = Bus("shop")

    @app.function("f", on=Ping)
    async def f(ctx: Context[Ping], step: Step) -> int:
        await step.sleep("nap", "1h")
        return ctx.event.data.n

    async with Harness(app, at=BEGIN) as bus:
        await bus.send(Ping(1), delay="2h")
        await bus.send(Ping(2), at=BEGIN + timedelta(days=2))
        await bus.send(Ping(3))
        assert len(await bus.runs(f)) == 1
        await bus.advance("2h")
        assert [run.status for run in await bus.runs(f)] == ["completed", "waiting"]
        assert (await bus.runs(f))[1].queued == round(BEGIN.timestamp() * 1_000) + 7_200_000
        await bus.finish()
        assert await of_each(bus, f) == [3, 1, 2]


async def test_what_another_publishes_meanwhile_does_not_come_in_the_way() -> None:
    """A site of the same test, on a connection of its own, gives its events the server's time."""
    app = Bus("shop")

    @app.function("f", on=Ping)
    async def f(ctx: Context[Ping], step: Step) -> int:
        return ctx.event.data.n

    async with Harness(app, at=BEGIN) as bus:
        await bus.send(Ping(1))
        own, bus._wire.now = bus._wire.now, ""
        await bus.send(Ping(2))
        bus._wire.now = own
        await bus.send(Ping(3))
        await bus.send(Ping(4), id="mine")
        assert await of_each(bus, f) == [1, 2, 3, 4]


async def test_cancelled_by_an_event_that_comes_later() -> None:
    app = Bus("shop")

    @app.function("f", on=Ping, cancel_on=CancelOn("stop", match="data.n"))
    async def f(ctx: Context[Ping], step: Step) -> None:
        await step.sleep("nap", "30d")

    @app.function("tick", on=Cron("0 0 * * *"), cancel_on=CancelOn("stop"))
    async def tick(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.sleep("nap", "30d")

    async with Harness(app, at=BEGIN) as bus:
        await bus.send(Ping(1))
        await bus.send(Ping(2))
        await bus.advance("5h")
        await bus.send("stop", {"n": 1})
        assert sorted(run.status for run in await bus.runs(f)) == ["cancelled", "waiting"]
        assert [run.status for run in await bus.runs(tick)] == ["cancelled"]


@pytest.mark.parametrize("begin", [BEGIN, datetime(2031, 1, 1, tzinfo=UTC)])
async def test_what_is_called_and_run_again_begins_by_the_harness_s_clock(begin: datetime) -> None:
    app = Bus("shop")

    @app.function("f")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> Any:
        answer = await step.wait_for_event("answer", Ping, timeout="1d")
        return answer and answer.data.n

    async with Harness(app, at=begin) as bus:
        await bus.advance("2d")
        first = await bus.invoke(f)
        assert (await bus.run(first)).queued == bus.now
        await bus.advance("1h")
        await bus.send(Ping(5))
        assert await bus.output(first) == 5
        await bus.advance("1h")
        again = await bus.rerun(first)
        await bus.send(Ping(6))
        assert await bus.output(again) == 6
