"""Testing your own functions: the shortest example of each thing the harness does, on a server of its own and on a given one."""

import asyncio
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from stepstream import (
    Batch,
    Bus,
    ConfigError,
    Context,
    Cron,
    EventData,
    Fetched,
    Function,
    Harness,
    NonRetriable,
    Retry,
    Step,
    Throttle,
)
from tests.support import ValkeyProcess


class OrderPaid(EventData, name="order/paid", rename="camel"):
    order_id: str


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with ValkeyProcess(tmp_path_factory.mktemp("harness")) as process:
        yield process.url


@pytest.fixture(params=["its own server", "a given server"])
def harness(request: pytest.FixtureRequest, valkey: str) -> Callable[..., Harness]:
    """As the plugin's fixture, on both."""
    if request.param == "its own server":
        return Harness
    return partial(Harness, url=valkey, flush=True)


async def test_time_stands_still_until_it_is_moved(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    @app.function("ship", on=OrderPaid)
    async def ship(ctx: Context[OrderPaid], step: Step) -> str:
        await step.sleep("cool-down", "7d")
        return f"shipped {ctx.event.data.order_id}"

    async with harness(app) as bus:
        await bus.send(OrderPaid("o1"))
        await bus.advance("6d")
        assert (await bus.run()).status == "waiting"
        await bus.advance("1d")
        assert await bus.output() == "shipped o1"


async def test_steps_are_stubbed_by_their_id(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    def charge(order: str) -> str:
        raise AssertionError("a test must not charge")

    @app.function("ship", on=OrderPaid, retries=Retry(2, backoff=60))
    async def ship(ctx: Context[OrderPaid], step: Step) -> list[str]:
        receipt = await step.run("charge", charge, ctx.event.data.order_id)
        return [receipt, await step.run("label", lambda: "label")]

    async with harness(app) as bus:
        bus.stub("charge", call=lambda order: f"receipt of {order}")
        await bus.send(OrderPaid("o1"))
        assert await bus.output() == ["receipt of o1", "label"]
        assert list(await bus.steps()) == ["charge", "label"]

    async with harness(app) as bus:
        bus.stub("charge", raises=ConnectionError("bank is closed"))
        await bus.send(OrderPaid("o2"))
        step = (await bus.steps())["charge"]
        assert (step.state, step.attempts) == ("retrying", 1)
        await bus.finish()
        run = await bus.run()
        assert (run.status, run.error and run.error.message) == ("failed", "step 'charge': bank is closed")


async def test_a_body_takes_no_time_so_steps_stand_in_their_order(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    @app.function("ship", on=OrderPaid)
    async def ship(ctx: Context[OrderPaid], step: Step) -> None:
        for name in ("b", "a"):
            await step.run(name, asyncio.sleep, 0.01 if name == "a" else 0)

    async with harness(app) as bus:
        await bus.send(OrderPaid("o1"))
        await bus.finish()
        assert [(name, step.ended - step.started) for name, step in (await bus.steps()).items()] == [("b", 0), ("a", 0)]


async def test_waits_events_and_signals(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    @app.function("ship", on=OrderPaid)
    async def ship(ctx: Context[OrderPaid], step: Step) -> list[object]:
        back = await step.wait_for_event("back", "order/returned", match="data.orderId", timeout="14d")
        word = await step.wait_for_signal("word", "go", timeout="1d")
        await step.send_event("tell", "order/done", {"n": 1})
        return [back and back.data["why"], word]

    async with harness(app) as bus:
        await bus.send(OrderPaid("o1"))
        await bus.advance("13d")
        await bus.send("order/returned", {"orderId": "o1", "why": "too small"})
        assert await bus.signal("go", 7)
        assert await bus.output() == ["too small", 7]
        assert [event.data for event in await bus.events("order/done")] == [{"n": 1}]

    async with harness(app) as bus:
        await bus.send(OrderPaid("o1"))
        await bus.advance("15d")
        assert await bus.output() == [None, None]


async def test_schedules(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    @app.function("nightly", on=Cron("0 4 * * *", tz="Europe/Paris"))
    async def nightly(ctx: Context[dict], step: Step) -> str:
        return ctx.event.data["scheduledAt"]

    async with harness(app, at=datetime(2026, 7, 1, 12, tzinfo=UTC)) as bus:
        await bus.advance("2d")
        outputs = [await bus.output(run.id) for run in await bus.runs()]
        assert outputs == ["2026-07-02T02:00:00Z", "2026-07-03T02:00:00Z"]


async def test_calls_ends_cancel_and_rerun(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    async def sorry(ctx: Context[dict], step: Step) -> str:
        return ctx.event.data["error"]["message"]

    @app.function("child", on_failure=sorry)
    async def child(ctx: Context[dict], step: Step) -> int:
        if ctx.event.data["n"] < 0:
            raise NonRetriable("below zero")
        await step.sleep("nap", "1h")
        return ctx.event.data["n"] + 1

    async with harness(app) as bus:
        run = await bus.invoke(child, {"n": 1})
        await bus.finish()
        assert await bus.output(run) == 2
        again = await bus.rerun(run)
        await bus.cancel(again)
        assert (await bus.run(again)).status == "cancelled"
        await bus.invoke("shop-child", {"n": -1})
        assert await bus.output((await bus.runs("shop-child-failure"))[0].id) == "below zero"


async def test_an_application_is_not_mixed_with_another(url: str) -> None:
    app = Bus("shop")

    @app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    async with Harness(app, url=url) as bus:
        await bus.send("a")
        with pytest.raises(AssertionError, match="there is no run x"):
            await bus.run("x")
    with pytest.raises(ConfigError, match="holds an application already"):
        async with Harness(app, url=url):
            pass


def test_the_plugin_is_found(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.hasplugin("stepstream")


async def test_limits_by_the_clock(harness: Callable[..., Harness]) -> None:
    app = Bus("shop")

    @app.function("f", on="a", throttle=Throttle(2, "1h"))
    async def f(ctx: Context[dict], step: Step) -> int:
        await step.sleep("nap", "1m")
        return ctx.event.data["n"]

    @app.function("counted", on="b", batch=Batch(2, "1h"))
    async def counted(ctx: Context[dict], step: Step) -> int:
        return len(ctx.events)

    async with harness(app) as bus:
        for n in range(3):
            await bus.send("a", {"n": n})
            await bus.send("b", {"n": n})
        assert sorted(run.status for run in await bus.runs(f)) == ["queued", "waiting", "waiting"]
        await bus.advance("29m")
        assert sorted(run.status for run in await bus.runs(f)) == ["completed", "completed", "queued"]
        await bus.advance("2h")
        assert sorted([await bus.output(run.id) for run in await bus.runs(f)]) == [0, 1, 2]
        done = [run for run in await bus.runs(counted) if run.status == "completed"]
        assert [await bus.output(run.id) for run in done] == [2, 1]


async def test_large_answers_and_a_loop_that_stands_still_break_no_connection(harness: Callable[..., Harness]) -> None:
    """fakeredis hung up when its reader did not keep up; a busy machine was enough."""
    app = Bus("shop")

    @app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> int:
        return await step.run("large", lambda: len(ctx.event.data["text"]))

    async with harness(app) as bus:
        for _ in range(5):
            await bus.send("a", {"text": "x" * 1_000_000})
        told = asyncio.gather(*(bus.events("a") for _ in range(5)))
        await asyncio.sleep(0.001)
        time.sleep(0.3)
        assert [len(one) for one in await told] == [5] * 5
        assert [run.status for run in await bus.runs()] == ["completed"] * 5
        assert not [
            one for one in bus.notices if not one.event.startswith("persistence")
        ]  # the given one keeps nothing


async def test_harnesses_side_by_side_are_strangers() -> None:
    def one(name: str) -> Bus:
        app = Bus("shop")

        @app.function("f", on="a")
        async def f(ctx: Context[dict], step: Step) -> str:
            return name

        return app

    async with Harness(one("first")) as first, Harness(one("second")) as second:
        await asyncio.gather(first.send("a"), second.send("a"))
        assert [await first.output(), await second.output()] == ["first", "second"]
    async with Harness(one("third")) as third:
        assert await third.runs() == []


class Label(msgspec.Struct):
    text: str


def print_label(order: str) -> Label:
    raise AssertionError("a test must not print")


async def fetch_rate(step: Step) -> Fetched:
    return await step.fetch("rate", "http://127.0.0.1:1/never")


def shop() -> tuple[Bus, Function[OrderPaid, Label], Function[OrderPaid, str]]:
    app = Bus("shop")

    @app.function("ship", on=OrderPaid, retries=Retry(3, backoff=60))
    async def ship(ctx: Context[OrderPaid], step: Step) -> Label:
        label = await step.run("print", print_label, ctx.event.data.order_id)
        return Label(label.text.upper())  # a dict has no text

    @app.function("bill", on=OrderPaid)
    async def bill(ctx: Context[OrderPaid], step: Step) -> str:
        await step.sleep("cool-down", "7d")
        rate = await fetch_rate(step)
        told = await step.invoke("tell", "elsewhere-tell", {"order": ctx.event.data.order_id})
        await step.send_event("done", OrderBilled(ctx.event.data.order_id))
        return f"{rate.json()['rate']} {told}"

    return app, ship, bill


class OrderBilled(EventData, name="order/billed"):
    order: str


async def test_a_stub_gives_the_handler_what_its_step_gives_in_production() -> None:
    """A label came as a dict, a fetched answer had no status, and a function of another app could not be called."""
    app, ship, bill = shop()
    async with Harness(app) as bus:
        bus.stub("print", Label("l1"), raises=ConnectionError("closed"), times=2)
        bus.stub("rate", Fetched(200, {}, '{"rate": 3}'))
        bus.stub("tell", call=lambda data: f"told of {data['order']}")
        bus.stub("chrge", 1)
        await bus.send(OrderPaid("o1"))
        assert (await bus.steps(ship))["print"].attempts == 1
        await bus.advance("10m")
        assert await bus.output(ship) == Label("L1")
        assert (await bus.steps(ship))["print"].attempts == 3
        await bus.finish()
        assert await bus.output(bill) == "3 told of o1"
        assert (await bus.event(OrderBilled)).data == OrderBilled("o1")
        assert bus.unused_stubs == ["chrge"]


async def test_a_stub_that_does_not_fit_its_step_says_so() -> None:
    app, ship, _ = shop()
    async with Harness(app) as bus:
        bus.stub("print", {"txt": "l1"})
        await bus.send(OrderPaid("o1"))
        with pytest.raises(
            AssertionError, match=r"step 'print' does not fit its annotation .*missing required field `text`"
        ):
            await bus.output(ship)
        with pytest.raises(ConfigError, match="times=0"):
            bus.stub("print", raises=ValueError(), times=0)


async def test_several_runs_are_told_apart_by_function_and_by_event() -> None:
    app, ship, bill = shop()
    async with Harness(app) as bus:
        bus.stub("print", call=lambda order: Label(order))
        first, second = await bus.send(OrderPaid("o1")), await bus.send(OrderPaid("o2"))
        assert [await bus.output(one, ship) for one in (first, second)] == [Label("O1"), Label("O2")]
        assert [run.status for run in await bus.runs(bill)] == ["waiting", "waiting"]
        assert {run.function for run in await bus.runs(first)} == {"shop-ship", "shop-bill"}
        run = (await bus.runs(ship))[0]
        assert await bus.output(run) == await bus.output(run.id) == {"text": "O1"}


async def test_a_failed_look_says_what_there_is() -> None:
    app, ship, bill = shop()
    async with Harness(app) as bus:
        bus.stub("print", Label("l1"))
        with pytest.raises(AssertionError, match="there is no run; the functions listen to order/paid"):
            await bus.run()
        with pytest.raises(AssertionError, match="no event order/billed was sent; nothing was sent"):
            await bus.event(OrderBilled)
        sent = await bus.send(OrderPaid("o1"))
        with pytest.raises(
            AssertionError,
            match=r"there are 2 runs: run \w+ of shop-ship \(completed\); run .* Say which: by its function",
        ):
            await bus.run()
        with pytest.raises(AssertionError, match=f"there are 2 runs of {sent}"):
            await bus.output(sent)
        with pytest.raises(
            AssertionError,
            match=r"no step 'prnt' in run \w+ of shop-ship \(completed\); did you mean 'print'\?; steps: print completed",
        ):
            (await bus.steps(ship))["prnt"]
        with pytest.raises(
            AssertionError, match=r"of shop-bill \(waiting\); steps: cool-down waiting; the first is due in 7 d"
        ):
            await bus.output(bill)
        with pytest.raises(
            AssertionError, match=r"no event order/payd was sent; did you mean 'order/paid'\?; sent were order/paid"
        ):
            await bus.event("order/payd")
        with pytest.raises(
            AssertionError, match="there is no run nonsense, nor one of an event of that id; there are: run"
        ):
            await bus.run("nonsense")
        assert "refund" not in await bus.steps(ship)
        await bus.at(datetime.fromtimestamp(bus.now / 1_000 + 6 * 86_400, UTC))
        assert (await bus.run(bill)).status == "waiting"
        with pytest.raises(ConfigError, match="it moves forth only"):
            await bus.at(datetime(2020, 1, 1, tzinfo=UTC))


async def test_an_application_sends_to_the_harness_it_is_in_and_to_none_after_it() -> None:
    """One app at module level, many tests: `app.send` of the code under test went to a connection that was closed."""
    app, ship, _ = shop()
    async with Harness(app) as outer:
        outer.stub("print", Label("outer"))
        async with Harness(app) as inner:
            inner.stub("print", Label("inner"))
            await app.send(OrderPaid("o1"))
            await outer.send(OrderPaid("o2"))
            await inner.idle()
            assert [await one.output(ship) for one in (inner, outer)] == [Label("INNER"), Label("OUTER")]
        await app.send(OrderPaid("o3"))
        await outer.idle()
        assert len(await outer.runs(ship)) == 2
    assert app._wires.connected_loop is None
    async with Harness(app) as again:
        assert await again.runs() == []
        assert again.unused_stubs == []


async def test_where_no_server_can_run_a_fake_one_does() -> None:
    app, ship, bill = shop()

    @app.function("fails", on=OrderPaid, retries=Retry(3, backoff=60))
    async def fails(ctx: Context[OrderPaid], step: Step) -> None:
        await step.run("charge", lambda: 1 // 0)

    async with Harness(app, server="fake", within=30) as bus:
        bus.stub("print", Label("l1"))
        bus.stub("rate", Fetched(200, {}, '{"rate": 3}'))
        bus.stub("tell", "told")
        await bus.send(OrderPaid("o1"))
        assert await bus.output(ship) == Label("L1")
        await bus.finish()
        assert await bus.output(bill) == "3 told"
        assert (await bus.run(fails)).status == "failed"
        assert (await bus.event(OrderBilled)).data == OrderBilled("o1")
    with pytest.raises(ConfigError, match="give one of them"):
        Harness(app, url="redis://127.0.0.1:1/0", server="fake")
