"""Stories: what became of an event, which runs belong to a run, and what a word that somebody has in hand names."""

import asyncio
import json
import re
from typing import Any

import redis
from starlette.testclient import TestClient

from stepstream import Context, EventData, On, Step
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.replay import replay
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.read.anything import find_anything
from stepstream.checkpoint.read.event.kept import Clue, Kept
from stepstream.checkpoint.read.event.story import EventStory, Part, event_story
from stepstream.checkpoint.read.lists.arrivals import arrival_at, arrivals, find_arrival
from stepstream.checkpoint.read.run.family import Family, family
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.registry import register
from tests.support import Lab, eventually


async def story(lab: Lab, event: str, **kinds: str) -> dict[str, Part]:
    """Wait until each function tells so of an event."""

    async def look() -> EventStory | None:
        arrival = await find_arrival(lab.wire, event)
        seen.append(None if arrival is None else await event_story(lab.wire, Kept(arrival)))
        found = seen[-1]
        told = {} if found is None else {part.function.removeprefix("test-"): part.kind for part in found.functions}
        return found if told == kinds else None

    seen: list[EventStory | None] = []
    found = await eventually(look, f"the story of {event} is {kinds}")
    assert found is not None
    return {part.function.removeprefix("test-"): part for part in found.functions}


async def test_it_is_told_why_each_function_did_not_begin(lab: Lab) -> None:
    go = asyncio.Event()
    rules: dict[str, dict[str, Any]] = {
        "plain": {"on": "order/paid"},
        "large": {"on": On("order/paid", if_="event.data.total > 100 && event.data.vip")},
        "every": {"on": "order/*"},
        "quiet": {"on": "order/paid", "debounce": Debounce("1h")},
        "many": {"on": "order/paid", "batch": Batch(10, "1h")},
        "rare": {"on": "order/paid", "rate_limit": RateLimit(1, "1h")},
        "single": {"on": "order/paid", "singleton": Singleton("skip")},
        "other": {"on": "order/sent"},
    }
    for name, rule in rules.items():

        @lab.app.function(name, **rule)
        async def body(ctx: Context[Any], step: Step) -> None:
            await go.wait()

    await lab.work()
    await lab.send("order/paid", {"total": 5}, id="o1")
    first = {"plain": "started", "every": "started", "large": "condition", "quiet": "merged", "many": "merged"}
    one = await story(lab, "o1", **first, rare="started", single="started")
    assert one["large"].words == (
        "did not begin: event.data.total > 100 && event.data.vip is not true: "
        "event.data.total is 5, event.data.vip is not there "
        "(a condition sees what was sent, without the defaults of a type)"
    )
    assert one["large"].missing == ["event.data.vip"]
    assert one["large"].values == {"event.data.total": 5, "event.data.vip": None}
    assert one["quiet"].words == f"was debounced into run {one['quiet'].run}"
    assert (await get(lab.wire, one["many"].run)).source == "batch"
    await lab.send("order/paid", {"total": 500, "vip": True}, id="o2")
    second = await story(lab, "o2", **{**first, "large": "started"}, rare="rate_limited", single="singleton")
    assert second["single"].run == one["single"].run
    assert re.match("was skipped: run .* ran", second["single"].words)

    @lab.app.function("late", on="order/paid")
    async def late(ctx: Context[Any], step: Step) -> None: ...

    await register(lab.wire, lab.app.functions["late"])
    await story(lab, "o1", **first, rare="started", single="started", late="later")
    await lab.send("order/paid", id="o3")
    third = {**first, "rare": "rate_limited", "single": "singleton"}
    await story(lab, "o3", **third, late="no_worker")
    await pause_function(lab.wire, "test-late", "ann")
    paused = await story(lab, "o3", **third, late="paused")
    assert paused["late"].words == "has not begun: it is paused, by ann"
    await resume_function(lab.wire, "test-late")
    await lab.work()
    await story(lab, "o3", **third, late="started")
    go.set()


