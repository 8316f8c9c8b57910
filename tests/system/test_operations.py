"""Operations: what matches a query is cancelled or run again, once each, whoever carries it on; one can stop it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import msgspec
import pytest

from stepstream import Context, Step
from stepstream.bus.errors import BadRequest, Conflict, InUse
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions import operations as module
from stepstream.checkpoint.actions.operations import (
    Operation,
    abort,
    carry_on,
    dry_count,
    operate,
    operate_on,
    operation,
)
from stepstream.checkpoint.actions.stepping import AT_MOST, CLAIM_MS
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.read.lists.search import RunQuery
from stepstream.consumers.worker import Worker, running
from stepstream.web.app import create_app
from tests.support import Lab, eventually


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    app = create_app(configured=settings)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as client:
        yield client
    await app.close()


def sleeper(lab: Lab, id: str = "f", on: str = "go") -> None:
    @lab.app.function(id, on=on)
    async def f(ctx: Context, step: Step) -> None:
        await step.sleep("nap", "1h")


def failing(lab: Lab) -> Counter[int]:
    """A function that fails; return how often it has been run for each event."""
    ran: Counter[int] = Counter()

    @lab.app.function("f", on="go", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        ran[ctx.event.data["n"]] += 1
        raise ValueError("boom")

    return ran


async def count(lab: Lab, status: str, many: int) -> None:
    slugs = [function.slug for function in lab.app.functions.values()]

    async def look() -> bool:
        return sum(one[status] for one in (await counts(lab.wire, slugs)).values()) == many

    await eventually(look, f"{many} runs are {status}")
    await later(lab)


async def later(lab: Lab) -> None:
    """Wait until what was queued so far was so before what is counted from now on."""
    now = await lab.wire.moment()

    async def look() -> bool:
        return await lab.wire.moment() > now + 1

    await eventually(look, "the server's clock went on")


async def send(lab: Lab, many: int, first: int = 0) -> None:
    for n in range(first, first + many):
        await lab.send("go", {"n": n})


async def left(lab: Lab, kind: module.Kind, query: RunQuery, *, again: bool = False) -> Operation:
    """Make an operation of which no step is taken yet."""
    return await operate(lab.wire, kind, query, by="a test", seconds=0, again=again)


@pytest.mark.leaves_behind("an entry in the hand of a worker that is dead")
async def test_a_cancel_ends_what_matches_whether_it_has_begun_or_not(lab: Lab) -> None:
    sleeper(lab)
    sleeper(lab, "other")
    async with running(Worker(lab.app, settings=lab.settings)):
        lab.app.connect(lab.wire)
        await send(lab, 20)
        await count(lab, "waiting", 40)
    await send(lab, 10, 20)  # nobody reads these
    await lab.wire.call("XREADGROUP", "GROUP", "test-f", "dead.0", "COUNT", 3, "STREAMS", keys.events("go"), ">")
    await later(lab)
    query = RunQuery(functions=("test-f",), where="event.data.n >= 10")
    dry = await dry_count(lab.wire, "cancel", query)
    assert (dry.count, dry.exact, len(dry.sample), dry.looked_at) == (10, False, 5, 20)
    made = await operate(lab.wire, "cancel", dry.query, by="ann", expected=dry.count)
    assert (made.state, made.done, made.matched, made.failed, made.looked_at) == ("done", 20, 20, 0, 30)
    of_each = await counts(lab.wire, ["test-f", "test-other"])
    assert (of_each["test-f"]["cancelled"], of_each["test-other"]["cancelled"]) == (20, 0)
    assert (of_each["test-f"]["waiting"], of_each["test-other"]["waiting"]) == (10, 20)
    await lab.work()
    await count(lab, "waiting", 40)
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 20


async def test_two_that_carry_on_at_once_run_nothing_again_twice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_A_PAGE", 7)
    ran = failing(lab)
    await lab.work()
    await send(lab, 40)
    await count(lab, "failed", 40)
    made = await left(lab, "rerun", RunQuery(statuses=("failed",), functions=("test-f",)))
    await asyncio.gather(*(carry_on(lab.wire, made.id, 60.0) for _ in range(3)))
    over = await operation(lab.wire, made.id)
    assert (over.state, over.done, over.matched, over.failed) == ("done", 40, 40, 0)
    await count(lab, "failed", 80)
    assert ran == dict.fromkeys(range(40), 2)


async def test_of_those_that_claim_a_step_in_one_millisecond_one_takes_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wrote the same claim, which the server took for a repetition of one: two took the step."""
    monkeypatch.setattr(module, "_A_PAGE", 4)
    sleeper(lab)
    await lab.work()
    await send(lab, 12)
    await count(lab, "waiting", 12)
    made = await left(lab, "cancel", RunQuery(functions=("test-f",), statuses=("waiting",)))
    whole_step, taken = module._step, []
    now = await lab.wire.moment()

    async def moment(wire: Any) -> int:
        await asyncio.sleep(0)
        return now

    async def step(wire: Any, at: Operation) -> Operation:
        taken.append(at.cursor)
        return await whole_step(wire, at)

    monkeypatch.setattr(type(lab.wire), "moment", moment)
    monkeypatch.setattr(module, "_step", step)
    while not (await operation(lab.wire, made.id)).ended:
        await asyncio.gather(*(carry_on(lab.wire, made.id, 0.0) for _ in range(5)))
    over = await operation(lab.wire, made.id)
    assert (over.done, over.failed, len(taken)) == (12, 0, len(set(taken)))


