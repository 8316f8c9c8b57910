"""After Redis was wiped, or a part of it: what is known is written again, and what is lost is told of."""

import asyncio
from collections.abc import AsyncGenerator

import anyio
import anyio.to_thread
import pytest
from starlette.testclient import TestClient

from stepstream import Context, Cron, Step
from stepstream.bus.event import Outgoing
from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.upkeep.audit import mend, standing
from stepstream.consumers.upkeep.registration import Registration
from stepstream.consumers.upkeep.retention import Retention
from stepstream.consumers.upkeep.ticker import Ticker
from stepstream.web.app import create_app
from tests.support import Lab, eventually


@pytest.mark.parametrize("own_id", [False, True])
async def test_a_publisher_tells_of_its_names_again_after_a_wipe(lab: Lab, own_id: bool) -> None:
    """`bus serve` lives through FLUSHALL: a function with a wildcard must hear of the names it knew."""

    @lab.app.function("f", on="shop/*")
    async def f(ctx: Context[dict], step: Step) -> str:
        return ctx.event.name

    served = Publisher(lab.wire)
    await served.publish([Outgoing("1", "shop/paid", b"{}", own_id=own_id)])
    await lab.admin.call("FLUSHALL")
    await lab.work()
    await served.publish([Outgoing("2", "shop/paid", b"{}", own_id=own_id)])
    assert bytes((await lab.one()).output or b"") == b'"shop/paid"'
    assert await lab.wire.call("ZRANGE", keys.event_names(), 0, -1) == [b"shop/paid"]


async def test_a_list_of_names_that_was_deleted_is_written_again_by_who_publishes(wire: Wire, monkeypatch) -> None:
    monkeypatch.setattr("stepstream.bus.wire.publishing._ANNOUNCE_EVERY_S", 0.0)
    publisher = Publisher(wire)
    await publisher.publish([Outgoing("1", "a", b"{}")])
    await wire.call("DEL", keys.event_names())
    await publisher.publish([Outgoing("2", "a", b"{}")])
    assert await wire.call("ZRANGE", keys.event_names(), 0, -1) == [b"a"]


async def test_what_strangers_choose_is_not_remembered_for_ever(wire: Wire, monkeypatch) -> None:
    """Names, ids, signals: each publisher keeps a bounded number of them in memory."""
    monkeypatch.setattr("stepstream.bus.wire.publishing._MOST_KNOWN", 100)
    publisher = Publisher(wire)
    for n in range(50):
        await publisher.publish([Outgoing(f"{n}-{m}", f"name/{n}-{m}", b"{}", own_id=True) for m in range(10)])
    assert len(publisher._known) <= 100
    assert (keys.coded.cache_info().maxsize or 1e9) < 10_000


@pytest.fixture
async def evicting(admin: Wire) -> AsyncGenerator[None]:
    """The server's operator switches eviction on, while all are at work."""
    await admin.call("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
    yield
    await admin.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


async def test_eviction_that_is_switched_on_at_run_time_is_told_once(lab: Lab, monkeypatch) -> None:
    monkeypatch.setattr("stepstream.consumers.upkeep.repair.LOOK_EVERY_S", 0.05)

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    def told() -> int:
        return sum("evicts keys" in notice.event for notice in lab.notices)

    async def is_told(times: int) -> bool:
        return told() == times

    await lab.work()
    on, off = ("1gb", "allkeys-lru"), ("0", "noeviction")
    try:
        for n, (memory, policy) in enumerate((on, off, on), 1):
            await lab.admin.call("CONFIG", "SET", "maxmemory", memory, "maxmemory-policy", policy)
            await eventually(lambda n=n: is_told((n + 1) // 2), "it is told")
            await anyio.sleep(0.2)
            assert told() == (n + 1) // 2, "once each time it is switched on"
    finally:
        await lab.admin.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


async def test_a_server_that_evicts_is_not_ready(settings: Settings, evicting: None) -> None:
    def asked() -> tuple[int, str]:
        with TestClient(create_app(configured=settings)) as client:
            answer = client.get("/ready")
            return answer.status_code, answer.text

    status, text = await anyio.to_thread.run_sync(asked)
    assert status == 503
    assert "allkeys-lru" in text


async def test_a_schedule_whose_last_tick_was_deleted_misses_none(wire: Wire) -> None:
    """The ticker knows when it looked last: what came due since is run."""
    ticker = Ticker(wire, "test-f", Cron("* * * * *"), Signals())
    wire.now = "1700000000000"
    await ticker.once()
    await wire.call("DEL", keys.cron("test-f"))
    wire.now = "1700000050000"
    await ticker.once()
    assert await wire.call("XLEN", keys.queue("test-f")) == 1


async def test_waits_are_read_again_after_their_events_stream_was_deleted(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> object:
        return await step.wait_for_event("it", "b", timeout="1h")

    await lab.work()
    await lab.send("a")
    await lab.status(await lab.first(), "waiting")
    await lab.wire.call("DEL", keys.events("b"))
    await lab.send("b", {"n": 1})
    assert (await lab.one()).status == "completed"


async def test_a_registry_that_was_deleted_is_written_again_by_the_sweep(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    worker = await lab.work()
    await lab.wire.call("XADD", keys.events("a"), "*", "data", "{}")
    await lab.one()
    await lab.wire.call("DEL", keys.meta(), keys.functions(), keys.triggers(), keys.event_names())
    await Registration(lab.wire, [f]).once()
    await Retention(lab.wire, worker.signals, ["test-f"], worker._assembly.feeds.names_read).once()
    assert await lab.wire.call("EXISTS", keys.meta(), keys.functions(), keys.triggers(), keys.event_names()) == 4


async def test_the_check_finds_nothing_wrong_with_runs_that_wait(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await asyncio.gather(
            step.wait_for_event("event", "b", match="data.n", timeout="1h"),
            step.wait_for_event("if", "b", if_="async.data.n == 1", timeout="1h"),
            step.wait_for_signal("signal", signal="go", timeout="1h"),
            step.sleep("sleep", "1h"),
        )

    await lab.work()
    await lab.send("a", {"n": 1})
    await lab.status(await lab.first(), "waiting")
    assert await standing(lab.checker) == []
    await lab.wire.call("DEL", keys.signal("go"))
    assert ["the signal it waits for is gone" in fault.words for fault in await standing(lab.checker)] == [True]
    for fault in await standing(lab.checker):
        assert await mend(lab.wire, fault)

    async def is_right() -> bool:
        return await standing(lab.checker) == [] and await lab.wire.call("EXISTS", keys.signal("go")) == 1

    await eventually(is_right, "it has its name again")


async def test_a_feed_that_fails_in_every_round_is_logged_once_though_its_neighbours_pass(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    worker = await lab.work()
    await lab.send("a")
    await lab.one()
    await lab.idle()
    feeds, stream = worker._assembly.feeds, keys.queue("test-f")
    await lab.wire.call("DEL", stream)
    await lab.wire.call("SET", stream, "no stream")
    for _ in range(4):
        for reader in feeds.readers:
            reader.broke = True  # then it looks for entries that never arrived
        await feeds.reclaim()
    told = [notice.fields["stream"] for notice in lab.notices if notice.event == "reclaiming pending entries failed"]
    assert told == [stream]
    await lab.wire.call("DEL", stream)

    async def mended() -> bool:
        return await lab.wire.call("EXISTS", stream) == 1

    await eventually(mended, "its reader has made the group again")