async def test_a_condition_that_could_not_be_asked_says_why(lab: Lab) -> None:
    """Of data that is no JSON it was told that nothing is kept of its run; of a large number, that 2^53 is not > 1."""

    @lab.app.function("f", on=On("a", if_="event.data.n > 1.5"))
    async def f(ctx: Context[Any], step: Step) -> None: ...

    await lab.work()
    await lab.send("a", {"n": 2**64}, id="large")
    spoilt = await lab.wire.call("XADD", keys.events("a"), "*", "id", "spoilt", "data", "{n")
    arrival = await arrival_at(lab.wire, "a", spoilt.decode())
    assert arrival is not None
    await story(lab, "large", f="condition")

    async def told() -> Part | None:
        [part] = (await event_story(lab.wire, Kept(arrival))).functions
        return part if part.kind == "condition" else None

    part = await eventually(told, "it has been read")
    assert part is not None
    assert part.words == "did not begin: event.data.n > 1.5 is not true: the event's data is no JSON"
    large = (await story(lab, "large", f="condition"))["f"]
    assert large.words.endswith("(it has a number that no condition compares exactly; send such as text)")
    made = await replay(lab.wire, "spoilt", clue=Clue(name="a", entry=spoilt.decode()))
    assert (made.runs, [one.function for one in made.left_out]) == ([], ["test-f"])


class Order(EventData, name="order/new"):
    n: int
    vip: bool = False


async def test_a_condition_on_a_field_that_was_left_out_is_told_as_the_engine_decides_it(lab: Lab) -> None:
    """It was told that `vip` is null, of a condition that asks for null, and that a type's default is false."""
    conditions = {
        "default": "event.data.vip == false",
        "null": "event.data.vip == null",
        "asks": "!has(event.data.vip)",
        "either": "!has(event.data.vip) || !event.data.vip",
    }
    for name, condition in conditions.items():

        @lab.app.function(name, on=On(Order, if_=condition))
        async def body(ctx: Context[Order], step: Step) -> None:
            assert ctx.event.data.vip is False, "the function has the default"

    await lab.work()
    await lab.send("order/new", {"n": 1}, id="left-out")
    await lab.app.send(Order(n=2))
    [typed] = [one.event.id for one in (await arrivals(lab.wire)).events if one.event.id != "left-out"]
    started = {"default": "condition", "null": "condition", "asks": "started", "either": "started"}
    told = await story(lab, "left-out", **started)
    for name in ("default", "null"):
        assert "event.data.vip is not there" in told[name].words
        assert "without the defaults of a type" in told[name].words
    sent = await story(lab, typed, default="started", null="condition", asks="condition", either="started")
    assert sent["null"].words.endswith("event.data.vip is false")