async def test_a_rerun_of_what_it_makes_itself_ends(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own runs fail as well, while it goes on; also where the clock was set back, and they seem older than it."""
    monkeypatch.setattr(module, "_A_PAGE", 5)
    ran = failing(lab)
    await lab.work()
    await send(lab, 12)
    await count(lab, "failed", 12)
    made = await left(lab, "rerun", RunQuery(functions=("test-f",)))
    later = msgspec.structs.replace(made, query=msgspec.structs.replace(made.query, until=made.created + 3_600_000))
    for n, one in enumerate((made, later), 1):
        await lab.wire.call("HSET", keys.operations(), one.id, codec.encode(one))
        if n == 2:
            afresh = msgspec.structs.replace(one, state="running", ended=0, cursor="", source="")
            await lab.wire.call("HSET", keys.operations(), one.id, codec.encode(afresh))
        while not (await operation(lab.wire, one.id)).over:
            await carry_on(lab.wire, one.id, 0.0)
        await count(lab, "failed", 24)
        assert ran == dict.fromkeys(range(12), 2)


async def test_a_step_that_was_taken_by_a_process_that_died_makes_no_run_twice(lab: Lab) -> None:
    ran = failing(lab)
    await lab.work()
    await send(lab, 10)
    await count(lab, "failed", 10)
    made = await left(lab, "rerun", RunQuery(functions=("test-f",)))
    claimed = msgspec.structs.replace(made, claimed=await lab.wire.moment() + CLAIM_MS, claimant="it")
    await lab.wire.call("HSET", keys.operations(), made.id, codec.encode(claimed))
    await module._step(lab.wire, claimed)  # and then it dies, before it writes how far it has come
    assert await carry_on(lab.wire, made.id, 1.0) is False  # it may be alive
    assert (await operation(lab.wire, made.id)).done == 0
    expired = msgspec.structs.replace(made, claimed=made.created - 1)
    await lab.wire.call("HSET", keys.operations(), made.id, codec.encode(expired))
    await carry_on(lab.wire, made.id, 60.0)
    assert (await operation(lab.wire, made.id)).done == 10
    await count(lab, "failed", 20)
    await lab.idle()
    assert ran == dict.fromkeys(range(10), 2)


async def test_a_process_that_dies_after_many_steps_is_followed_as_soon_as_after_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step made its claim longer: who had taken a thousand steps, and died, was followed after eight hours."""
    monkeypatch.setattr(module, "_A_PAGE", 2)
    sleeper(lab)
    await lab.work()
    await send(lab, 12)
    await count(lab, "waiting", 12)
    made = await left(lab, "cancel", RunQuery(functions=("test-f",), statuses=("waiting",)))
    whole_step, hangs = module._step, asyncio.Event()

    async def step(wire: Any, at: Operation) -> Operation:
        if at.done == 10:
            hangs.set()
            await asyncio.Event().wait()
        return await whole_step(wire, at)

    monkeypatch.setattr(module, "_step", step)
    dies = asyncio.ensure_future(carry_on(lab.wire, made.id, 60.0))
    await hangs.wait()
    dies.cancel()
    stands = await operation(lab.wire, made.id)
    assert stands.done == 10
    assert stands.claimed <= await lab.wire.moment() + CLAIM_MS
    monkeypatch.setattr(module, "_step", whole_step)
    expired = msgspec.structs.replace(stands, claimed=await lab.wire.moment() - 1)
    await lab.wire.call("HSET", keys.operations(), made.id, codec.encode(expired))
    await carry_on(lab.wire, made.id, 60.0)
    over = await operation(lab.wire, made.id)
    assert (over.state, over.done, over.failed) == ("done", 12, 0)


async def test_an_operation_is_carried_on_by_workers(lab: Lab) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 3)
    await count(lab, "waiting", 3)
    made = await left(lab, "cancel", RunQuery(functions=("test-f",)))
    await lab.work()  # it looks at once; others every few seconds
    await count(lab, "cancelled", 3)

    async def done() -> bool:
        return (await operation(lab.wire, made.id)).state == "done"

    await eventually(done, "it is done")


