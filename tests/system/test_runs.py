"""Runs, end to end in one process: steps, retries, parks, parallel steps, and what authors do wrong."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import msgspec
import pytest
import structlog

from stepstream import Bus, Context, EventData, NonRetriable, On, Retry, RetryAfter, Step, StepFailed
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.run.steps import steps
from stepstream.checkpoint.run.memo import Failure, Open
from stepstream.consumers import starter
from stepstream.consumers.turn import recorder
from tests.support import Lab, eventually


def _one() -> int:
    return 1


class Paid(EventData, name="order/paid", rename="camel"):
    order_id: str
    cents: int = 0


class Receipt(msgspec.Struct):
    order: str
    total: int


@pytest.mark.each_server
async def test_an_event_becomes_a_run_with_checkpointed_steps(lab: Lab) -> None:
    @lab.app.function("receipt", on=Paid)
    async def receipt(ctx: Context[Paid], step: Step) -> dict[str, Any]:
        total = await step.run("total", lambda cents: cents * 2, ctx.event.data.cents)
        return {"order": ctx.event.data.order_id, "total": total}

    await lab.work()
    await lab.app.send(Paid("o1", 500))

    run = await lab.one()
    assert run.status == "completed"
    assert json.loads(bytes(run.output or b"")) == {"order": "o1", "total": 1000}
    assert (await lab.steps(run))["total"].state == "completed"
    await lab.idle()


async def test_events_before_the_worker_are_not_lost_once_the_function_was_registered(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return ctx.event.data["n"]

    worker = await lab.work()
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the worker has left")
    await lab.send("a", {"n": 1})
    await lab.work()
    assert bytes((await lab.one()).output or b"") == b"1"


async def test_a_sleep_holds_no_worker_and_steps_before_it_are_not_run_again(lab: Lab) -> None:
    calls: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        await step.run("before", calls.append, "before")
        await step.sleep("nap", 0.3)
        await step.run("after", calls.append, "after")

    worker = await lab.work(concurrency=1)
    await lab.send("a")
    run = (await eventually(lab.runs, "a run"))[0]
    await lab.status(run.id, "waiting")
    await lab.no_turns(worker)
    await lab.one()
    assert calls == ["before", "after"]


async def test_sleep_until_a_moment_that_has_passed_does_not_wait(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        await step.sleep_until("past", datetime.now(UTC) - timedelta(days=1))
        await step.sleep_until("soon", datetime.now(UTC) + timedelta(seconds=0.2))

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.status == "completed"
    assert run.ended - run.queued >= 190


async def test_a_step_is_tried_again_and_its_error_is_shown_meanwhile(lab: Lab) -> None:
    tries: list[int] = []

    def body() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    @lab.app.function("f", on="a", retries=Retry(4, backoff=0.2))
    async def f(ctx, step):
        return await step.run("flaky", body)

    await lab.work()
    await lab.send("a")
    run = (await eventually(lab.runs, "a run"))[0]
    await lab.status(run.id, "waiting")
    opened = (await lab.steps(run))["flaky"]
    assert (opened.state, opened.error.message if opened.error else "") == ("retrying", "not yet")
    run = await lab.one()
    assert bytes(run.output or b"") == b"3"
    assert (await lab.steps(run))["flaky"].attempts == 3


async def test_a_step_that_used_up_its_attempts_raises_step_failed_which_can_be_caught(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=Retry(1, backoff=0.01))
    async def f(ctx, step):
        def body():
            raise OSError("down")

        try:
            await step.run("bad", body)
        except StepFailed as error:
            return [error.step, error.name, error.message, await step.run("good", lambda: 1)]

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert json.loads(bytes(run.output or b"")) == ["bad", "OSError", "down", 1]
    assert (await lab.steps(run))["bad"].attempts == 2


async def test_an_authors_error_is_tried_as_often_as_its_function_says_whatever_attributes_it_has(lab: Lab) -> None:
    calls = 0

    class Paged(Exception):
        """As a client of some API may raise it."""

        has_more = True
        stored = Failure("Other", "words of another error")

    def page() -> None:
        nonlocal calls
        calls += 1
        raise Paged("page 1") if calls < 9 else NonRetriable("it is tried for ever")

    @lab.app.function("f", on="a", retries=Retry(1, backoff=0))
    async def f(ctx, step):
        await step.run("page", page)

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert (run.status, calls, run.error.message) == ("failed", 2, "step 'page': page 1")


@pytest.mark.parametrize("grouped", [False, True])
async def test_non_retriable_ends_the_run_at_once_also_out_of_a_group(lab: Lab, grouped: bool) -> None:
    tries: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(4, backoff=0.01))
    async def f(ctx, step):
        async def body():
            tries.append(1)
            raise NonRetriable("never")

        if grouped:
            async with asyncio.TaskGroup() as group:
                group.create_task(step.run("bad", body))
                group.create_task(step.sleep("beside", 30))
        else:
            await step.run("bad", body)

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (run.status, len(tries)) == ("failed", 1)
    assert run.error is not None
    assert "never" in run.error.message


async def test_code_between_steps_is_tried_again_with_its_own_count(lab: Lab) -> None:
    seen: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(2, backoff=0.01))
    async def f(ctx, step):
        seen.append(ctx.attempt)
        if len(seen) == 1:
            raise ValueError("first")
        await step.run("reset", lambda: None)
        if len(seen) < 4:
            raise ValueError("after a step")
        return "done"

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (run.status, seen) == ("completed", [0, 1, 1, 2])


async def test_code_that_never_succeeds_fails_after_its_attempts(lab: Lab) -> None:
    tries: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(2, backoff=0.01))
    async def f(ctx, step):
        tries.append(ctx.attempt)
        raise ValueError("always")

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (run.status, tries) == ("failed", [0, 1, 2])
    assert run.error is not None
    assert (run.error.name, run.error.message) == ("ValueError", "always")
    assert "test_runs.py" in run.error.stack


async def test_retry_after_says_when(lab: Lab) -> None:
    at: list[float] = []

    @lab.app.function("f", on="a", retries=3)
    async def f(ctx, step):
        def body():
            at.append(time.monotonic())
            if len(at) == 1:
                raise RetryAfter(1)

        await step.run("busy", body)

    await lab.work()
    await lab.send("a")
    await lab.one()
    assert at[1] - at[0] >= 0.99


async def test_a_retry_after_that_makes_no_sense_fails_the_run(lab: Lab) -> None:
    """The error came up in the driver, behind the handler: the turn never ended, and its slot was lost."""

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        raise RetryAfter("soon")

    await lab.work()
    await lab.send("a")

    run = await lab.one()
    assert run.status == "failed"
    assert run.error is not None
    assert "RetryAfter 'soon' is not a duration" in run.error.message
    await lab.idle()


async def test_a_body_over_its_timeout_is_a_failed_attempt(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        await step.run("slow", asyncio.sleep, 30, timeout="100ms")

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert (run.status, run.error.name) == ("failed", "TimeoutError")
    assert "0.1 s" in run.error.message


async def test_sync_code_runs_in_threads_side_by_side(lab: Lab) -> None:
    barrier = threading.Barrier(3, timeout=5)

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return await asyncio.gather(*(step.run(f"t{n}", barrier.wait) for n in range(3)))

    await lab.work()
    await lab.send("a")
    assert (await lab.one()).status == "completed"


@pytest.mark.parametrize("how", ["gather", "TaskGroup", "anyio"])
async def test_parallel_steps_run_side_by_side_and_park_together(lab: Lab, how: str) -> None:
    calls: list[str] = []

    async def body(name: str) -> str:
        calls.append(name)
        await asyncio.sleep(0.02)
        return name

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        if how == "gather":
            await asyncio.gather(step.run("a", body, "a"), step.sleep("nap", 0.3), step.run("b", body, "b"))
        elif how == "TaskGroup":
            async with asyncio.TaskGroup() as group:
                group.create_task(step.run("a", body, "a"))
                group.create_task(step.sleep("nap", 0.3))
                group.create_task(step.run("b", body, "b"))
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(step.run, "a", body, "a")
                group.start_soon(step.sleep, "nap", 0.3)
                group.start_soon(step.run, "b", body, "b")
        await step.run("c", body, "c")

    worker = await lab.work()
    await lab.send("a")
    run = (await eventually(lab.runs, "a run"))[0]
    await lab.status(run.id, "waiting")
    await lab.no_turns(worker)
    run = await lab.one()
    assert (run.status, calls, run.turn) == ("completed", ["a", "b", "c"], 2)
    assert not lab.notices


async def test_a_sleep_that_falls_due_while_its_turn_lives_is_resolved_there(lab: Lab) -> None:
    """A 0.1 s sleep beside a long step must not wait for the long one."""
    order: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        async def nap_then():
            await step.sleep("nap", 0.1)
            await step.run("after", order.append, "after nap")

        async def long():
            await asyncio.sleep(0.6)
            order.append("long")

        await asyncio.gather(nap_then(), step.run("long", long))

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (order, run.turn) == (["after nap", "long"], 1)


async def test_replay_keeps_the_order_in_which_steps_finished(lab: Lab) -> None:
    """asyncio.wait(FIRST_COMPLETED) must see on replay what it saw first."""
    firsts: list[str] = []
    first_seen = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        slow = asyncio.ensure_future(step.run("slow", first_seen.wait))
        fast = asyncio.ensure_future(step.run("fast", asyncio.sleep, 0, "fast"))
        done, _ = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
        firsts.append("+".join(sorted(str(task.result()) for task in done)))
        first_seen.set()
        await asyncio.gather(slow, fast)
        await step.sleep("nap", 0.4)
        return firsts[-1]

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (firsts, bytes(run.output or b"")) == (["fast", "fast"], b'"fast"')


async def test_finally_and_except_base_exception_cannot_act_for_a_run_that_only_waits(lab: Lab) -> None:
    """Cancelling the parked handler must not execute and save its clean-up."""
    acted: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        try:
            await step.sleep("nap", 0.2)
        except BaseException:
            await step.run("refund", acted.append, "refund")
            raise
        finally:
            await step.run("cleanup", acted.append, "cleanup")

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (run.status, acted) == ("completed", ["cleanup"])


async def test_a_handler_that_swallows_every_cancel_is_left_alone_and_named(lab: Lab) -> None:
    ends = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        while True:
            try:
                await step.sleep("nap", 0.2)
                return "done"
            except BaseException:
                if ends.is_set():
                    raise
                try:
                    await ends.wait()
                except asyncio.CancelledError:
                    await ends.wait()

    await lab.work(concurrency=1)
    await lab.send("a")
    run = await lab.one()
    ends.set()
    assert run.status == "completed"


async def test_waiting_for_something_that_is_no_step_is_cut_off_and_told_with_its_line(lab: Lab) -> None:
    entered: list[int] = []

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        entered.append(1)
        if len(entered) > 1:
            await step.sleep("nap", 0.5)
        else:
            await asyncio.gather(step.sleep("nap", 0.5), asyncio.sleep(30))

    await lab.work()
    await lab.send("a")
    await lab.one()
    assert len(entered) == 2
    assert any("not a step" in notice.event and "sleep" in str(notice.fields["at"]) for notice in lab.notices)


async def test_equal_ids_are_numbered_in_one_task_and_refused_in_two(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        await step.run("x", lambda: 1)
        await asyncio.gather(step.run("x", lambda: 2), step.run("x", lambda: 3))

        async def branch():
            await step.run("y", lambda: 4)

        await asyncio.gather(branch(), branch())

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert set(await lab.steps(run)) >= {"x", "x:1", "x:2"}
    assert run.error is not None
    assert run.error.message.count("test_runs.py:") == 2


async def test_a_step_inside_a_steps_body_is_refused_with_the_reason(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        async def body():
            await step.run("inner", lambda: 1)

        await step.run("outer", body)

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert "inside the body of another step" in run.error.message


async def test_a_step_that_nobody_awaited_is_named(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        step.run("forgotten", lambda: 1).close()

    await lab.work()
    await lab.send("a")
    await lab.one()
    assert any(notice.fields.get("steps") == ["forgotten"] for notice in lab.notices)


async def test_results_are_the_annotated_type_the_first_time_and_on_replay(lab: Lab) -> None:
    seen: list[Any] = []

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        def receipt() -> Receipt:
            return Receipt("o1", 5)

        def pair():
            return (1, 2)

        seen.append([await step.run("typed", receipt), await step.run("untyped", pair)])
        await step.sleep("nap", 0.05)

    await lab.work()
    await lab.send("a")
    await lab.one()
    assert seen == [[Receipt("o1", 5), [1, 2]]] * 2


async def test_a_result_that_is_no_json_or_too_big_fails_the_step_at_once(lab: Lab) -> None:
    tries: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx, step):
        def body():
            tries.append(1)
            return object() if ctx.event.data["n"] == 1 else "x" * (4 * 1024 * 1024)

        await step.run("bad", body)

    await lab.work()
    await lab.send("a", {"n": 1})
    await lab.send("a", {"n": 2})
    messages = sorted(run.error.message for run in await lab.ended(2) if run.error)
    assert len(tries) == 2
    assert "at most 4194304" in messages[0]
    assert "is not JSON" in messages[1]


async def test_an_event_that_does_not_fit_its_type_fails_with_the_path_and_no_retry(lab: Lab) -> None:
    @lab.app.function("f", on=Paid)
    async def f(ctx, step):
        return 1

    await lab.work()
    await lab.store("order/paid", {"orderId": "o1", "cents": "many"})
    run = await lab.one()
    assert run.error is not None
    assert (run.status, run.error.name, run.turn) == ("failed", "event_invalid", 1)
    assert "data.cents" in run.error.message


@pytest.mark.leaves_behind("its events are added by hand")
async def test_an_event_added_by_hand_is_run_and_a_broken_one_stops_nobody(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return ctx.event.data

    await lab.work()
    await lab.wire.call("XADD", keys.events("a"), "*", "data", "{broken")
    await lab.wire.call("XADD", keys.events("a"), "*", "what", "ever")
    await lab.wire.call("XADD", keys.events("a"), "*", "data", '{"n":1}')
    assert sorted(run.status for run in await lab.ended(3)) == ["completed", "completed", "failed"]


async def test_an_event_whose_condition_is_false_leaves_no_record(lab: Lab) -> None:
    @lab.app.function("f", on=On("a", if_="event.data.n > 3"))
    async def f(ctx, step):
        return ctx.event.data["n"]

    await lab.work()
    for data in ({"n": 1}, {}, {"n": 5}):
        await lab.send("a", data)
    assert bytes((await lab.one()).output or b"") == b"5"
    await lab.idle()


async def test_one_event_starts_every_function_and_one_function_starts_on_several(lab: Lab) -> None:
    for name in ("f", "g"):

        @lab.app.function(name, on=["a", "b"])
        async def f(ctx, step):
            return ctx.event.name

    await lab.work()
    await lab.send("a")
    await lab.send("b")
    assert len(await lab.ended(4)) == 4


async def test_the_lifespan_is_entered_once_and_is_the_contexts_state(lab: Lab) -> None:
    life: list[str] = []

    @asynccontextmanager
    async def resources():
        life.append("in")
        yield {"pool": 1}
        life.append("out")

    app = Bus("life", lifespan=resources)

    @app.function("f", on="a")
    async def f(ctx, step):
        return ctx.state

    lab.app = app
    app.connect(lab.wire)
    worker = await lab.work(app=app)
    await lab.send("a")
    await lab.send("a")
    assert {bytes(run.output or b"") for run in await lab.ended(2)} == {b'{"pool":1}'}
    worker.stop()

    async def left() -> bool:
        return life == ["in", "out"]

    await eventually(left, "the lifespan is left")


async def test_logs_are_silent_while_memos_are_replayed(lab: Lab) -> None:
    with structlog.testing.capture_logs() as lines:

        @lab.app.function("f", on="a", retries=Retry(2, backoff=0.05))
        async def f(ctx, step):
            ctx.logger.info("one")
            await step.run("a", lambda: 1)
            ctx.logger.info("two")
            await step.sleep("nap", 0.05)
            ctx.logger.info("three")

        await lab.work()
        await lab.send("a")
        await lab.one()
    assert [line["event"] for line in lines if line.get("function") == "test-f"] == ["one", "two", "three"]


async def test_a_thousand_events_on_few_slots_all_complete(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return await step.run("one", lambda: 1) if ctx.event.data["n"] % 10 == 0 else 0

    await lab.work(concurrency=7)
    from stepstream.bus.bus import NewEvent

    await lab.app.publish([NewEvent("a", {"n": n}) for n in range(1000)])
    assert {run.status for run in await lab.ended(1000)} == {"completed"}
    await lab.idle()


@pytest.mark.each_server
async def test_a_function_that_redis_refuses_for_good_stops_no_other(lab: Lab) -> None:
    """A key of another type in its way: told, taken up again and again, and the slots are not used up."""
    for name in ("broken", "sound"):

        @lab.app.function(name, on="a")
        async def f(ctx, step):
            return 1

    await lab.work(concurrency=3)
    await lab.wire.call("SET", keys.runs("test-broken", "running"), "no zset", "EX", 60)
    for _ in range(10):
        await lab.send("a")

    async def look() -> bool:
        return await lab.wire.call("ZCARD", keys.runs("test-sound", "completed")) == 10

    await eventually(look, "the sound function's runs are completed")
    assert any("WRONGTYPE" in str(notice.fields.get("error")) for notice in lab.notices)
    await lab.wire.call("DEL", keys.runs("test-broken", "running"))

    async def mended() -> bool:
        return await lab.wire.call("ZCARD", keys.runs("test-broken", "completed")) == 10

    await eventually(mended, "and the broken one's, once the key is gone")


async def test_an_entry_added_by_hand_that_makes_no_sense_is_told_and_stops_nobody(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return 1

    await lab.work(concurrency=2)
    for turn in ("abc", "", "\xff"):
        await lab.wire.call("XADD", keys.queue("test-f"), "*", "run", "x", "turn", turn)
    for _ in range(5):
        await lab.send("a")
    assert {run.status for run in await lab.ended(5)} == {"completed"}
    assert sum("makes no sense" in notice.event for notice in lab.notices) == 3
    await lab.idle()


@pytest.mark.leaves_behind("its events are added by hand")
async def test_entries_of_two_streams_with_one_id_are_two_runs(lab: Lab) -> None:
    """Streams give equal ids in one millisecond: the run id names the stream."""

    @lab.app.function("f", on=["a", "b"])
    async def f(ctx, step):
        return ctx.event.name

    await lab.work()
    soon = f"{int(time.time() * 1000) + 1000}-7"
    for name in ("a", "b"):
        await lab.wire.call("XADD", keys.events(name), soon, "data", "{}")
    assert {bytes(run.output or b"") for run in await lab.ended(2)} == {b'"a"', b'"b"'}


@pytest.mark.leaves_behind("its events are added by hand")
async def test_an_entry_whose_delivery_never_arrived_is_taken_up_by_the_living_worker(lab: Lab) -> None:
    """The reply of a read was lost on the wire: the lease holds, so nobody else would ever claim it."""

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return 1

    worker = await lab.work()
    consumer = next(feed for feed in worker._assembly.feeds if feed.kind == "events").lease.consumer
    # While the worker's own reader is blocked, the test reads in its name: the worker never sees this entry.
    await lab.wire.call("XADD", keys.events("other"), "*", "x", "y")
    await lab.wire.call("XGROUP", "SETID", keys.events("a"), "test-f", "0")
    multi = [("MULTI",), ("XADD", keys.events("a"), "*", "data", "{}"),
             ("XREADGROUP", "GROUP", "test-f", consumer, "STREAMS", keys.events("a"), ">"), ("EXEC",)]  # fmt: skip
    await asyncio.gather(*(lab.admin.call(*command) for command in multi))
    run = await lab.one()
    assert run.status == "completed"
    assert run.crashes == 0
    assert any("never arrived" in notice.event for notice in lab.notices)
    await lab.idle()


async def test_an_idle_worker_starts_a_run_in_the_trip_that_brings_its_event(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second round trip lies between an event and its function's first line (docs/decisions/0008)."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[Any], step: Step) -> Any:
        return [ctx.event.id, ctx.event.name, ctx.event.data, await step.run("one", _one)]

    await lab.work()
    await lab.idle()

    def asked(*_: Any) -> None:
        raise AssertionError("start was asked")

    monkeypatch.setattr(starter, "start", asked)
    stored = await lab.send("a", {"n": 1})
    assert await lab.output() == [stored.id, "a", {"n": 1}, 1]
    await lab.idle()
    assert not lab.notices


async def test_a_slow_body_that_fails_is_tried_again_when_it_asks_and_as_its_next_attempt(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it takes long may be told while its failure is noted: behind that, and in place of it."""
    attempts: list[int] = []

    @lab.app.function("f", on="a", retries=1)
    async def f(ctx: Context[dict], step: Step) -> None:
        async def fail() -> None:
            attempts.append(ctx.attempt)
            if len(attempts) == 1:
                raise RetryAfter("1s")

        await step.run("s", fail)

    worker = await lab.work()
    noted = recorder.note_open

    async def crossed(*given: Any, **more: Any) -> Any:
        reply = await noted(*given, **more)
        for turn in [one for executor in worker._assembly.executors for one in executor.turns]:
            turn.note_slow_bodies(time.monotonic() + 1)
        return reply

    monkeypatch.setattr(recorder, "note_open", crossed)
    await lab.send("a")
    run = await lab.status(await lab.first(), "waiting")
    assert [(one.state, one.attempts) for one in (await lab.steps(run)).values()] == [("retrying", 1)]
    assert (await lab.one()).status == "completed"
    assert (await lab.steps(run))["s"].attempts == 2


async def test_a_step_is_said_to_wait_for_a_signal_once_the_name_is_its_own(wire: Wire) -> None:
    """Whoever reads that it waits sends the signal, which is kept for nobody."""
    noted = {
        "noted": Open(since=1, kind="signal", due=9),
        "armed": Open(since=2, kind="signal", due=9, armed=True),
        "event": Open(since=3, kind="event", due=9),  # what comes from now on is found
    }
    for step, one in noted.items():
        await wire.call("HSET", keys.open_steps("t-f", "r"), step, codec.encode(one))
    assert {one.id: one.state for one in await steps(wire, "t-f", "r")} == {
        "noted": "running", "armed": "waiting", "event": "waiting",
    }  # fmt: skip
    await wire.call("DEL", keys.open_steps("t-f", "r"))
