"""Waiting, calling, sending: the shortest example of each, on a real server. docs/guide.md quotes them."""

import asyncio
import json

import pytest

from stepstream import Context, EventData, NonRetriable, Retry, Step, StepFailed
from stepstream.bus.wire import keys
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.waits.event_waits import end_waits
from tests.support import Lab, eventually


class Ordered(EventData, name="shop/ordered", rename="camel"):
    order_id: str


class Approved(EventData, name="shop/approved", rename="camel"):
    order_id: str
    by: str = ""


async def test_wait_for_event_with_the_same_value(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        approval = await step.wait_for_event("approval", Approved, match="data.orderId", timeout="1h")
        return approval.data.by if approval else "nobody"

    await lab.work()
    await lab.app.send(Ordered("o1"))
    run = await lab.first()
    await lab.status(run, "waiting")
    await lab.app.send(Approved("another", by="eve"))
    await lab.app.send(Approved("o1", by="ann"))
    assert (await lab.output()) == "ann"
    await lab.idle()


async def test_wait_for_event_by_expression(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> int:
        paid = await step.wait_for_event(
            "paid", "shop/paid", if_="async.data.cents >= 100 && async.data.order == event.data.orderId"
        )
        assert paid is not None
        return paid.data["cents"]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "waiting")
    await lab.send("shop/paid", {"cents": 500, "order": "o2"})
    await lab.send("shop/paid", {"cents": 99, "order": "o1"})
    await lab.send("shop/paid", {"order": "o1"})
    await lab.send("shop/paid", {"cents": 100, "order": "o1"})
    assert (await lab.output()) == 100


async def waits_in(lab: Lab, run: str, step: str) -> StepView:
    async def look() -> StepView | None:
        found = await steps(lab.wire, "test-basket", run)
        return next((one for one in found if one.id == step and one.due), None)

    found = await eventually(look, f"{run} waits in {step}")
    assert found is not None
    return found


class Bought(EventData, name="shop/bought"):
    user: str
    cents: int


@pytest.mark.parametrize("resumed", [True, False])
async def test_an_event_of_the_wrong_type_fails_no_run_that_waits(lab: Lab, *, resumed: bool) -> None:
    """It was accepted, for the sender knows no type of a wait, and the run failed for good with event_invalid."""
    beside = asyncio.Event()

    async def look() -> None:
        if not resumed:
            await beside.wait()

    @lab.app.function("basket", on="shop/basket")
    async def basket(ctx: Context[dict[str, str]], step: Step) -> int:
        bought, _ = await asyncio.gather(
            step.wait_for_event("bought", Bought, match="data.user", timeout="1h"), step.run("beside", look)
        )
        assert bought is not None
        await step.sleep("nap", 0.01)
        return bought.data.cents

    await lab.work()
    await lab.send("shop/basket", {"user": "tw"})
    run = await lab.first()
    if resumed:
        await lab.status(run, "waiting")
    await waits_in(lab, run, "bought")
    for number, cents in enumerate(("many", "few"), 1):
        await lab.send("shop/bought", {"user": "tw", "cents": cents})
        await waits_in(lab, run, f"bought~{number}")
    await lab.send("shop/bought", {"user": "tw", "cents": 7})
    beside.set()
    assert (await lab.output()) == 7
    lines = [line.text for line in (await log_of(lab.wire, "test-basket", run)).lines]
    assert [line.partition(" and ")[2] for line in lines] == ["waits on: data.cents: Expected `int`, got `str`"] * 2


async def test_an_ignored_event_leaves_the_wait_its_deadline(lab: Lab) -> None:
    @lab.app.function("basket", on="shop/basket")
    async def basket(ctx: Context[dict[str, str]], step: Step) -> bool:
        return await step.wait_for_event("bought", Bought, timeout=1.0) is None

    await lab.work()
    await lab.send("shop/basket", {"user": "tw"})
    run = await lab.first()
    due = (await waits_in(lab, run, "bought")).due
    await lab.send("shop/bought", {})
    assert (await waits_in(lab, run, "bought~1")).due == due
    assert (await lab.output()) is True


async def test_wait_for_event_is_none_when_its_timeout_is_over(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> bool:
        return await step.wait_for_event("approval", Approved, match="data.orderId", timeout=0.3) is None

    await lab.work()
    await lab.app.send(Ordered("o1"))
    assert (await lab.output()) is True


async def test_an_event_that_came_a_moment_too_early_is_found(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        await step.send_event("approve", Approved(ctx.event.data.order_id, by="the run itself"))
        approval = await step.wait_for_event("approval", Approved, match="data.orderId", timeout="1h")
        return approval.data.by if approval else "nobody"

    await lab.work()
    await lab.app.send(Ordered("o1"))
    assert (await lab.output()) == "the run itself"


async def test_two_waits_of_a_run_take_two_events_whatever_their_order(lab: Lab) -> None:
    """wait a, then wait b; the events come b, then a."""

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> list[str]:
        first = await step.wait_for_event("first", "shop/step", if_="async.data.n == 'a'", timeout="1h")
        second = await step.wait_for_event("second", "shop/step", timeout="1h")
        assert first is not None
        assert second is not None
        return [first.data["n"], second.data["n"]]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "waiting")
    await lab.send("shop/step", {"n": "b"})
    await lab.send("shop/step", {"n": "a"})
    assert (await lab.output()) == ["a", "b"]


async def test_a_run_does_not_answer_its_own_wait(lab: Lab) -> None:
    @lab.app.function("again", on="shop/again")
    async def again(ctx: Context[dict], step: Step) -> bool:
        return await step.wait_for_event("next", "shop/again", timeout=0.3) is None

    await lab.work()
    await lab.send("shop/again", {})
    assert (await lab.output()) is True


async def test_one_event_answers_every_run_that_waits_for_it(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> bool:
        return await step.wait_for_event("open", "shop/opens", timeout="1h") is not None

    await lab.work()
    for n in range(20):
        await lab.app.send(Ordered(f"o{n}"))
    for run in await lab.some(20):
        await lab.status(run.id, "waiting")
    await lab.send("shop/opens")
    assert {run.status for run in await lab.ended(20)} == {"completed"}


async def test_the_group_that_hands_events_to_waits_goes_with_the_last_wait_and_comes_with_the_next(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> bool:
        return await step.wait_for_event("open", "shop/opens", timeout=ctx.event.data.order_id) is not None

    async def groups() -> list[bytes]:
        return [row[1] for row in await lab.wire.call("XINFO", "GROUPS", keys.events("shop/opens"))]

    await lab.work()
    await lab.app.send(Ordered("0.2s"))
    await lab.ended(1)

    async def gone() -> bool:
        return await end_waits(lab.wire, "shop/opens") or await groups() == []

    await eventually(gone, "the group has gone")
    await lab.app.send(Ordered("1h"))
    await eventually(groups, "the group is there again")
    await lab.send("shop/opens")
    assert {bytes(run.output or b"") for run in await lab.ended(2)} == {b"false", b"true"}
    assert not any("wiped" in notice.event for notice in lab.notices)


@pytest.mark.each_server
async def test_signals(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        return await step.wait_for_signal("word", f"word/{ctx.event.data.order_id}", timeout="1h")

    @lab.app.function("speak", on="shop/speak")
    async def speak(ctx: Context[dict], step: Step) -> list[bool]:
        heard = await step.send_signal("say", "word/o1", "hello")
        return [heard, await step.send_signal("to-nobody", "word/o2", "hello")]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "waiting")
    await lab.send("shop/speak")
    assert {json.dumps(json.loads(bytes(run.output or b""))) for run in await lab.ended(2)} == {
        '"hello"',
        "[true, false]",
    }


async def test_a_second_run_that_waits_for_a_signal_is_told(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        try:
            return await step.wait_for_signal("word", "one name", timeout=1.0)
        except StepFailed as error:
            return error.name

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first(), "waiting")
    await lab.app.send(Ordered("o2"))
    assert {bytes(run.output or b"") for run in await lab.ended(2)} == {b"null", b'"signal_conflict"'}


async def test_invoke_another_function(lab: Lab) -> None:
    @lab.app.function("score")
    async def score(ctx: Context[dict], step: Step) -> int:
        return await step.run("count", len, ctx.event.data["text"])

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> list[int]:
        by_function = await step.invoke("score", score, {"text": "four"})
        by_slug = await step.invoke("score again", "test-score", {"text": "seven.."}, timeout="1m")
        return [by_function, by_slug]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    runs = await lab.ended(3)
    assert [json.loads(bytes(run.output or b"")) for run in runs if run.function == "test-order"] == [[4, 7]]
    await lab.idle()


async def test_an_invoked_functions_error_is_the_steps(lab: Lab) -> None:
    @lab.app.function("score")
    async def score(ctx: Context[dict], step: Step) -> int:
        raise NonRetriable("no score for that")

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        try:
            return await step.invoke("score", score)
        except StepFailed as error:
            return f"{error.name}: {error.message}"

    await lab.work()
    await lab.app.send(Ordered("o1"))
    runs = await lab.ended(2)
    told = next(run for run in runs if run.function == "test-order")
    assert json.loads(bytes(told.output or b"")) == "NonRetriable: no score for that"


async def test_an_invoke_that_takes_too_long_is_told_and_the_child_goes_on(lab: Lab) -> None:
    @lab.app.function("slow")
    async def slow(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.6)
        return "done"

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        try:
            return await step.invoke("slow", slow, timeout=0.2)
        except StepFailed as error:
            return error.name

    await lab.work()
    await lab.app.send(Ordered("o1"))
    outputs = {run.function: json.loads(bytes(run.output or b"")) for run in await lab.ended(2)}
    assert outputs == {"test-order": "timeout", "test-slow": "done"}


async def test_an_end_whose_caller_redis_refuses_is_told_again_until_it_has_heard(lab: Lab) -> None:
    """Redis refused the caller's keys for a while: the end stays pending, and is told once they are mended."""

    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.3)
        return "child"

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        return await step.invoke("call", child)

    await lab.work()
    await lab.app.send(Ordered("o1"))
    run = await lab.first("test-order")
    await lab.status(run, "waiting")
    key = keys.run("test-order", run)
    dump = await lab.admin.call("DUMP", key)
    await lab.wire.call("SET", key, "no hash", "PX", 60_000)

    async def refused() -> bool:
        return any("carrying failed" in notice.event for notice in lab.notices)

    await eventually(refused, "the courier was refused")
    await lab.admin.call("RESTORE", key, 0, dump, "REPLACE")
    runs = await lab.ended(2)
    assert {bytes(run.output or b"") for run in runs} == {b'"child"'}
    await lab.idle()


async def test_an_unknown_function_is_named(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        await step.invoke("x", "test-nobody")

    await lab.work()
    await lab.app.send(Ordered("o1"))
    run = await lab.one()
    assert run.error is not None
    assert "function 'test-nobody' is not registered; there are test-order" in run.error.message


async def test_send_events_from_a_run_without_duplicates(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered, retries=Retry(2, backoff=0.05))
    async def order(ctx: Context[Ordered], step: Step) -> int:
        ids = await step.send_event("tell", [Approved("o1"), Approved("o2")])
        if ctx.attempt < 1:
            raise ValueError("again")
        return len(ids)

    await lab.work()
    await lab.app.send(Ordered("o1"))
    assert (await lab.output()) == 2
    assert await lab.wire.call("XLEN", keys.events("shop/approved")) == 2


@pytest.mark.each_server
async def test_steps_of_every_kind_side_by_side(lab: Lab) -> None:
    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.05)
        return "child"

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> list[object]:
        event, signal, called, ran, slept, sent = await asyncio.gather(
            step.wait_for_event("e", Approved, match="data.orderId", timeout="1h"),
            step.wait_for_signal("s", "go", timeout="1h"),
            step.invoke("i", child),
            step.run("r", lambda: 1),
            step.sleep("z", 0.1),
            step.send_event("t", "shop/told", {"n": 1}),
        )
        assert event is not None
        return [event.data.by, signal, called, ran, slept, len(sent)]

    @lab.app.function("speak", on="shop/speak")
    async def speak(ctx: Context[dict], step: Step) -> bool:
        return await step.send_signal("go", "go", "went")

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.status(await lab.first("test-order"), "waiting")
    await lab.send("shop/speak")
    await lab.app.send(Approved("o1", by="ann"))
    runs = await lab.ended(3)
    told = next(run for run in runs if run.function == "test-order")
    assert json.loads(bytes(told.output or b"")) == ["ann", "went", "child", 1, None, 1]
    await lab.idle()


async def test_events_that_nobody_waits_for_any_more_are_not_read_again(lab: Lab) -> None:
    """Until the last deadline, retention dropped the group each minute and every worker read the whole stream anew."""

    @lab.app.function("waiter", on="shop/begin")
    async def waiter(ctx: Context[dict], step: Step) -> int:
        event = await step.wait_for_event("reply", "shop/reply", timeout="14d")
        return event.data["n"] if event else 0

    async def groups() -> list[bytes]:
        return [row[1] for row in await lab.wire.call("XINFO", "GROUPS", keys.events("shop/reply"))]

    worker = await lab.work()
    assert worker._assembly is not None
    for n in (1, 2):
        await lab.send("shop/begin")
        run = max(await lab.some(n), key=lambda run: run.queued)
        await lab.status(run.id, "waiting")
        await lab.send("shop/reply", {"n": n})
        ended = await lab.status(run.id, "completed")
        assert bytes(ended.output or b"") == str(n).encode()

        async def is_dropped() -> bool:
            return await end_waits(lab.wire, "shop/reply")

        await eventually(is_dropped, "nobody waits any more")

        async def is_closed() -> bool:
            return not worker._assembly.feeds.serves_waits("shop/reply")

        await eventually(is_closed, "the reader has seen that its group is gone")
        await worker._assembly._open_new_waits()
        assert await groups() == [], "though the name is listed for a fortnight"
