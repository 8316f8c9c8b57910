"""While a function is paused one run of it is let through: exactly one, by one of its workers; the others stay in line."""

import asyncio
from collections.abc import Generator

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Concurrency, Context, On, Step, create_app
from stepstream.bus.errors import FunctionNotFound
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.checkpoint.controls.ordered import one_field
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.controls.run_one import NotPaused, claim_one, run_one
from stepstream.checkpoint.registry import register
from tests.support import Lab, eventually
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form
from tests.system.test_pause import in_line, told


async def through(lab: Lab, count: int = 1) -> None:
    """Wait until workers have said so often that one was let through."""

    def look() -> bool:
        return sum(one.event == "one run is let through" for one in lab.notices) >= count

    await eventually(lambda: asyncio.sleep(0, look()), "one is let through")


async def test_one_event_of_several_begins_a_run_for_each_time_it_is_asked(lab: Lab) -> None:
    done: list[int] = []

    @lab.app.function("f", on=On("a", if_="event.data.n != 1"))
    async def f(ctx: Context[dict], step: Step) -> None:
        done.append(ctx.event.data["n"])

    for _ in range(2):
        await lab.work()
    await pause_function(lab.wire, "test-f", "Ada")
    await told(lab, "paused", keys.queue("test-f"), 2)
    for n in range(1, 6):  # the first is wanted by no trigger
        await lab.send("a", {"n": n})
    asked = await run_one(lab.wire, "test-f", "Ada", "r1")
    await lab.ended(1)
    await through(lab)
    again = await run_one(lab.wire, "test-f", "Ada", "r1")
    assert (again.at, bool(again.worker)) == (asked.at, True), "the same request lets no second one through"
    assert (done, await in_line(lab, keys.events("a"), "test-f")) == ([2], 3)
    await run_one(lab.wire, "test-f", "Ada", "r2")
    await lab.ended(2)
    assert (done, await in_line(lab, keys.events("a"), "test-f")) == ([2, 3], 2)
    await resume_function(lab.wire, "test-f")
    await lab.ended(4)
    assert not await lab.wire.load("HEXISTS", "bus:controls", one_field("test-f"))


async def test_a_turn_that_is_due_goes_before_new_events(lab: Lab) -> None:
    after: list[str] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        if ctx.event.data["n"] == 0:
            await step.wait_for_event("first", "b", timeout="1h")
            after.append("b")
            await step.wait_for_event("second", "c", timeout="1h")
        after.append("ended")

    await lab.work()
    await lab.send("a", {"n": 0})
    run = await lab.first()
    await lab.status(run, "waiting")
    await pause_function(lab.wire, "test-f", "Ada")
    await told(lab, "paused", keys.queue("test-f"))
    await lab.send("a", {"n": 1})
    await lab.send("b")
    await eventually(lambda: lab.wire.load("XLEN", keys.queue("test-f")), "it is due")
    await run_one(lab.wire, "test-f", "Ada")
    await eventually(lambda: asyncio.sleep(0, after), "it goes on")
    await lab.status(run, "waiting")  # to its next wait, and no further
    assert after == ["b"]
    assert await in_line(lab, keys.events("a"), "test-f") == 1


async def test_of_a_function_with_limits_one_gets_its_place(lab: Lab) -> None:
    done: list[int] = []

    @lab.app.function("f", on="a", concurrency=Concurrency(2))
    async def f(ctx: Context[dict], step: Step) -> None:
        done.append(ctx.event.data["n"])

    await lab.work()
    await pause_function(lab.wire, "test-f", "Ada")
    await told(lab, "paused", keys.queue("test-f"))
    for n in range(4):
        await lab.send("a", {"n": n})

    async def in_backlog() -> bool:
        return await lab.wire.load("ZCARD", keys.runs("test-f", "queued")) == 4

    await eventually(in_backlog, "they wait in the backlog")
    await run_one(lab.wire, "test-f", "Ada")

    async def one_ended() -> bool:
        return await lab.wire.load("ZCARD", keys.runs("test-f", "completed")) == 1

    await eventually(one_ended, "one is done")
    assert await lab.wire.load("ZCARD", keys.runs("test-f", "queued")) == 3
    assert len(done) == 1, "which of those that came in one millisecond is open"
    await resume_function(lab.wire, "test-f")
    await lab.ended(4)


async def test_what_a_worker_took_that_died_is_asked_for_again_and_what_is_not_paused_is_refused(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await register(lab.wire, next(iter(lab.app.functions.values())))
    lab.app.connect(lab.wire)
    with pytest.raises(NotPaused):
        await run_one(lab.wire, "test-f", "Ada")
    with pytest.raises(FunctionNotFound):
        await run_one(lab.wire, "test-g", "Ada")
    await pause_function(lab.wire, "test-f", "Ada")
    asked = await run_one(lab.wire, "test-f", "Ada")
    assert await run_one(lab.wire, "test-f", "Bob") == asked, "nobody has taken it yet"
    assert await claim_one(lab.wire, "test-f", "dead")
    assert await claim_one(lab.wire, "test-f", "another") is None
    await lab.send("a")
    await run_one(lab.wire, "test-f", "Ada")
    await lab.work()  # it looks as it begins
    await lab.one()


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=settings)) as client:
        yield client


def test_it_is_asked_for_on_the_page_by_the_api_and_in_the_terminal(
    http: TestClient, store: "redis.Redis", url: str
) -> None:
    one = Registered("t", "f", "f", "t-f", ("a",), ("a",), 4, "code")
    store.hset(keys.functions(), "t-f", codec.encode(one))
    assert http.post("/v1/functions/t-f/run-one").json()["code"] == "not_paused"
    assert "Run one" not in http.get("/functions/t-f").text
    assert "is not paused" in bus("resume", "t-f", "--one", url=url, code=1)
    http.post("/v1/functions/t-f/pause")
    where, sent = form(http.get("/functions/t-f").text, "Run one")
    for _ in range(2):
        assert http.post(where, data=sent, follow_redirects=False).headers["location"] == "/functions/t-f"
    made = http.post("/v1/functions/t-f/run-one", json={"request": "r"}).json()["data"]
    assert (made["by"], made["worker"]) == ("the status page", ""), "who was first stands"
    assert "one run is let through" in bus("resume", "t-f", "--one", url=url)
    assert http.post("/v1/functions/none/run-one").status_code == 404
    http.post("/v1/functions/t-f/resume")
    assert not store.exists(keys.controls())
    assert http.post(where, data=sent, follow_redirects=False).status_code == 303, "resumed meanwhile"
