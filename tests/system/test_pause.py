"""What is paused stays in line, wherever its work stands; what is resumed goes on from there, and is done once."""

import asyncio
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Batch, Concurrency, Context, Cron, Step
from stepstream.bus.errors import BadRequest, FunctionNotFound
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.controls.ordered import controls, pause_of
from stepstream.checkpoint.controls.pauses import pause_event, pause_function, resume_event, resume_function
from tests.support import Lab, eventually
from tests.system.test_commands import bus


async def told(lab: Lab, event: str, stream: str, count: int = 1) -> None:
    """Wait until workers have said so of a stream."""

    def look() -> bool:
        found = [one for one in lab.notices if one.event.startswith(event) and stream in one.fields["streams"]]
        return len(found) >= count

    await eventually(lambda: asyncio.sleep(0, look()), f"{event} of {stream}")


async def in_line(lab: Lab, stream: str, group: str) -> int:
    """Return how many entries of a stream have not been delivered."""
    for flat in await lab.wire.load("XINFO", "GROUPS", stream):
        row = dict(zip(flat[::2], flat[1::2], strict=True))
        if row[b"name"] == group.encode():
            return int(row[b"lag"])
    return -1


@pytest.mark.parametrize("limit", [None, Concurrency(2)])
async def test_events_of_a_paused_function_stay_in_line_and_are_all_done_once_when_it_is_resumed(
    lab: Lab, limit: Concurrency | None
) -> None:
    done: list[int] = []

    @lab.app.function("f", on="a", concurrency=limit)
    async def f(ctx: Context[dict], step: Step) -> None:
        done.append(await step.run("one", lambda: ctx.event.data["n"]))

    await lab.work()
    await lab.send("a", {"n": 0})
    await lab.ended(1)
    ordered = await pause_function(lab.wire, "test-f", "bus pause")
    assert (await pause_function(lab.wire, "test-f", "somebody else")) == ordered, "who was first stands"
    await told(lab, "paused", keys.queue("test-f"))
    for n in range(1, 30):
        await lab.send("a", {"n": n})
    if limit is None:
        assert await in_line(lab, keys.events("a"), "test-f") == 29
    else:  # its intake decides on them as they come: they wait in a backlog
        await eventually(lambda: lab.wire.load("ZCARD", keys.runs("test-f", "queued")), "they are decided on")
    assert done == [0]
    late = await lab.work()
    await told(lab, "paused", keys.queue("test-f"), 2)
    late.stop()
    assert await resume_function(lab.wire, "test-f")
    assert not await resume_function(lab.wire, "test-f")
    await lab.ended(30)
    assert sorted(done) == list(range(30))
    assert await pause_of(lab.wire, "test-f") is None


async def test_a_run_of_a_paused_function_goes_on_to_its_next_wait_and_no_further(lab: Lab) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    after: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        async def work() -> None:
            begun.set()
            await go_on.wait()

        await step.run("work", work)
        await step.wait_for_event("first", "b", timeout="1h")
        after.append("b")
        await step.wait_for_event("second", "c", timeout="1h")
        after.append("c")

    await lab.work()
    await lab.send("a")
    await begun.wait()
    await pause_function(lab.wire, "test-f", "bus pause")
    await told(lab, "paused", keys.queue("test-f"))
    go_on.set()
    run = await lab.first()
    await lab.status(run, "waiting")
    await lab.send("b")  # events that runs wait for are heard
    queue = lambda: lab.wire.load("XLEN", keys.queue("test-f"))  # noqa: E731
    await eventually(queue, "it was resolved")
    assert after == []
    await resume_function(lab.wire, "test-f")
    await eventually(lambda: asyncio.sleep(0, after), "it goes on")
    await lab.status(run, "waiting")
    await lab.send("c")
    await lab.one()
    assert after[-1] == "c"


async def test_a_run_of_a_paused_function_can_be_cancelled_and_invoked_ones_and_ticks_wait(lab: Lab) -> None:
    @lab.app.function("f", on=[Cron("0 4 * * *"), "a"])
    async def f(ctx: Context[dict], step: Step) -> str:
        return "ran"

    await lab.work()
    await pause_function(lab.wire, "test-f", "bus pause")
    await told(lab, "paused", keys.queue("test-f"))
    first, second = await invoke(lab.wire, "test-f", {}), await invoke(lab.wire, "test-f", {})
    assert await cancel_now(lab.wire, first, "by a test") == "cancelled"
    await resume_function(lab.wire, "test-f")
    await lab.status(second, "completed")
    await lab.status(first, "cancelled")


