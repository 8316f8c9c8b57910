"""What is published before the first worker waits for it, and who publishes learns whether anybody listens."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, Context, NewEvent, On, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys, registering
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.upkeep.served import unserved
from stepstream.consumers.upkeep.discovery import Discovery
from tests.patience import PATIENT_S
from tests.support import Lab, ValkeyProcess, eventually, free_port, logged_in, until

Publishes = Callable[[Bus], Bus]


@pytest.fixture
async def publishes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Publishes]:
    """Make of a bus one in a process that only publishes: a web application's, a script's."""
    monkeypatch.setenv("BUS_REDIS_URL", settings.redis_url)
    made: list[Bus] = []

    def opened(app: Bus) -> Bus:
        made.append(app)
        return app

    yield opened
    for app in made:
        await app.close()


def shop(*, on: Any = "order/paid", retries: int = 4, id: str = "ship") -> Bus:
    app = Bus("test")

    @app.function(id, on=on, retries=retries)
    async def ship(ctx: Context[dict], step: Step) -> Any:
        return ctx.event.data["n"]

    return app


async def declared(wire: Wire, slug: str = "test-ship") -> dict[str, Any]:
    return json.loads(await wire.call("HGET", keys.functions(), slug) or "{}")


async def test_what_is_published_before_the_first_worker_waits_for_it(lab: Lab, publishes: Publishes) -> None:
    web = publishes(shop())
    assert (await web.send("order/paid", {"n": 1})).functions == 1
    lab.app = shop()
    await lab.work()
    assert await lab.output() == 1


async def test_also_what_a_wildcard_means_and_what_it_means_later(lab: Lab, publishes: Publishes) -> None:
    web = publishes(shop(on=["order/*", On("old", from_="start")]))
    await lab.send("old", {"n": 0})
    await lab.send("order/before", {"n": -1})
    for n, name in enumerate(["order/before", "order/paid", "order/sent"], 1):
        assert (await web.send(name, {"n": n})).functions == 1
    lab.app = shop(on=["order/*", On("old", from_="start")])
    await lab.work()
    assert sorted(json.loads(bytes(run.output)) for run in await lab.ended(4)) == [0, 1, 2, 3]


async def test_what_a_worker_has_declared_is_not_replaced(lab: Lab, publishes: Publishes) -> None:
    lab.app = shop(retries=7)
    await lab.work()
    web = publishes(shop(retries=1))
    await web.send("order/paid", {"n": 1})
    assert (await declared(lab.wire))["retries"] == 7
    assert await lab.output() == 1


async def test_a_worker_replaces_what_a_publisher_has_declared(lab: Lab, publishes: Publishes) -> None:
    await publishes(shop(retries=1)).send("order/paid", {"n": 1})
    assert (await declared(lab.wire))["retries"] == 1
    lab.app = shop(retries=7)
    await lab.work()
    assert (await declared(lab.wire))["retries"] == 7


async def test_a_new_trigger_loses_nothing_while_old_workers_run(lab: Lab, publishes: Publishes) -> None:
    """The web application is deployed first: its function has a trigger that the workers do not know yet."""
    lab.app = shop()
    old = await lab.work()
    await publishes(shop(on=["order/paid", "order/gift"])).send("order/gift", {"n": 2})
    old.stop()
    await lab.work(app=shop(on=["order/paid", "order/gift"]))
    assert await lab.output() == 2


async def test_a_wildcard_of_a_publisher_begins_no_later_than_the_workers_would(lab: Lab, publishes: Publishes) -> None:
    """The worker has not seen the name yet: a group that begins at the publisher's event would lose the one before."""
    lab.app = shop(on="order/*")
    first = await lab.work()
    first.stop()
    await eventually(lambda: _is_off(lab.wire), "the worker has left")
    await lab.send("order/new", {"n": 1})
    await publishes(shop(on="order/*")).send("order/new", {"n": 2})
    await lab.work()
    assert sorted(json.loads(bytes(run.output)) for run in await lab.ended(2)) == [1, 2]


async def _is_off(wire: Wire) -> bool:
    return not await wire.call("ZCARD", keys.workers())