async def test_an_operation_that_is_aborted_goes_no_further_and_tells_what_it_did(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_A_PAGE", 4)
    sleeper(lab)
    await lab.work()
    await send(lab, 20)
    await count(lab, "waiting", 20)
    made = await left(lab, "cancel", RunQuery(statuses=("waiting",), functions=("test-f",)))
    whole_step = module._step

    async def step_and_meanwhile(wire: Any, at: Operation) -> Operation:
        stepped = await whole_step(wire, at)
        if stepped.done == 8:  # it has done so, and has not written it yet
            await abort(wire, at.id)
        return stepped

    monkeypatch.setattr(module, "_step", step_and_meanwhile)
    assert await carry_on(lab.wire, made.id, 60.0) is False
    over = await operation(lab.wire, made.id)
    assert (over.state, over.done, bool(over.ended)) == ("aborted", 8, True)
    assert await carry_on(lab.wire, made.id, 60.0) is False
    assert (await abort(lab.wire, made.id)) == over
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 8


async def test_two_operations_at_once_over_the_same_runs_cancel_each_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_A_PAGE", 3)
    sleeper(lab)
    await lab.work()
    await send(lab, 12)
    await count(lab, "waiting", 12)
    query = RunQuery(functions=("test-f",), statuses=("waiting",))
    several = [await left(lab, "cancel", query) for _ in range(2)]
    await asyncio.gather(*(carry_on(lab.wire, one.id, 60.0) for one in several))
    over = [await operation(lab.wire, one.id) for one in several]
    assert [one.state for one in over] == ["done", "done"]
    assert sum(one.done for one in over) == 12
    assert all(one.failures in ({}, {"it has ended meanwhile": one.failed}) for one in over)
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 12


async def test_two_operations_at_once_run_each_again_once_for_each(lab: Lab) -> None:
    ran = failing(lab)
    await lab.work()
    await send(lab, 8)
    await count(lab, "failed", 8)
    several = [await left(lab, "rerun", RunQuery(statuses=("failed",)), again=True) for _ in range(2)]
    await asyncio.gather(*(carry_on(lab.wire, one.id, 60.0) for one in several))
    await count(lab, "failed", 24)
    assert ran == dict.fromkeys(range(8), 3)


async def test_what_has_been_run_again_is_left_out_unless_asked_for(lab: Lab) -> None:
    ran = failing(lab)
    await lab.work()
    await send(lab, 6)
    await count(lab, "failed", 6)
    old = RunQuery(statuses=("failed",), until=await lab.wire.moment())
    first = [run.id for run in await lab.runs()][:2]
    made = await operate_on(lab.wire, "rerun", first, by="a test", request="of two")
    await carry_on(lab.wire, made.id, 60.0)
    await count(lab, "failed", 8)
    for query in (old, msgspec.structs.replace(old, where="event.data.n >= 0")):
        dry = await dry_count(lab.wire, "rerun", query)
        assert (dry.count, dry.again) == (6, 2), query
    rest = await left(lab, "rerun", old)
    await carry_on(lab.wire, rest.id, 60.0)
    over = await operation(lab.wire, rest.id)
    assert (over.done, over.failures) == (4, {"it has been run again already": 2})
    await count(lab, "failed", 12)
    assert ran == dict.fromkeys(range(6), 2)
    [new] = [run for run in await lab.runs() if run.rerun_of == first[0]]
    assert [run.reran for run in await lab.runs() if run.id == first[0]] == [new.id]


async def test_what_is_run_again_of_a_function_that_is_paused_or_that_no_worker_knows_stays_in_line(lab: Lab) -> None:
    ran = failing(lab)
    async with running(Worker(lab.app, settings=lab.settings)):
        lab.app.connect(lab.wire)
        await send(lab, 4)
        await count(lab, "failed", 4)
    await pause_function(lab.wire, "test-f", "a test")
    made = await operate(lab.wire, "rerun", RunQuery(functions=("test-f",)), by="ann")
    assert (made.state, made.done, made.failures) == ("done", 4, {})
    assert await lab.wire.call("XLEN", keys.queue("test-f")) == 4
    await resume_function(lab.wire, "test-f")
    await lab.work()
    await count(lab, "failed", 8)
    assert ran == dict.fromkeys(range(4), 2)


async def test_an_operation_that_nothing_matches_is_done(lab: Lab) -> None:
    sleeper(lab)
    await lab.work()
    for kind in ("cancel", "rerun"):
        made = await operate(lab.wire, kind, RunQuery(functions=("test-f",)), by="ann")
        assert (made.state, made.done, made.failed, made.matched) == ("done", 0, 0, 0)


async def test_large_events_are_run_again_over_several_calls_byte_by_byte(lab: Lab) -> None:
    """A call queues about a megabyte: a script that copied fifty events of 3 MiB would hold the server up."""
    got: Counter[int] = Counter()

    @lab.app.function("f", on="go")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        got[len(ctx.event.data["text"])] += 1

    await lab.work()
    for n in range(5):
        await lab.send("go", {"text": "é" * 300_000 + "x" * n})
    await count(lab, "completed", 5)
    first = {bytes(run.event or b"") for run in await lab.runs()}
    made = await operate(lab.wire, "rerun", RunQuery(functions=("test-f",)), by="ann")
    assert (made.state, made.done, made.failed) == ("done", 5, 0)
    await count(lab, "completed", 10)
    assert {bytes(run.event or b"") for run in await lab.runs()} == first
    assert set(got.values()) == {2}


@pytest.mark.leaves_behind("events that were written by hand")
async def test_a_run_whose_event_cannot_be_read_is_not_run_again(lab: Lab) -> None:
    failing(lab)
    await lab.work()
    await send(lab, 5)
    await count(lab, "failed", 5)
    for run, event in zip(await lab.runs(), ("x", "[1]", "", "{oops}"), strict=False):
        await lab.wire.call("HSET", keys.run("test-f", run.id), "event", event)
    made = await operate(lab.wire, "rerun", RunQuery(functions=("test-f",)), by="ann")
    assert (made.done, made.failures) == (2, {"it has no event that can be read": 3})
    await count(lab, "failed", 7)
    errors = [run.error.name for run in await lab.runs() if run.source == "rerun" and run.error]
    assert sorted(errors) == ["ValueError", "event_invalid"], "a worker finds out what is wrong within an object"


@pytest.mark.leaves_behind("a key that was written by hand")
async def test_a_run_that_redis_refuses_hinders_no_other(lab: Lab) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 5)
    await count(lab, "waiting", 5)
    run = (await lab.runs())[2]
    await lab.wire.call("SET", keys.open_steps("test-f", run.id), "written by hand")
    made = await operate(lab.wire, "cancel", RunQuery(functions=("test-f",)), by="ann")
    assert (made.state, made.done, made.failed) == ("done", 4, 1)
    assert ["WRONGTYPE" in why for why in made.failures] == [True]


