"""What the official SDKs and their users send and read here: events under a seed, runs of events, GraphQL."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx2
import pytest
import redis
from starlette.responses import Response
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.errors import StepFailed
from stepstream.bus.limits.rules import Batch, Singleton
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel_many import Cancellation, cancellation, carry_on
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.registry import register
from stepstream.consumers.worker import Worker, running
from stepstream.web.serving.server import server
from tests.scripted_app import SDK, Told, serving
from tests.support import Lab, eventually

SEED = "1795308803226,2u0k7far4yIwYg=="


def send(http: TestClient, body: Any, seed: str = SEED, **headers: str) -> Any:
    return http.post("/e/NO_EVENT_KEY_SET", json=body, headers={"x-inngest-event-id-seed": seed, **headers})


def ulid_number(text: str) -> int:
    value = 0
    for letter in text:
        value = value << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(letter)
    return value


# -- POST /e/{key} ---------------------------------------------------------------------------------------------------


def test_internal_ids_are_made_of_the_seed_as_the_protocol_says(http: TestClient) -> None:
    answer = send(http, [{"name": "t/y", "data": {"z": 1}}, {"name": "t/z", "id": "my-id", "ts": 1700000000123}])
    told = answer.json()
    assert (answer.status_code, told["status"], "error" in told) == (200, 200, False)
    entropy = base64.b64decode("2u0k7far4yIwYg==")
    fixed, number = entropy[:6], int.from_bytes(entropy[6:])
    for place, one in enumerate(told["ids"], 1):
        assert ulid_ms(one) == 1795308803226
        assert (ulid_number(one) & ((1 << 80) - 1)).to_bytes(10) == fixed + (number + place).to_bytes(4)


def test_a_request_that_an_sdk_repeats_has_equal_ids_and_is_stored_once(http: TestClient, store: "redis.Redis") -> None:
    body = [{"name": "a", "data": {}}, {"name": "a", "id": "mine", "data": {}}]
    first, again = send(http, body).json(), send(http, body).json()
    assert first["ids"] == again["ids"]
    assert len(set(first["ids"])) == 2
    assert again["duplicate"] is True
    assert [fields["id"] for _, fields in store.xrange(keys.events("a"))] == [first["ids"][0], "mine"]
    assert store.xlen(keys.again("a")) == 2
    assert 0 < store.ttl(keys.again("a")) <= 86_400


def test_an_id_of_the_senders_is_stored_once_whatever_the_seed(http: TestClient, store: "redis.Redis") -> None:
    one = send(http, [{"name": "a", "id": "o1"}]).json()
    two = send(http, [{"name": "a", "id": "o1"}], "1795308803300,AAAAAAAAAAAAAA==").json()
    assert one["ids"] != two["ids"]
    assert store.xlen(keys.events("a")) == 1


@pytest.mark.parametrize(
    "seed", ["", "x", "1,", "1,AAAA", "-1,2u0k7far4yIwYg==", "1,2u0k7far4yIwY!==", f"{1 << 50},AA"]
)
def test_a_malformed_seed_counts_for_nothing(http: TestClient, seed: str) -> None:
    assert send(http, {"name": "a", "id": "mine"}, seed).json()["ids"] == ["mine"]


def test_of_an_sdks_list_the_events_before_the_first_wrong_one_are_taken(
    http: TestClient, store: "redis.Redis"
) -> None:
    answer = send(http, [{"name": "foo"}, {"name": ""}, {"name": "bar"}])
    told = answer.json()
    assert (answer.status_code, told["status"], told["event"], len(told["ids"])) == (400, 400, 1, 1)
    assert "event 1: name: is empty" in told["error"]
    assert store.xlen(keys.events("foo")) == 1
    assert not store.exists(keys.events("bar"))
    assert http.post("/e/k", json=[{"name": "foo"}, {"name": ""}]).json()["ids"] == [], "without a seed all or nothing"
    assert store.xlen(keys.events("foo")) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [({"name": "inngest/foo"}, "reserved"), ({"name": "a", "ts": 1}, "1980"), ({"name": "a", "data": [1]}, "data"),
     ("text", "text"), ([{"name": "a"}, 7], "event 1")],
)  # fmt: skip
def test_what_an_sdk_may_not_send_is_told(http: TestClient, body: Any, told: str) -> None:
    answer = send(http, body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert told in answer.json()["error"]


def test_what_sdks_add_is_tolerated_and_what_is_reserved_is_left_out(http: TestClient, store: "redis.Redis") -> None:
    event = {"name": "a", "id": "", "user": {}, "v": "1", "meta": {"sessions": {}}, "whatever": 1}
    data = '{"big":12345678901234567890,"_inngest":{"correlation_id":"x"},"f":1.0}'
    body = json.dumps(event)[:-1] + f',"data":{data}}}'
    answer = http.post("/e/k", content=body, headers={"x-inngest-event-id-seed": SEED})
    assert answer.status_code == 200
    [(_, fields)] = store.xrange(keys.events("a"))
    assert fields == {
        "id": answer.json()["ids"][0],
        "name": "a",
        "data": '{"big":12345678901234567890,"f":1.0}',
        "v": "1",
    }


def test_forms_become_events(http: TestClient, store: "redis.Redis") -> None:
    assert http.post("/e/k", data={"name": "a", "id": "f1", "who": "Ada"}).json()["ids"] == ["f1"]
    parts = {"name": (None, "a"), "data": (None, '{"n": 1}'), "x": (None, "é")}
    assert http.post("/e/k", files=parts).status_code == 200
    assert [json.loads(fields["data"]) for _, fields in store.xrange(keys.events("a"))] == [
        {"who": "Ada"},
        {"n": 1, "x": "é"},
    ]
    assert http.post("/e/k", files={"name": ("a.txt", b"a")}).status_code == 415
    assert http.post("/e/k", data={"name": "a", "data": "[]"}).json()["field"] == "data"


def test_a_server_is_called_by_the_address_that_the_sdks_tests_call_it_by(http: TestClient) -> None:
    assert http.get("/health", headers={"host": "0.0.0.0:8288"}).status_code == 200


# -- GET /v1/events --------------------------------------------------------------------------------------------------


def listed(http: TestClient, **query: Any) -> list[dict[str, Any]]:
    answer = http.get("/v1/events", params=query)
    assert answer.status_code == 200, answer.text
    assert "fetched_at" in answer.json()["metadata"]
    return answer.json()["data"]


def test_events_are_listed_newest_first_as_often_as_they_came(http: TestClient) -> None:
    """inngest-py sends two events, repeats the request, and asks for four with two ids."""
    body = [{"name": "foo", "data": {"n": 1}}, {"name": "foo", "data": {"n": 2}}]
    ids = send(http, body).json()["ids"]
    send(http, body)
    send(http, {"name": "bar"}, "1795308803300,AAAAAAAAAAAAAA==")
    found = listed(http, name="foo")
    assert [one["internal_id"] for one in found] == [*reversed(ids), *reversed(ids)]
    assert "data" not in found[0], "a hundred events may be 300 MiB"
    assert {one["data"]["n"] for one in listed(http, name="foo", fields="id,data")} == {1, 2}
    assert [one["name"] for one in listed(http)] == ["bar", "foo", "foo", "foo", "foo"]
    assert listed(http, name="nobody") == []


def test_pages_of_events_lose_none_and_repeat_none(http: TestClient) -> None:
    for n in range(7):
        http.post("/e/k", json=[{"name": f"n{n % 3}", "id": f"e{n}"}, {"name": "other", "id": f"o{n}"}])
    every = [one["id"] for one in listed(http, limit=100)]
    assert sorted(every) == sorted([f"e{n}" for n in range(7)] + [f"o{n}" for n in range(7)])
    for limit in (1, 3, 5):
        found, cursor = list[str](), ""
        while True:
            page = http.get("/v1/events", params={"limit": limit, **({"cursor": cursor} if cursor else {})}).json()
            found += [one["id"] for one in page["data"]]
            cursor = page["metadata"]["cursor"]
            if cursor is None:
                break
        assert found == every, limit
    # As the hosted service's users page: by the id of the last event.
    assert [one["id"] for one in listed(http, cursor=every[3], limit=100)] == every[4:]
    assert http.get("/v1/events?cursor=nonsense").status_code == 400


def test_events_are_bounded_by_when_they_came(http: TestClient, store: "redis.Redis") -> None:
    for ms in (1_000, 2_000, 3_000):
        store.xadd(keys.events("a"), {"data": "{}", "id": f"e{ms}"}, f"{ms}-0")
    store.zadd(keys.event_names(), {"a": 1})
    assert [one["id"] for one in listed(http, received_after="1970-01-01T00:00:01Z")] == ["e3000", "e2000"]
    assert [one["id"] for one in listed(http, received_before=3000, received_after=1000)] == ["e2000"]
    [first] = listed(http, received_before=1500)
    assert first["received_at"] == "1970-01-01T00:00:01.000Z"
    for wrong in ("limit=0", "limit=x", "received_after=soon"):
        assert http.get(f"/v1/events?{wrong}").status_code == 400


def test_an_event_is_found_by_each_of_its_ids(http: TestClient, store: "redis.Redis") -> None:
    internal = send(http, {"name": "a", "id": "o1", "data": {"x": [1]}}).json()["ids"][0]
    again = send(http, {"name": "a", "id": "o1"}, "1795308803300,AAAAAAAAAAAAAA==").json()["ids"][0]
    for asked, told in (("o1", internal), (internal, internal), (again, again)):
        one = http.get(f"/v1/events/{asked}").json()["data"]
        assert (one["id"], one["internal_id"], one["data"]) == ("o1", told, {"x": [1]})
    unseeded = http.post("/e/k", json={"name": "b"}).json()["ids"][0]
    assert http.get(f"/v1/events/{unseeded}").json()["data"]["name"] == "b", "by the time in it"
    missing = http.get("/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert (missing.status_code, missing.json()["data"], missing.json()["code"]) == (404, None, "event_not_found")
    assert http.get("/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV/runs").status_code == 404


def test_an_event_is_found_by_its_id_after_that_was_forgotten(http: TestClient, store: "redis.Redis") -> None:
    now = int(time.time() * 1_000)
    internal = send(http, {"name": "a"}, f"{now},AAAAAAAAAAAAAA==").json()["ids"][0]
    store.delete(keys.seen("a", internal))
    assert http.get(f"/v1/events/{internal}").json()["data"]["internal_id"] == internal


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    app = create_app(configured=settings)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as client:
        yield client
    await app.close()


async def sent(site: httpx2.AsyncClient, body: Any, seed: str = SEED) -> list[str]:
    answer = await site.post("/e/k", json=body, headers={"x-inngest-event-id-seed": seed})
    assert answer.status_code == 200, answer.text
    return answer.json()["ids"]


async def runs_when(site: httpx2.AsyncClient, event: str, *statuses: str) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        found = (await site.get(f"/v1/events/{event}/runs")).json()["data"]
        return found if sorted(run["status"] for run in found) == sorted(statuses) else None

    return await eventually(look, f"runs of {event} are {statuses}") or []


async def test_the_runs_of_an_event_are_told_as_the_hosted_service_tells_them(
    lab: Lab, site: httpx2.AsyncClient
) -> None:
    @lab.app.function("good", on="go")
    async def good(ctx, step):
        return {"n": 1}

    @lab.app.function("bad", on="go", retries=0)
    async def bad(ctx, step):
        raise ValueError("boom")

    for function in lab.app.functions.values():
        await register(lab.wire, function)
    [event] = await sent(site, [{"name": "go", "id": "o1"}])
    assert {run["status"] for run in await runs_when(site, event, "Scheduled", "Scheduled")} == {"Scheduled"}
    await lab.work()
    found = {run["function_id"]: run for run in await runs_when(site, event, "Completed", "Failed")}
    good_run = found["test-good"]
    assert (good_run["output"], good_run["event_id"]) == ({"n": 1}, "o1")
    assert good_run["run_started_at"] <= good_run["ended_at"]
    assert (found["test-bad"]["output"]["name"], found["test-bad"]["output"]["message"]) == ("ValueError", "boom")
    one = (await site.get(f"/v1/runs/{good_run['run_id']}")).json()["data"]
    assert (one["id"], one["run_id"], one["status"], one["output"]) == (
        good_run["run_id"],
        good_run["run_id"],
        "completed",
        {"n": 1},
    )


async def test_an_event_sent_twice_makes_one_run_which_both_ids_lead_to(lab: Lab, site: httpx2.AsyncClient) -> None:
    @lab.app.function("f", on="go")
    async def f(ctx, step):
        return 1

    await lab.work()
    [one] = await sent(site, [{"name": "go", "id": "o1"}])
    [two] = await sent(site, [{"name": "go", "id": "o1"}], "1795308803300,AAAAAAAAAAAAAA==")
    runs = [await runs_when(site, event, "Completed") for event in (one, two)]
    assert runs[0][0]["run_id"] == runs[1][0]["run_id"]
    await lab.one()


async def test_runs_that_a_limit_kept_out_are_told_as_the_hosted_service_does(
    lab: Lab, site: httpx2.AsyncClient
) -> None:
    @lab.app.function("single", on="one", singleton=Singleton(mode="skip"))
    async def single(ctx, step):
        await step.wait_for_signal("s", "go", timeout="1h")

    @lab.app.function("both", on="late", batch=Batch(2, "1h"))
    async def both(ctx, step):
        return [event.data["n"] for event in ctx.events]

    await lab.work()
    first, second = await sent(site, [{"name": "one"}, {"name": "one"}])
    assert (await runs_when(site, first, "Running"))[0]["function_id"] == "test-single"
    await runs_when(site, second, "Skipped")
    several = await sent(site, [{"name": "late", "data": {"n": n}} for n in (1, 2)], "1795308803300,AAAAAAAAAAAAAA==")
    found = [await runs_when(site, event, "Completed") for event in several]
    assert [run["output"] for [run] in found] == [[1, 2], [1, 2]]
    await site.post("/v1/signals", json={"signal": "go"})
    await runs_when(site, first, "Completed")


async def test_a_future_ts_makes_a_run_that_starts_then(lab: Lab, site: httpx2.AsyncClient) -> None:
    began: list[float] = []

    @lab.app.function("f", on="go")
    async def f(ctx, step):
        began.append(time.time() * 1_000)

    await lab.work()
    due = int(time.time() * 1_000) + 400
    [event] = await sent(site, [{"name": "go", "ts": due}])
    await runs_when(site, event, "Completed")
    assert began[0] >= due


async def test_invoking_signalling_and_cancelling_answer_as_sdks_expect(lab: Lab, site: httpx2.AsyncClient) -> None:
    @lab.app.function("f")
    async def f(ctx, step):
        return await step.wait_for_signal("s", "go", timeout="1h")

    await lab.work()
    told = (await site.post("/invoke/test-f", json={"data": {"x": 1}, "user": {}, "v": "1"})).json()
    assert (told["status"], told["data"]["id"]) == (200, told["id"])
    [run] = await runs_when(site, told["id"], "Running")
    assert (await site.get(f"/v1/events/{told['id']}")).json()["data"]["data"] == {"x": 1}
    nobody = await site.post("/v1/signals", json={"signal": "nobody", "data": 1})
    assert (nobody.status_code, nobody.json()["data"], nobody.json()["status"]) == (404, None, 404)
    signalled = await eventually(lambda: _signalled(site), "it waits")
    assert signalled["data"]["run_id"] == run["run_id"]
    await runs_when(site, told["id"], "Completed")
    for _ in range(2):
        late = await site.delete(f"/v1/runs/{run['run_id']}")
        assert (late.status_code, late.json()["data"]["status"]) == (200, "completed")


async def _signalled(site: httpx2.AsyncClient) -> Any:
    answer = await site.post("/v1/signals", json={"signal": "go", "data": 7})
    return answer.json() if answer.status_code == 200 else None


# -- POST /v0/gql ----------------------------------------------------------------------------------------------------


async def ask(site: httpx2.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    answer = await site.post("/v0/gql", json={"query": query, "variables": variables or None})
    assert answer.status_code == 200, answer.text
    return answer.json()


RUN_STATUS = """
query GetRun($run_id: String!) {
    run(runID: $run_id) { output status }
    runTrigger(runID: $run_id) { payloads }
}"""
STEPS = "query ($run_id: String!) { run(runID: $run_id) { trace { childrenSpans { name outputID } } } }"
OUTPUT = "query Q($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name stack } } }"
RUNS = "query GetRunFromEventID($event_id: ID!) { event(query: {eventId: $event_id}) { functionRuns { id } } }"


async def test_the_queries_of_inngests_own_tests_are_answered(lab: Lab, site: httpx2.AsyncClient) -> None:
    @lab.app.function("f", on="go", retries=0)
    async def f(ctx, step):
        for n in range(2):
            await step.run("foo", lambda n=n: {"n": n})
        await step.sleep("nap", "1ms")
        try:
            await step.run("bad", _bad, retries=0)
        except StepFailed as error:
            return error.message

    await lab.work()
    [event] = await sent(site, [{"name": "go", "id": "o1", "data": {"x": 1}}])
    await runs_when(site, event, "Completed")
    [run] = [one["id"] for one in (await ask(site, RUNS, event_id=event))["data"]["event"]["functionRuns"]]
    told = await ask(site, RUN_STATUS, run_id=run)
    assert (told["data"]["run"], "errors" in told) == ({"output": '"oh no"', "status": "COMPLETED"}, False)
    [payload] = told["data"]["runTrigger"]["payloads"]
    assert (json.loads(payload)["name"], json.loads(payload)["data"], json.loads(payload)["id"]) == (
        "go",
        {"x": 1},
        "o1",
    )
    other = (await ask(site, "query E($id: ULID!) { eventV2(id: $id) { idempotencyKey name raw } }", id=event))["data"]
    assert (other["eventV2"]["idempotencyKey"], other["eventV2"]["name"]) == ("o1", "go")
    assert json.loads(other["eventV2"]["raw"])["data"] == {"x": 1}
    spans = (await ask(site, STEPS, run_id=run))["data"]["run"]["trace"]["childrenSpans"]
    assert [span["name"] for span in spans] == ["foo", "foo", "nap", "bad"]
    outputs = [(await ask(site, OUTPUT, id=span["outputID"]))["data"]["runTraceSpanOutputByID"] for span in spans]
    assert [json.loads(one["data"]) for one in outputs[:2]] == [{"n": 0}, {"n": 1}]
    assert (outputs[0]["error"], outputs[3]["data"]) == (None, None)
    assert (outputs[3]["error"]["name"], outputs[3]["error"]["message"]) == ("ValueError", "oh no")
    whole = (await ask(site, f'{{ run(runID: "{run}") {{ trace(preview: true) {{ status outputID }} }} }}'))["data"][
        "run"
    ]
    assert whole["trace"]["status"] == "COMPLETED"
    own = await ask(site, OUTPUT, id=whole["trace"]["outputID"])
    assert own["data"]["runTraceSpanOutputByID"] == {"data": '"oh no"', "error": None}


def _bad() -> None:
    raise ValueError("oh no")


async def test_the_error_of_an_app_is_told_as_its_sdk_told_it(lab: Lab, site: httpx2.AsyncClient) -> None:
    """inngest-py compares all fields, with their nulls."""
    told = {"code": "unknown", "message": "intentional failure", "name": "MyError", "stack": None}

    def script(_: Told) -> Response:
        return Response(json.dumps(told), 500, {**SDK, "x-inngest-no-retry": "true"})

    async with serving(script) as app:
        lab.app = app.bus("go")
        await lab.work()
        [event] = await sent(site, [{"name": "go"}])
        [run] = await runs_when(site, event, "Failed")
    assert run["output"] == told
    answer = await ask(site, RUN_STATUS, run_id=run["run_id"])
    assert json.loads(answer["data"]["run"]["output"]) == told
    [trace] = (await ask(site, '{{ run(runID: "{}") {{ trace {{ outputID }} }} }}'.format(run["run_id"])))["data"][
        "run"
    ].values()
    own = (await ask(site, OUTPUT, id=trace["outputID"]))["data"]["runTraceSpanOutputByID"]
    assert (own["data"], own["error"]["name"], own["error"]["message"]) == (None, "MyError", "intentional failure")


async def test_a_query_about_what_is_not_there_has_errors(site: httpx2.AsyncClient) -> None:
    unknown = await ask(site, '{ a: run(runID: "01ARZ3NDEKTSV4RRFFQ69G5FAV") { status } }')
    assert unknown["data"] == {"a": None}
    assert "01ARZ3NDEKTSV4RRFFQ69G5FAV" in unknown["errors"][0]["message"]
    for query, told in (
        ("{ event(query: {eventId: $id}) { id } }", "needs query.eventId"),
        ('{ event(query: {eventId: "nobody"}) { id } }', "no event 'nobody'"),
        ('{ runTraceSpanOutputByID(outputID: "x") { data } }', "not given by this server"),
        ("{ apps { id } }", "there is no 'apps'"),
        ("mutation { cancelRun(runID: 1) { id } }", "only queries"),
        ("{ run(runID: ", "ends too early"),
        ("{ ...F }", "stands where name is expected"),
        ("query Q($a: [Int!]! = 1", "ends too early"),
        ("", "ends too early"),
        ("{ a " * 40, "deeper than 32"),
        ("{ a(b: " + "{c: " * 40, "deeper than 32"),
    ):
        told_errors = (await ask(site, query))["errors"]
        assert told in told_errors[0]["message"], (query, told_errors)
    assert (await site.post("/v0/gql", content=b"[]")).status_code == 400


# -- /v1/cancellations -----------------------------------------------------------------------------------------------


async def cancelled(lab: Lab, site: httpx2.AsyncClient, **wanted: Any) -> dict[str, Any]:
    """Cancel many; what the request has no time for, on a slow machine, is done as a worker would."""
    body = {"app_id": "test", "function_id": "f", "started_before": int(time.time() * 1_000), **wanted}
    answer = await site.post("/v1/cancellations", json=body)
    assert answer.status_code == 201, answer.text
    id = answer.json()["data"]["id"]
    while await carry_on(lab.wire, id, 1.0):
        pass
    return (await site.get(f"/v1/cancellations/{id}")).json()["data"]


async def test_many_runs_are_cancelled_whether_they_have_begun_or_not(lab: Lab, site: httpx2.AsyncClient) -> None:
    @lab.app.function("f", on="go")
    async def f(ctx, step):
        await step.sleep("nap", "1h")

    @lab.app.function("other", on="go")
    async def other(ctx, step):
        await step.sleep("nap", "1h")

    async with running(Worker(lab.app, settings=lab.settings)):
        lab.app.connect(lab.wire)
        for n in range(120):
            await lab.send("go", {"n": n})
        await eventually(lambda: _waiting(lab, 240), "all wait")
    for n in range(120, 180):
        await lab.send("go", {"n": n})
    await lab.wire.call("XREADGROUP", "GROUP", "test-f", "dead.0", "COUNT", 10, "STREAMS", keys.events("go"), ">")
    await site.post("/invoke/test-f", json={"data": {"n": 180}})
    await anyio.sleep(0.002)
    told = await cancelled(lab, site, **{"if": "event.data.n >= 100"})
    assert (told["cancelled"], told["looked_at"], told["function_id"]) == (81, 181, "f")
    assert told["done_at"] is not None
    assert [one["id"] for one in (await site.get("/v1/cancellations")).json()["data"]] == [told["id"]]
    assert (await site.get(f"/v1/cancellations/{told['id']}")).json()["data"] == told
    rest = await cancelled(lab, site, function_id="test-f")
    assert rest["cancelled"] == 100
    statuses = await counts(lab.wire, ["test-f", "test-other"])
    assert (statuses["test-f"]["cancelled"], statuses["test-other"]["cancelled"]) == (181, 0)
    await lab.work()
    await eventually(lambda: _waiting(lab, 180), "what was not cancelled goes on")
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 181
    assert (await site.delete(f"/v1/cancellations/{told['id']}")).status_code == 204
    assert (await site.delete(f"/v1/cancellations/{told['id']}")).status_code == 404
    assert (await site.get(f"/v1/cancellations/{told['id']}")).status_code == 404


async def test_a_cancellation_says_of_how_many_runs_its_condition_could_not_be_evaluated(
    lab: Lab, site: httpx2.AsyncClient
) -> None:
    """Their events were copied for each member of their lists, half a second each; a large number counted as false."""

    @lab.app.function("f", on="go")
    async def f(ctx, step):
        await step.sleep("nap", "1h")

    await lab.work()
    datas: list[dict[str, Any]] = [
        {"n": 1, "l": [1]},
        {"n": 1, "l": [1] * 3_000},
        {"n": 2**70, "l": [1]},
        {"n": 2, "l": [1]},
    ]
    for data in datas:
        await lab.send("go", data)
    await eventually(lambda: _all_wait(lab), "all wait")
    await anyio.sleep(0.002)
    told = await cancelled(lab, site, **{"if": "event.data.l.all(x, event.data.n == 1)"})
    assert (told["cancelled"], told["looked_at"], told["not_evaluated"]) == (1, 4, 2)


async def _all_wait(lab: Lab) -> bool:
    return (await counts(lab.wire, ["test-f"]))["test-f"]["waiting"] == 4


async def _waiting(lab: Lab, many: int) -> bool:
    of_each = await counts(lab.wire, ["test-f", "test-other"])
    return sum(one["waiting"] for one in of_each.values()) == many


async def test_a_cancellation_that_its_server_left_is_carried_on_by_workers(lab: Lab) -> None:
    @lab.app.function("f", on="go")
    async def f(ctx, step):
        await step.sleep("nap", "1h")

    await lab.work()
    for n in range(3):
        await lab.send("go", {"n": n})
    await eventually(lambda: _waiting(lab, 3), "all wait")
    now = await lab.wire.moment() + 1
    left = Cancellation(id="c1", app="", function="test-f", before=now, created=now, claimed=now - 1)
    await lab.wire.call("HSET", keys.cancellations(), "c1", codec.encode(left))
    await lab.work()  # it looks at once; others every few seconds
    found = await lab.ended(3)
    assert {run.status for run in found} == {"cancelled"}
    done = await eventually(lambda: _done(lab), "it is done")
    assert (done.cancelled, done.looked_at) == (3, 3)


async def _done(lab: Lab) -> Cancellation | None:
    one = await cancellation(lab.wire, "c1")
    return one if one.done else None


async def test_steps_of_a_cancellation_are_taken_by_one_at_a_time(lab: Lab) -> None:
    @lab.app.function("f", on="go")
    async def f(ctx, step):
        await step.sleep("nap", "1h")

    await lab.work()
    for n in range(130):
        await lab.send("go", {"n": n})
    await eventually(lambda: _waiting(lab, 130), "all wait")
    now = await lab.wire.moment() + 1
    await lab.wire.call(
        "HSET", keys.cancellations(), "c1",
        codec.encode(Cancellation(id="c1", app="", function="test-f", before=now, created=now)),
    )  # fmt: skip
    await asyncio.gather(*(carry_on(lab.wire, "c1", 5.0) for _ in range(4)))
    done = await cancellation(lab.wire, "c1")
    assert (bool(done.done), done.cancelled, done.looked_at) == (True, 130, 130)


@pytest.mark.leaves_behind("a function that is registered, and no worker has made its groups")
@pytest.mark.parametrize(
    ("wanted", "status", "told"),
    [
        ({"function_id": "nobody"}, 404, "is not registered"),
        ({"started_before": "2090-01-01T00:00:00Z"}, 400, "in the past"),
        ({"started_before": None}, 400, "started_before is missing"),
        ({"started_before": "soon"}, 400, "is not a time"),
        ({"started_after": 3, "started_before": 2}, 400, "behind started_after"),
        ({"if": "event.data.n =="}, 400, "if"),
        ({"id": 1}, 400, "unknown field"),
    ],
)
async def test_a_cancellation_that_makes_no_sense_is_refused(
    lab: Lab, site: httpx2.AsyncClient, wanted: dict[str, Any], status: int, told: str
) -> None:
    @lab.app.function("f", on="go")
    async def f(ctx, step): ...

    await register(lab.wire, lab.app.functions["f"])
    body = {"app_id": "test", "function_id": "f", "started_before": "2026-01-01T00:00:00Z", **wanted}
    answer = await site.post("/v1/cancellations", json=body)
    assert (answer.status_code, told in answer.json()["error"]) == (status, True), answer.text
    assert (await site.get("/v1/cancellations")).json()["data"] == []


def test_the_site_is_not_the_first_to_close_a_connection_that_a_client_keeps(settings: Settings) -> None:
    """Both the Python SDK and uvicorn by itself close one after five seconds: what is sent just then is lost."""
    assert server(create_app(configured=settings), settings).config.timeout_keep_alive > 60