async def test_a_function_that_is_declared_after_the_first_event_is_registered_too(
    lab: Lab, publishes: Publishes
) -> None:
    web = publishes(Bus("test"))
    assert (await web.send("order/paid", {"n": 1})).functions == 0

    @web.function("ship", on="order/paid")
    async def ship(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    assert (await web.send("order/paid", {"n": 2})).functions == 1
    lab.app = shop()
    await lab.work()
    assert await lab.output() == 2


async def test_a_publisher_puts_back_what_was_deleted(lab: Lab, publishes: Publishes) -> None:
    web = publishes(shop())
    await web.send("order/paid", {"n": 1})
    await lab.admin.call("FLUSHDB")
    assert (await web.send("order/paid", {"n": 2})).functions == 1
    lab.app = shop()
    await lab.work()
    assert await lab.output() == 2


async def test_that_nobody_listens_is_told_until_somebody_does(
    lab: Lab, publishes: Publishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "FRESH_S", 3_600.0)  # so it is not that which lets it be read again
    web = publishes(Bus("web"))
    assert (await web.send("order/paid", {"n": 1})).functions == 0
    lab.app = shop()
    await lab.work()

    async def heard() -> bool:
        return (await web.send("order/paid", {"n": 2})).functions == 1

    await eventually(heard, "the worker is seen")
    ids = await web.send([NewEvent("order/paid", {"n": 3}), NewEvent("order/lost")])
    assert [sent.functions for sent in ids] == [1, 0]
    assert json.dumps(ids) == json.dumps([str(sent) for sent in ids]), "they are text"


async def test_the_registry_is_asked_once_and_not_for_each_event(lab: Lab, publishes: Publishes) -> None:
    web = publishes(shop())

    @web.function("unheard", on="x")
    async def unheard(ctx: Context[dict], step: Step) -> None: ...

    async def counted() -> dict[str, int]:
        lines = (await lab.wire.call("INFO", "commandstats")).decode().splitlines()
        calls = {line.split(":")[0].removeprefix("cmdstat_"): line.split("=")[1].split(",")[0] for line in lines[1:]}
        return {name: int(count) for name, count in calls.items()}

    await lab.admin.call("CONFIG", "RESETSTAT")
    await web.send("order/paid", {"n": 1})
    first = await counted()
    assert first["hgetall"] == 1
    began = time.monotonic()
    for n in range(50):
        await web.send("order/paid", {"n": n})
        await web.send("nobody/listens", {"n": n})
    later = await counted()
    assert later["xadd"] == first["xadd"] + 101, "the stream of a new name is tried twice"
    assert later["hsetnx"] == first["hsetnx"]
    reads = 3 + (time.monotonic() - began) / registering.ZERO_FRESH_S
    assert later["hgetall"] <= reads, "where nobody listens it is read again, a few times a second"


async def test_many_that_publish_first_register_once_also_when_one_is_cancelled(lab: Lab, publishes: Publishes) -> None:
    web = publishes(shop())
    first = asyncio.ensure_future(web.send("order/paid", {"n": 0}))
    others = [asyncio.ensure_future(web.send("order/paid", {"n": n})) for n in range(1, 20)]
    await asyncio.sleep(0)
    first.cancel()
    assert {sent.functions for sent in await asyncio.gather(*others)} == {1}
    lab.app = shop()
    await lab.work()
    assert len(await lab.ended(19)) == 19


async def test_a_function_of_another_bus_is_left_alone_and_told_of(
    lab: Lab, publishes: Publishes, caplog: pytest.LogCaptureFixture
) -> None:
    """Bus `a-b` with function `c` and bus `a` with function `b-c` have one slug."""
    await publishes(_with("a", "b-c")).send("x")
    await publishes(_with("a-b", "c")).send("x")
    assert (await declared(lab.wire, "a-b-c"))["bus"] == "a"
    assert "belongs to another bus" in caplog.text


def _with(bus: str, function: str) -> Bus:
    app = Bus(bus)

    @app.function(function, on="x")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    return app


@pytest.mark.each_server
async def test_who_may_only_publish_publishes_and_is_told_once(
    lab: Lab,
    settings: Settings,
    publishes: Publishes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rights = ["~bus:events:*", "~bus:event-names", "+xadd", "+zadd", "+evalsha", "+eval", "+time"]
    rights += ["+get", "+set", "+exists"]
    await lab.admin.call("ACL", "SETUSER", "poster", "on", ">pw", *rights)
    monkeypatch.setenv("BUS_REDIS_URL", logged_in(settings.redis_url, "poster"))
    try:
        web = publishes(shop())
        for n in range(3):
            assert (await web.send("order/paid", {"n": n})).functions is None
        assert (await web.send("order/paid", {"n": 4}, id="mine")) == "mine"
        assert await lab.wire.call("XLEN", keys.events("order/paid")) == 4
        told = [line for line in caplog.messages if "not registered" in line]
        assert len(told) == 1
        assert "+hgetall" in told[0]
        assert "does not serve" not in caplog.text
    finally:
        await lab.admin.call("ACL", "DELUSER", "poster")


async def test_who_may_read_the_registry_but_not_write_it_counts(
    lab: Lab, settings: Settings, publishes: Publishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publishes(_with("other", "f")).send("x")
    rights = ["~bus:events:*", "~bus:event-names", "%R~bus:functions", "+xadd", "+zadd", "+hgetall", "+evalsha"]
    await lab.admin.call("ACL", "SETUSER", "poster", "on", ">pw", *rights)
    monkeypatch.setenv("BUS_REDIS_URL", logged_in(settings.redis_url, "poster"))
    try:
        assert [(await publishes(shop()).send(name)).functions for name in ("x", "y")] == [1, 0]
    finally:
        await lab.admin.call("ACL", "DELUSER", "poster")


async def test_a_store_of_another_format_is_left_alone(
    lab: Lab, publishes: Publishes, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.wire.call("HSET", keys.meta(), "format", 2)
    await publishes(shop()).send("order/paid", {"n": 1})
    assert not await lab.wire.call("EXISTS", keys.functions())
    assert "format 2" in caplog.text


async def test_that_functions_wait_for_a_worker_is_logged_once(
    lab: Lab, publishes: Publishes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "stepstream")
    for _ in range(2):
        await publishes(shop()).send("order/paid", {"n": 1})
    [told] = [line for line in caplog.messages if "no worker has declared" in line]
    assert "test-ship" in told


async def test_of_sixty_functions_that_wait_the_log_names_some(
    publishes: Publishes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "stepstream")
    app = Bus("test")
    for n in range(60):

        @app.function(f"f{n}", on="order/paid")
        async def f(ctx: Context[dict], step: Step) -> None:
            return None

    await publishes(app).send("order/paid", {"n": 1})
    [told] = [line for line in caplog.messages if "no worker has declared" in line]
    assert ("'test-f0'" in told, "'50 more'" in told, "'test-f59'" in told) == (True, True, False)


def test_a_site_that_has_loaded_an_app_registers_it_and_tells_how_many_listen(settings: Settings, url: str) -> None:
    with TestClient(create_app(shop(), configured=settings)) as http, redis.Redis.from_url(url) as store:
        one = http.post("/e/key", json={"name": "order/paid", "data": {"n": 1}}).json()
        assert one["functions"] == 1
        assert store.hexists(keys.functions(), "test-ship")
        several = http.post("/e/key", json=[{"name": "order/paid"}, {"name": "order/payed"}]).json()
        assert (several["functions"], several["nobody_listens_to"]) == (1, ["order/payed"])
        assert http.post("/e/key", json={"name": "order/payed"}).json()["functions"] == 0


@pytest.mark.process
def test_bus_serve_registers_at_its_start_or_once_redis_is_there(tmp_path: Path) -> None:
    """It did so with its first event only: what others published before was lost to its functions."""
    (tmp_path / "shop.py").write_text(
        "from stepstream import Bus\napp = Bus('shop')\n@app.function('ship', on='order/paid')\n"
        "async def ship(ctx, step):\n    pass\n"
    )
    server = ValkeyProcess(tmp_path)
    command = [sys.executable, "-m", "stepstream", "serve", "shop:app", "--port", str(free_port())]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "BUS_REDIS_URL": server.url}, stderr=subprocess.PIPE, text=True
    ) as site:
        try:
            assert site.stderr is not None
            while "does not serve" not in (line := site.stderr.readline()):
                assert line, "it says that Redis is away, and stays up"
            with server, redis.Redis.from_url(server.url) as store:
                until(lambda: store.hexists(keys.functions(), "shop-ship"), "it is registered")
                site.send_signal(signal.SIGTERM)
                assert site.wait(PATIENT_S) == 0
        finally:
            site.kill()


async def test_the_doctor_names_functions_that_wait_for_a_worker(lab: Lab, publishes: Publishes) -> None:
    await publishes(shop()).send("order/paid", {"n": 1})
    [finding] = await unserved(lab.wire)
    assert (finding.verdict, finding.found) == ("advice", "none for test-ship")
    lab.app = shop()
    await lab.work()
    await lab.output()

    async def served() -> bool:
        [finding] = await unserved(lab.wire)
        return finding.verdict == "fit"

    await eventually(served, "its worker is seen")


async def test_a_wildcard_finds_a_name_that_came_while_another_went(lab: Lab) -> None:
    """Their number is the same then."""

    @lab.app.function("f", on="shop/*")
    async def f(ctx, step): ...

    discovery = Discovery(lab.wire, f, all_again_s=0.02)
    await lab.wire.call("ZADD", keys.event_names(), 1, "shop/a", 1, "other")
    assert await discovery.new() == ["shop/a"]
    discovery.opened("shop/a")
    assert await discovery.new() == []
    await lab.wire.call("ZREM", keys.event_names(), "other")
    await lab.wire.call("ZADD", keys.event_names(), 1, "shop/b")

    async def is_found() -> bool:
        return await discovery.new() == ["shop/b"]

    await eventually(is_found, "the new name is found")
    await lab.wire.call("DEL", keys.event_names())