async def test_the_runs_that_belong_to_a_run_are_told(lab: Lab) -> None:
    @lab.app.function("child", retries=0)
    async def child(ctx: Context[Any], step: Step) -> None: ...

    async def told(ctx: Context[Any], step: Step) -> None: ...

    @lab.app.function("caller", on="a", retries=0, on_failure=told)
    async def caller(ctx: Context[Any], step: Step) -> None:
        await step.invoke("call", child)
        raise RuntimeError("no paper")

    @lab.app.function("many", on="b", batch=Batch(2, "1h"))
    async def many(ctx: Context[Any], step: Step) -> None: ...

    await lab.work()
    await lab.send("a")
    run = (await eventually(lambda: _ended(lab, "test-caller"), "it has failed")).id

    async def look() -> Family | None:
        found = await family(lab.wire, await get(lab.wire, run))
        return found if found.on_failure is not None else None

    own = await eventually(look, "its on_failure run has begun")
    assert own is not None
    assert [(kin.function, kin.status, kin.step) for kin in own.children] == [("test-child", "completed", "call")]
    assert own.on_failure is not None
    handled = await family(lab.wire, await get(lab.wire, own.on_failure.id))
    assert handled.failure_of is not None
    assert (handled.failure_of.id, handled.failure_of.status) == (run, "failed")
    of_child = await family(lab.wire, await get(lab.wire, own.children[0].id))
    assert of_child.parent is not None
    assert (of_child.parent.id, of_child.parent.step) == (run, "call")
    new = await rerun(lab.wire, run)

    async def again() -> Family | None:
        found = await family(lab.wire, await get(lab.wire, run))
        return found if found.reruns else None

    reruns = await eventually(again, "it is run again")
    assert reruns is not None
    assert [kin.id for kin in reruns.reruns] == [new]
    of_new = await family(lab.wire, await get(lab.wire, new))
    assert of_new.rerun_of is not None
    assert of_new.rerun_of.id == run
    for _ in range(2):
        await lab.send("b")
    batch = await eventually(lambda: _ended(lab, "test-many", "completed"), "the batch has run")
    members = (await family(lab.wire, await get(lab.wire, batch.id))).members
    assert len(members) == 2
    part = await family(lab.wire, await get(lab.wire, members[0].id))
    assert part.part_of is not None
    assert part.part_of.id == batch.id


async def _ended(lab: Lab, function: str, status: str = "failed") -> Any:
    runs = [run for run in await lab.runs() if run.function == function and run.status == status]
    return runs[0] if runs else None


async def test_a_word_in_hand_is_found_and_it_is_said_where_was_looked(lab: Lab) -> None:
    @lab.app.function("refund", on="order/paid", concurrency=Concurrency(1, key="event.data.who"))
    async def refund(ctx: Context[Any], step: Step) -> None: ...

    await lab.work()
    await lab.send("order/paid", {"who": "ann"}, id="o1")
    run = (await lab.one()).id

    async def hits(text: str) -> list[tuple[str, str]]:
        return [(hit.kind, hit.id) for hit in (await find_anything(lab.wire, text)).found]

    assert await hits(run) == [("run", run)]
    assert await hits("o1") == [("event", "o1")]
    assert await hits(" refund ") == [("function", "test-refund")]
    assert await hits("order/paid") == [("event_name", "order/paid")]
    assert await hits("ann") == [("key", "ann")]
    assert await hits("") == []
    nothing = await find_anything(lab.wire, "bob")
    assert (nothing.found, "the slugs of 1 functions" in nothing.looked) == ([], True)


def test_stories_are_told_by_the_api(http: TestClient, store: "redis.Redis") -> None:
    http.post("/e/dev", json={"name": "order/paid", "data": {"n": 1}, "id": "o1"})
    told = http.get("/v1/events/o1/story").json()["data"]
    assert (told["id"], told["functions"], told["words"]) == ("o1", [], "no function listens to order/paid")
    assert http.get("/v1/events/o2/story").json()["code"] == "event_not_found"
    assert [hit["kind"] for hit in http.get("/v1/find?q=o1").json()["data"]["found"]] == ["event"]
    assert "q must be 1 to 512 characters, got 0" in http.get("/v1/find").json()["error"]
    run = run_id("t-f", "test", "x", 5)
    declared: dict[str, Any] = {"bus": "t", "id": "f", "name": "f", "slug": "t-f", "on": [], "events": [], "retries": 4}
    store.hset(keys.functions(), "t-f", json.dumps({**declared, "code": "x"}))
    fields: dict[Any, Any] = {"status": "running", "queued": "5", "parent": "t-g|01ARZ3NDEKTSV4RRFFQ69G5FAV|call"}
    store.hset(keys.run("t-f", run), mapping=fields)
    of = http.get(f"/v1/runs/{run}/family").json()["data"]
    assert of == {"parent": {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "function": "t-g", "step": "call"}}
    assert http.get(f"/v1/runs/{run}").json()["data"]["verdict"]["kind"] == "worker_gone"