async def test_operations_that_make_no_sense_are_refused(lab: Lab) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 2)
    await count(lab, "waiting", 2)
    mine = RunQuery(functions=("test-f",))
    with pytest.raises(BadRequest, match="every run there is"):
        await operate(lab.wire, "cancel", RunQuery(), by="ann")
    with pytest.raises(BadRequest, match="has ended is not cancelled"):
        await operate(lab.wire, "cancel", RunQuery(statuses=("failed",)), by="ann")
    with pytest.raises(BadRequest, match="has not ended is not run again"):
        await operate(lab.wire, "rerun", RunQuery(statuses=("waiting",)), by="ann")
    with pytest.raises(Conflict, match="2 runs match now, 1 were confirmed"):
        await operate(lab.wire, "cancel", mine, by="ann", expected=1)
    assert await module.operations(lab.wire) == []
    one = codec.encode(Operation(id="x", kind="cancel", query=mine, created=await lab.wire.moment()))
    for n in range(AT_MOST):
        await lab.wire.call("HSET", keys.operations(), str(n), one)
    with pytest.raises(InUse, match="not over"):
        await operate(lab.wire, "cancel", mine, by="ann")


async def test_an_operation_over_http(lab: Lab, site: httpx2.AsyncClient) -> None:
    ran = failing(lab)
    await lab.work()
    await send(lab, 6)
    await count(lab, "failed", 6)
    body = {"query": {"status": ["failed"], "function": "test-f", "where": "event.data.n < 4"}}
    dry = (await site.post("/v1/operations/count", json={**body, "kind": "rerun"})).json()["data"]
    assert (dry["count"], dry["exact"], len(dry["sample"]), dry["looked_at"]) == (4, True, 4, 6)
    answer = await site.post("/v1/operations", json={"kind": "rerun", "query": dry["query"], "expected": dry["count"]})
    made = answer.json()["data"]
    assert (answer.status_code, made["state"], made["done"], made["query"]) == (201, "done", 4, dry["query"])
    await count(lab, "failed", 10)
    assert ran == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1, 5: 1}
    assert (await site.get(f"/v1/operations/{made['id']}")).json()["data"] == made
    assert [one["id"] for one in (await site.get("/v1/operations")).json()["data"]] == [made["id"]]
    assert (await site.delete(f"/v1/operations/{made['id']}")).json()["data"]["state"] == "done"
    again = (await site.post("/v1/reruns", json={"query": {"function": "test-f", "where": "event.data.n == 5"}})).json()
    assert (again["data"]["kind"], again["data"]["done"]) == ("rerun", 1)
    for status, wanted in (
        (404, await site.get("/v1/operations/none")),
        (404, await site.delete("/v1/operations/none")),
        (404, await site.post("/v1/reruns", json={"query": {"function": "nobody"}})),
        (400, await site.post("/v1/reruns", json={"query": {"colour": "red"}})),
        (400, await site.post("/v1/reruns", json={"query": {}})),
        (400, await site.post("/v1/operations", json={"kind": "paint", "query": {"status": "failed"}})),
        (400, await site.post("/v1/operations", json={"kind": "rerun", "query": {"status": "failed"}, "more": 1})),
        (409, await site.post("/v1/reruns", json={"query": {"function": "test-f"}, "expected": 1})),
    ):
        assert wanted.status_code == status, wanted.text
    await count(lab, "failed", 11)
