"""Only what was stored behind a run's own event answers its waits or cancels it, however late the courier is; and what one
event does to many runs is done together."""

import asyncio
import json
from typing import Any

import pytest

from stepstream import Batch, CancelOn, Context, Debounce, EventData, On, Step
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.checkpoint.waits.event_waits import GROUP, Wait
from stepstream.checkpoint.waits.order import begun_before
from tests.support import Lab, eventually


class Ordered(EventData, name="shop/ordered", rename="camel"):
    order_id: str


async def courier_behind(lab: Lab, name: str) -> None:
    """Let the courier begin with the first event of a name that there is, as one does that is behind."""
    await lab.wire.call("XGROUP", "CREATE", keys.events(name), GROUP, "0", "MKSTREAM")


@pytest.mark.parametrize("how", ["match", "if", "any"])
async def test_an_event_stored_before_the_runs_own_never_answers_its_wait(lab: Lab, how: str) -> None:
    options: dict[str, Any] = {
        "match": {"match": "data.orderId"}, "if": {"if_": "async.data.orderId == event.data.orderId"}, "any": {},
    }[how]  # fmt: skip

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        approval = await step.wait_for_event("approval", "shop/approved", **options, timeout="1h")
        return approval.data["by"] if approval else "nobody"

    await lab.work()
    await courier_behind(lab, "shop/approved")
    for n in range(5):
        await lab.send("shop/approved", {"orderId": "o1", "by": f"before {n}"})
    await asyncio.sleep(0.002)  # into another millisecond
    await lab.app.send(Ordered("o1"))
    run = await lab.first()
    await lab.status(run, "waiting")

    async def caught_up() -> bool:
        group = (await lab.wire.call("XINFO", "GROUPS", keys.events("shop/approved")))[0]
        return dict(zip(group[::2], group[1::2], strict=True)).get(b"lag") == 0

    await eventually(caught_up, "the courier has read all")
    await lab.idle()
    await lab.send("shop/approved", {"orderId": "o1", "by": "behind"})
    assert await lab.output() == "behind"


@pytest.mark.parametrize("limit", [{}, {"batch": Batch(2, "1m")}, {"debounce": Debounce("1s")}], ids=str)
async def test_no_event_a_run_is_made_of_answers_its_wait(lab: Lab, limit: dict[str, Any]) -> None:
    @lab.app.function("again", on="shop/again", **limit)
    async def again(ctx: Context[dict], step: Step) -> bool:
        return await step.wait_for_event("next", "shop/again", timeout=0.3) is None

    await courier_behind(lab, "shop/again")
    await lab.work()
    for _ in range(2 if limit else 1):
        await lab.send("shop/again")

    async def done() -> list[bytes]:
        return [bytes(run.output or b"") for run in await lab.runs() if run.status == "completed"]

    assert await eventually(done, "it has waited") == [b"true"]


async def test_an_event_that_a_run_has_taken_does_not_answer_its_next_wait(lab: Lab) -> None:
    """The first wait finds it by looking back; the courier, which is behind, comes by with it when the second is there."""

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> list[Any]:
        first = await step.wait_for_event("first", "shop/step", timeout="1h")
        second = await step.wait_for_event("second", "shop/step", timeout="1h")
        return [first and first.data["n"], second and second.data["n"]]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    run = await lab.first()
    await lab.status(run, "waiting")
    await lab.send("shop/step", {"n": 1})

    async def second_waits() -> bool:
        found = await lab.steps((await lab.runs())[0])
        return "second" in found and (await lab.runs())[0].status == "waiting"

    await eventually(second_waits, "the second waits")
    await lab.wire.call("XGROUP", "SETID", keys.events("shop/step"), GROUP, "0")
    await lab.send("shop/step", {"n": 2})
    assert await lab.output() == [1, 2]