async def test_events_of_a_paused_name_begin_nothing_anywhere_and_others_do(lab: Lab) -> None:
    ran: list[str] = []

    @lab.app.function("f", on=["a", "b"])
    async def f(ctx: Context[dict], step: Step) -> None:
        ran.append(f"f {ctx.event.name}")

    @lab.app.function("g", on="a", batch=Batch(2, timeout="1h"))
    async def g(ctx: Context[dict], step: Step) -> None:
        ran.append("g")

    await lab.work()
    await pause_event(lab.wire, "a", "bus pause")
    await told(lab, "paused", keys.events("a"))
    await lab.send("a")
    await lab.send("a")
    await lab.send("b")
    await lab.ended(1)
    assert ran == ["f b"]
    assert [await in_line(lab, keys.events("a"), f"test-{one}") for one in "fg"] == [2, 2]
    await resume_event(lab.wire, "a")
    await eventually(lambda: asyncio.sleep(0, sorted(ran) == ["f a", "f a", "f b", "g"]), "all have run")


async def test_a_paused_function_lets_other_functions_have_the_room_of_the_worker(lab: Lab) -> None:
    """A reader that waited for room, and is paused meanwhile, must hand on the wakeup it gets: each wakes one."""
    release = asyncio.Event()

    @lab.app.function("slow", on="a")
    async def slow(ctx: Context[dict], step: Step) -> None:
        await release.wait()

    @lab.app.function("f", on="b")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    @lab.app.function("g", on="b")
    async def g(ctx: Context[dict], step: Step) -> None: ...

    await lab.work(concurrency=1)
    await lab.send("a")
    await lab.some(1)
    await lab.send("b")
    await pause_function(lab.wire, "test-f", "bus pause")
    await told(lab, "paused", keys.events("b"))
    release.set()
    await lab.status((await lab.some(1, "test-g"))[0].id, "completed")
    await resume_function(lab.wire, "test-f")
    await lab.ended(3)


async def test_what_is_paused_is_gone_with_the_function_and_what_was_written_by_hand_stops_nobody(
    lab: Lab, store: redis.Redis
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    store.hset(keys.controls(), mapping={"paused function test-f": "yes", "whatever": "{}"})
    await lab.work()
    await lab.send("a")
    await lab.ended(1)
    assert (await controls(lab.wire)).functions == {}
    with pytest.raises(FunctionNotFound, match="no-such"):
        await pause_function(lab.wire, "no-such", "bus pause")
    with pytest.raises(BadRequest, match="one name"):
        await pause_event(lab.wire, "order/*", "bus pause")


async def test_pausing_is_asked_for_over_http(lab: Lab, http: TestClient) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()

    def ask(method: str, path: str) -> Any:
        answer = http.request(method, path)
        return answer.json()["data"] if answer.is_success else (answer.status_code, answer.json()["error"])

    assert ask("GET", "/v1/paused") == {"functions": {}, "events": {}}
    paused = (await asyncio.to_thread(ask, "POST", "/v1/functions/test-f/pause"))["paused"]
    assert paused["by"] == "the API"
    assert ask("POST", "/v1/event-names/order/placed/pause")["event"] == "order/placed"
    assert ask("GET", "/v1/paused")["functions"] == {"test-f": paused}
    assert ask("POST", "/v1/functions/test-f/resume")["was_paused"]
    assert not ask("POST", "/v1/functions/test-f/resume")["was_paused"]
    assert ask("POST", "/v1/event-names/order/placed/resume")["was_paused"]
    assert ask("POST", "/v1/functions/none/pause")[0] == 404
    assert ask("POST", "/v1/functions/none/resume")[0] == 404
    status, why = ask("POST", "/v1/event-names/order/*/pause")
    assert (status, "one name" in why) == (400, True)


def test_pausing_is_asked_for_in_the_terminal(url: str, store: redis.Redis) -> None:
    declared = Registered("shop", "refund", "refund", "shop-refund", ("order/placed",), ("order/placed",), 3, "")
    store.hset(keys.functions(), "shop-refund", codec.encode(declared))
    assert "nothing is paused" in bus("pause", url=url)
    assert "bus resume shop-refund" in bus("pause", "shop-refund", url=url)
    assert "bus resume --event order/placed" in bus("pause", "--event", "order/placed", url=url)
    assert "bus resume --event 'order paid'" in bus("pause", "--event", "order paid", url=url)
    told = bus("pause", url=url)
    assert "shop-refund  paused" in told
    assert "bus resume --event 'order paid'" in told
    assert "events order/placed  paused" in told
    assert "shop-refund: resumed" in bus("resume", "shop-refund", url=url)
    assert "shop-refund: not paused" in bus("resume", "shop-refund", url=url)
    assert "shop-refnud" in bus("pause", "shop-refnud", url=url, code=1)
    assert "not both" in bus("pause", "shop-refund", "--event", "x", url=url, code=1)
    assert "say what is resumed" in bus("resume", url=url, code=1)
