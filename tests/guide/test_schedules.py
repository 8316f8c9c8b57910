"""Schedules, wildcards, events of a time to come: the shortest example of each, and what a clock change does."""

import asyncio
import json
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from stepstream import Bus, ConfigError, Context, Cron, NewEvent, On, Step, Timeouts
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.producers.cron import tick
from tests.support import Lab, eventually

SLUG = "test-f"


async def queued(wire: Wire) -> list[dict[str, Any]]:
    rows = await wire.call("XRANGE", keys.queue(SLUG), "-", "+")
    found = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in rows]
    return [json.loads(fields[b"event"])["data"] for fields in found]


async def at(wire: Wire, cron: Cron, moment: str, tz: str = "UTC") -> int:
    wire.now = str(round(datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(tz)).timestamp() * 1000))
    return await tick(wire, SLUG, cron, Signals())


async def test_cron(lab: Lab) -> None:
    @lab.app.function("nightly", on=Cron("* * * * *", tz="Europe/Paris", catch_up=True))
    async def nightly(ctx: Context[dict], step: Step) -> str:
        return ctx.event.data["cron"]

    minute = int(time.time()) // 60 * 60_000
    await lab.wire.call("HSET", keys.cron("test-nightly"), "cron * * * * * Europe/Paris", minute - 120_000)
    await lab.work()
    run = await lab.one()
    assert json.loads(bytes(run.output or b"")) == "* * * * *"
    assert (run.source, run.queued // 1000 * 1000 >= minute) == ("cron", True)
    await lab.idle()


async def test_a_new_schedule_begins_now_and_each_tick_is_queued_once(wire: Wire) -> None:
    cron = Cron("0 4 * * *")
    assert await at(wire, cron, "2026-05-01T04:00:10") == 24 * 3_600_000 - 10_000
    assert await queued(wire) == []
    for _ in range(3):
        await at(wire, cron, "2026-05-02T04:00:01")
    assert [one["scheduledAt"] for one in await queued(wire)] == ["2026-05-02T04:00:00Z"]


async def test_a_late_tick_runs_within_its_grace_and_of_several_only_the_latest(wire: Wire) -> None:
    cron = Cron("0 * * * *")
    await at(wire, cron, "2026-05-01T00:30:00")
    await at(wire, cron, "2026-05-01T05:29:00")
    assert [one["scheduledAt"] for one in await queued(wire)] == ["2026-05-01T05:00:00Z"]
    await at(wire, cron, "2026-05-01T06:31:00")
    assert len(await queued(wire)) == 1, "later than half its period: skipped"
    await at(wire, cron, "2026-05-01T06:32:00")
    assert len(await queued(wire)) == 1, "and not looked at again"


async def test_catch_up_lifts_the_bound_for_the_latest(wire: Wire) -> None:
    cron = Cron("0 4 * * *", catch_up=True)
    await at(wire, cron, "2026-05-01T05:00:00")
    await at(wire, cron, "2026-05-05T23:00:00")
    assert [one["scheduledAt"] for one in await queued(wire)] == ["2026-05-05T04:00:00Z"]


async def minutes_of(wire: Wire) -> list[str]:
    return [one["scheduledAt"][11:16] for one in await queued(wire)]


@pytest.mark.parametrize(
    ("expression", "clock", "ticks"),
    [
        # forth an hour and back: what was passed over runs, what has run does not run again
        ("* * * * *", ["10:00", "10:01", "11:02", "10:03", "10:04", "10:05"], ["10:01", "11:02", "10:04", "10:05"]),
        ("30 10 * * *", ["10:00", "11:00", "10:01", "10:29", "10:30", "10:31"], ["10:30"]),
        # back an hour: one that is due each minute goes on, one that is due each hour has had its run
        ("* * * * *", ["10:59", "11:00", "10:01", "10:02", "10:03"], ["11:00", "10:02", "10:03"]),
        ("* * * * *", ["11:00", "11:01", "10:01", "11:01", "11:02"], ["11:01", "11:02"]),
        ("0 * * * *", ["10:50", "11:00", "10:01", "10:30", "11:00", "12:00"], ["11:00", "12:00"]),
        # the same minutes again, each once
        ("*/20 * * * *", ["10:59", "11:00", "10:05", "10:20", "10:40", "11:00"], ["11:00", "10:20", "10:40", "11:00"]),
        # back by less than five minutes: no minute runs twice
        ("* * * * *", ["10:00", "10:01", "10:02", "10:00", "10:01", "10:02", "10:03"], ["10:01", "10:02", "10:03"]),
    ],
)
async def test_schedules_are_neither_silent_nor_doubled_when_the_servers_clock_is_set(
    wire: Wire, expression: str, clock: list[str], ticks: list[str]
) -> None:
    for time_of_day in clock:
        for _ in range(2):  # two workers
            await at(wire, Cron(expression), f"2026-05-01T{time_of_day}:00.500")
    assert await minutes_of(wire) == ticks
    runs = [
        dict(zip(flat[::2], flat[1::2], strict=True))[b"run"]
        for _, flat in await wire.call("XRANGE", keys.queue(SLUG), "-", "+")
    ]
    assert len(set(runs)) == len(ticks), "each is a run of its own"


async def test_many_schedulers_double_and_miss_none(wire: Wire) -> None:
    cron = Cron("* * * * *")
    start = 1_777_600_800_000
    wire.now = str(start)
    await tick(wire, SLUG, cron, Signals())
    for n in range(1, 251):
        wire.now = str(start + n * 60_000 + 200)
        await asyncio.gather(*(tick(wire, SLUG, cron, Signals()) for _ in range(4)))
    ticks = [one["scheduledAt"] for one in await queued(wire)]
    assert len(ticks) == len(set(ticks)) == 250


@pytest.mark.parametrize(
    ("expression", "tz", "before", "ticks"),
    [
        # a time of the day: in the gap right after it, in the repeated hour once
        ("30 2 * * *", "Europe/Paris", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("0,30 2 * * *", "Europe/Paris", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        # the minute or the hour begins with *: what the clock on the wall shows
        (
            "0 * * * *",
            "Europe/Paris",
            "2026-10-25T01:30",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
        ),
        (
            "*/30 1-3 * * *",
            "Europe/Paris",
            "2026-10-25T01:45",
            [
                f"2026-10-25T{time}"
                for time in ("02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00", "03:00+01:00")
            ],
        ),
        ("0 */2 * * *", "Europe/Paris", "2026-03-29T00:00", ["2026-03-29T04:00+02:00", "2026-03-29T06:00+02:00"]),
        # clocks that change by half an hour
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    ],
)
def test_clock_changes(expression: str, tz: str, before: str, ticks: list[str]) -> None:
    cron = Cron(expression, tz=tz)
    ms = round(datetime.fromisoformat(before).replace(tzinfo=ZoneInfo(tz)).timestamp() * 1000)
    for expected in ticks:
        ms = cron.next_after(ms)
        wanted = round(datetime.fromisoformat(expected).timestamp() * 1000)
        assert ms == wanted
        assert cron.last_before(ms) == ms
        assert cron.last_before(ms + 1_000) == ms


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        (Cron("0 0 30 2 *"), "it is never due"),
        (Cron("61 * * * *"), "out of range"),
        (Cron("* * * *"), "has not five fields"),
        (Cron("@hourly"), "has not five fields"),
        (Cron("0 4 * * *", tz="Europe/Pariss"), "did you mean Europe/Paris"),
    ],
)
def test_a_schedule_that_makes_no_sense_fails_when_declared(cron: Cron, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        Bus("a").function("f", on=cron)
    assert "function 'f'" in str(refused.value)


@pytest.mark.each_server
async def test_wildcards_also_of_streams_that_appear_later(lab: Lab) -> None:
    @lab.app.function("all", on=["shop/*", On("shop/user.*")])
    async def every(ctx: Context[dict], step: Step) -> str:
        return ctx.event.name

    @lab.app.function("users", on="shop/user.*")
    async def users(ctx: Context[dict], step: Step) -> str:
        return ctx.event.name

    await lab.send("shop/early")
    await lab.work()
    for name in ("shop/paid", "shop/user.made", "shop/user.gone", "other/x"):
        await lab.send(name)
    runs = await lab.ended(5)
    by_function = sorted((run.function, json.loads(bytes(run.output or b""))) for run in runs)
    assert by_function == [
        ("test-all", "shop/paid"),
        ("test-all", "shop/user.gone"),
        ("test-all", "shop/user.made"),
        ("test-users", "shop/user.gone"),
        ("test-users", "shop/user.made"),
    ]
    await lab.idle()


@pytest.mark.parametrize("name", ["*", "shop*", "sh*op/x", "shop/*x", "a/*/b"])
def test_a_wildcard_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a wildcard stands at the end"):
        Bus("a").function("f", on=name)


async def test_from_start_takes_what_is_there_already(lab: Lab) -> None:
    await lab.send("a", {"n": 1})
    await lab.send("a", {"n": 2})

    @lab.app.function("late", on=On("a", from_="start"))
    async def late(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    @lab.app.function("later", on="a")
    async def later(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    await lab.work()
    assert {(run.function, bytes(run.output or b"")) for run in await lab.ended(2)} == {
        ("test-late", b"1"), ("test-late", b"2"),
    }  # fmt: skip


async def test_an_event_of_a_time_to_come_runs_then(lab: Lab) -> None:
    ran: list[float] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        ran.append(time.time() * 1000)

    await lab.work()
    due = int(time.time() * 1000) + 1_600
    await lab.app.send(NewEvent("a", {}, ts=due))
    await lab.status(await lab.first(), "waiting")
    await lab.one()
    assert len(ran) == 1
    assert ran[0] >= due
    await lab.idle()


@pytest.mark.parametrize("ahead_ms", [5, 150, 950])
async def test_an_event_a_moment_ahead_never_starts_before_its_time(lab: Lab, ahead_ms: int) -> None:
    async def nothing(ctx: Context[dict], step: Step) -> None:
        return None

    lab.app.function("plain", on="a")(nothing)
    lab.app.function("bounded", on="a", timeouts=Timeouts(finish="1h"))(nothing)
    lab.app.function("limited", on="a", concurrency=2)(nothing)
    await lab.work()
    await lab.send("a")
    await lab.ended(3)
    due = await lab.wire.clock() + ahead_ms
    await lab.app.send(NewEvent("a", {}, ts=due))
    runs = await lab.ended(6)
    started = {run.function: run.started for run in runs if run.event and json.loads(bytes(run.event))["ts"] == due}
    assert sorted(started) == ["test-bounded", "test-limited", "test-plain"]
    late = {slug: at - due for slug, at in started.items() if at is not None}
    assert min(late.values()) >= 0, late
    assert max(late.values()) < 10_000, late


async def test_several_triggers(lab: Lab) -> None:
    @lab.app.function("f", on=["a", On("b", if_="event.data.n > 3"), Cron("0 4 * * *")])
    async def f(ctx: Context[dict], step: Step) -> str:
        return ctx.event.name

    await lab.work()
    await lab.send("a")
    await lab.send("b", {"n": 1})
    await lab.send("b", {"n": 5})
    assert sorted(json.loads(bytes(run.output or b"")) for run in await lab.ended(2)) == ["a", "b"]

    async def remembered() -> bool:
        return await lab.wire.call("HEXISTS", keys.cron(SLUG), "cron 0 4 * * *")

    await eventually(remembered, "the schedule has begun")