@pytest.mark.leaves_behind("its entries and runs are made up")
async def test_entries_of_one_stream_are_ordered_within_a_millisecond_and_those_of_two_are_not(lab: Lab) -> None:
    @lab.app.function("f", on=On("shop/a", if_="event.data.own == true"))
    async def f(ctx: Context[dict], step: Step) -> None: ...

    slug, ms = "test-f", entry_ms((await lab.send("shop/x")).entry)
    own = run_id(slug, "event", f"shop/a|{ms}-5", ms)
    for number in (4, 5, 6):
        await lab.wire.call("XADD", keys.events("shop/a"), f"{ms}-{number}", "data", "{}")
    await lab.wire.call("XADD", keys.events("shop/b"), f"{ms}-1", "data", "{}")

    async def is_behind(name: str, entry: str) -> bool:
        return bool(await begun_before(lab.wire, name, entry, [(slug, own)]))

    assert not await is_behind("shop/a", f"{ms - 1}-9")
    assert not await is_behind("shop/a", f"{ms}-4")
    assert not await is_behind("shop/a", f"{ms}-5"), "the run's own"
    assert await is_behind("shop/a", f"{ms}-6")
    assert await is_behind("shop/b", f"{ms}-1")
    assert not await is_behind("shop/b", f"{ms - 1}-1")


async def calls(lab: Lab, command: str) -> int:
    """Return how often a command was called since the server began."""
    stats = (await lab.wire.call("INFO", "commandstats")).decode()
    found = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


async def reads(lab: Lab) -> int:
    """Return how often the server has read from a connection: all commands of one write count once."""
    stats = (await lab.wire.call("INFO", "stats")).decode()
    return int(stats.split("total_reads_processed:")[1].split()[0])


@pytest.mark.leaves_behind("its entries and runs are made up")
async def test_the_runs_that_wait_by_expression_are_looked_up_together(lab: Lab) -> None:
    """A thousand waits were a thousand round trips for each event."""

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> int:
        found = await step.wait_for_event("w", "shop/paid", if_="async.data.n == event.data.orderId", timeout="1h")
        return found.data["n"] if found else 0

    await lab.work()
    await lab.app.send(Ordered("7"))
    await lab.status(await lab.first(), "waiting")
    event = json.dumps({"id": "e", "name": "shop/ordered", "data": {"orderId": "8"}, "ts": 1})
    for n in range(900):
        run = f"01ARZ3NDEKTSV4RRFFQ69G{n:04}"
        word = Wait("shop/paid", "test-other", run, "w", 2**43, if_="async.data.n == event.data.orderId").word
        lab.wire.call("HSET", keys.run("test-other", run), "status", "waiting", "event", event)
        lab.wire.call("HSET", keys.waits_if("shop/paid"), word, '{"if":"async.data.n == event.data.orderId"}')
    before = await reads(lab)
    await lab.send("shop/paid", {"n": "7"})
    assert await lab.output() == "7"
    assert await reads(lab) - before < 300


async def test_an_event_that_cancels_many_runs_cancels_them_together(lab: Lab) -> None:
    """It asked for one run after the other."""
    count = 400

    @lab.app.function("order", on=Ordered, cancel_on=CancelOn("shop/closed"))
    async def order(ctx: Context[Ordered], step: Step) -> None:
        await step.sleep("until-it-is-sent", "1h")

    await lab.work(concurrency=100)
    await lab.app.send([Ordered(str(n)) for n in range(count)])

    async def all_wait() -> bool:
        return await lab.wire.call("ZCARD", keys.runs("test-order", "waiting")) == count

    await eventually(all_wait, "all wait")
    await lab.idle()
    before = await calls(lab, "evalsha")
    await lab.send("shop/closed")
    assert {run.status for run in await lab.ended(count)} == {"cancelled"}
    assert await calls(lab, "evalsha") - before < count / 2
    assert await lab.wire.call("EXISTS", keys.cancels("test-order")) == 0
    await lab.idle()
