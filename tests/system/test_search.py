"""Search: one way of asking for runs, for the API, the command line and the page."""

import asyncio
import json
import random
import time
from typing import Any, cast

import pytest
import redis
from starlette.testclient import TestClient

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.marks import mark_of
from stepstream.checkpoint.read.lists.runs import STATUSES, list_runs
from stepstream.checkpoint.read.lists.search import RunQuery, query_of, search

SLUGS = ("t-a", "t-b")


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    for slug in SLUGS:
        declared: dict[str, Any] = {
            "bus": "t",
            "id": slug[2:],
            "name": slug,
            "slug": slug,
            "on": [],
            "events": [],
            "retries": 4,
        }
        store.hset(keys.functions(), slug, json.dumps({**declared, "code": "x"}))
    return store


def put(store: "redis.Redis", slug: str, queued: int, status: str, **more: str) -> str:
    run = run_id(slug, "test", f"{queued} {status}", queued)
    store.hset(keys.run(slug, run), mapping={"status": status, "queued": str(queued), **more})
    store.pexpire(keys.run(slug, run), 60_000)
    store.zadd(keys.runs(slug, status), {run: queued})
    return run


def found(http: TestClient, query: str) -> list[str]:
    answer = http.get(f"/v1/runs{query}")
    assert answer.status_code == 200, answer.json()
    return [run["id"] for run in answer.json()["data"]]


def test_runs_are_found_by_statuses_functions_and_time(http: TestClient, store: "redis.Redis") -> None:
    now = time.time_ns() // 1_000_000
    old, failed = put(store, "t-a", now - 7_200_000, "failed"), put(store, "t-a", now - 60_000, "failed")
    waiting, other = put(store, "t-b", now - 50_000, "waiting"), put(store, "t-b", now - 40_000, "completed")
    assert found(http, "") == found(http, "?status=&function=&since=") == [other, waiting, failed, old]
    assert found(http, "?status=failed") == [failed, old]
    assert found(http, "?status=failed,waiting") == found(http, "?status=waiting&status=failed")
    assert found(http, "?status=failed,waiting") == [waiting, failed, old]
    assert found(http, "?function=t-a,t-b&since=1h") == [other, waiting, failed]
    assert found(http, "?function=t-a&until=1h") == [old]
    assert found(http, f"?since={now - 50_000}&until={now - 50_000}") == [waiting]
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1_000 - 3_600))
    assert found(http, f"?until={moment}") == [old]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?colour=red", "has no parameter 'colour'; it takes status, function"),
        ("?status=failed&status=faild", "status 'faild' is not known: use one of queued"),
        ("?since=yesterday", "since is not a time: 'yesterday'; write 2026-12-01T09:00:00Z, Unix ms, or how long ago"),
        ("?since=9999d", "since is not a time: '9999d'"),
        ("?since=1h&since=2h", "since is given 2 times, '1h' and '2h'; give one"),
        ("?since=1h&until=2h", "since '1h' is later than until '2h'"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_its_name_its_value_and_what_would_do(
    http: TestClient, store: "redis.Redis", query: str, told: str
) -> None:
    answer = http.get(f"/v1/runs{query}")
    assert (answer.status_code, told in answer.json()["error"]) == (400, True), answer.json()


def test_a_function_that_there_is_not_is_told_with_those_that_there_are(http: TestClient, store: "redis.Redis") -> None:
    answer = http.get("/v1/runs?function=t-a,t-c")
    assert (answer.status_code, "t-a, t-b" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"statuses": ("failed", "queued"), "functions": SLUGS, "since": 5, "until": 9, "where": "event.data.n > 1"},
        {"event": "a,b", "key": "k", "error": "E", "code": "c", "worker": "w", "source": "cron"},
    ],
)
async def test_a_query_is_read_again_from_its_own_parameters(
    wire: Wire, store: "redis.Redis", given: dict[str, Any]
) -> None:
    query = RunQuery(**given)
    assert await query_of(wire, query.pairs()) == query
    with pytest.raises(BadRequest, match="no filter"):
        await query_of(wire, [*query.pairs(), ("x", "y")])


def event(name: str, n: int) -> str:
    return json.dumps({"id": f"e{n}", "name": name, "data": {"n": n}, "ts": 1})


@pytest.fixture
def several(store: "redis.Redis") -> dict[str, str]:
    """Runs that differ in all that one can ask for, by a letter."""
    failed = json.dumps({"name": "TimeoutError", "message": "took\n\U0001f680too long", "stack": "s" * 9_000})
    declared = json.loads(store.hget(keys.functions(), "t-b") or "")
    store.hset(keys.functions(), "t-b", json.dumps({**declared, "events": ["order/*"]}))
    holds = {"c": "c0:customer-4\ns:x", "d": "c0:%3D4", "e": "t:=4"}
    return {
        "a": put(store, "t-a", 1, "completed", event=event("order/paid", 1), output='{"paid":true}', source="invoke"),
        "b": put(store, "t-b", 2, "completed", event=event("order/paid", 2), output="null", code="v2"),
        "c": put(store, "t-b", 3, "failed", event=event("order/sent", 3), error=failed, holds=holds["c"]),
        "d": put(store, "t-b", 4, "running", event=event("other", 4), worker="host-1.0", holds=holds["d"]),
        "e": put(store, "t-b", 5, "queued", event="no JSON", output="{", holds=holds["e"]),
    }


@pytest.mark.parametrize(
    ("asked", "letters"),
    [
        ({"event": "order/paid"}, "b"),  # only functions that it starts are looked at …
        ({"event": "order/paid", "function": "t-a,t-b"}, "ba"),  # … unless they are named
        ({"event": "order/*"}, "cb"),
        ({"event": "bus/cron.tick"}, ""),
        ({"key": "customer-4"}, "c"),
        ({"key": "customer"}, ""),
        ({"key": "4"}, "e"),
        ({"key": "=4"}, "d"),
        ({"error": "TimeoutError"}, "c"),
        ({"error": mark_of("TimeoutError", "")}, "c"),
        ({"error": mark_of("TimeoutError", "elsewhere")}, ""),
        ({"code": "v2"}, "b"),
        ({"worker": "host-1"}, "d"),
        ({"worker": "host"}, ""),
        ({"source": "invoke"}, "a"),
        ({"where": "event.data.n > 2"}, "dc"),
        ({"where": "output.paid"}, "a"),
        ({"where": "output == null", "status": "completed,running"}, "db"),
        ({"where": "event.data.n > 1", "status": "failed", "event": "order/*", "key": "customer-4"}, "c"),
    ],
)
def test_what_no_index_has_is_looked_for_in_the_runs(
    http: TestClient, several: dict[str, str], asked: dict[str, str], letters: str
) -> None:
    answer = http.get("/v1/runs", params=asked).json()
    assert [run["id"] for run in answer["data"]] == [several[letter] for letter in letters], answer
    assert (answer["count"], answer["exact"], answer["cursor"]) == (len(letters), True, None)


def test_a_line_says_what_a_person_looks_for(http: TestClient, several: dict[str, str]) -> None:
    lines = {run["id"]: run for run in http.get("/v1/runs").json()["data"]}
    assert (lines[several["c"]]["event_name"], lines[several["c"]]["keys"]) == ("order/sent", ["customer-4", "x"])
    assert lines[several["c"]]["error_line"] == "TimeoutError: took"
    assert [lines[several[letter]]["keys"] for letter in "de"] == [["=4"], ["4"]]
    assert "event_name" not in lines[several["e"]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?where=event.data.n >", "where: 'event.data.n >' is not an expression"),
        ("?where=run.id == 1", "an expression here knows only `output` and `event`"),
        ("?source=mail", "source 'mail' is not known: use one of event, batch"),
        (f"?where={'x' * 2_001}", "where is 2001 characters long; write at most 2000"),
    ],
)
def test_a_condition_that_is_none_is_refused(http: TestClient, several: dict[str, str], query: str, told: str) -> None:
    answer = http.get(f"/v1/runs{query}")
    assert (answer.status_code, told in answer.json()["error"]) == (400, True), answer.json()


async def test_a_page_looks_at_ten_thousand_runs_says_so_and_goes_on(wire: Wire, store: "redis.Redis") -> None:
    pipeline: Any = cast("Any", store).pipeline()
    made = {run_id("t-a", "test", str(n), 7): n for n in range(12_000)}
    rare = min(made)  # the last of all, in that one moment
    for run, n in made.items():
        pipeline.hset(
            keys.run("t-a", run), mapping={"status": "running", "event": event("rare" if run == rare else "x", n)}
        )
    pipeline.zadd(keys.runs("t-a", "running"), dict.fromkeys(made, 7))
    pipeline.execute()
    query = RunQuery(functions=("t-a",), event="rare")
    first = await search(wire, query)
    assert (first.runs, first.looked_at, first.count, first.exact) == ([], 10_000, 0, False)
    second = await search(wire, query, cursor=first.cursor)
    assert ([run.id for run in second.runs], second.looked_at, second.cursor) == ([rare], 2_000, None)
    assert (second.count, second.exact) == (1, False)
    counted = await search(wire, RunQuery(statuses=("running",)), limit=7)
    assert (len(counted.runs), counted.count, counted.exact) == (7, 12_000, True)


async def test_large_events_end_a_page_before_they_fill_the_memory(
    wire: Wire, store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.checkpoint.read.lists.search.MOST_BYTES", 5_000_000)
    for n in range(8):
        put(
            store,
            "t-a",
            n,
            "running",
            event=json.dumps({"id": "e", "name": "x", "data": {"n": n, "x": "x" * 2_000_000}, "ts": 1}),
        )
    seen: list[int] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await search(wire, RunQuery(where="event.data.n != 3"), cursor=cursor)
        seen += [run.queued for run in page.runs]
        cursor, pages = page.cursor, pages + 1
    assert (seen, pages) == ([7, 6, 5, 4, 2, 1, 0], 3)


async def test_functions_that_take_several_calls_are_joined_as_if_it_were_one(
    wire: Wire, store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that ends early, for what it has read, must not let runs of another be shown before its own."""
    monkeypatch.setattr("stepstream.checkpoint.read.lists.runs._AT_ONCE", 1)
    monkeypatch.setattr("stepstream.checkpoint.read.lists.runs._LOOKS", 10)
    made = [put(store, random.choice(SLUGS), n, random.choice(STATUSES)) for n in range(100)]
    gone = {run_id("t-a", "gone", str(n), 50): 50 for n in range(35)}
    store.zadd(keys.runs("t-a", "skipped"), gone)
    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await list_runs(wire, SLUGS, limit=5, cursor=cursor)
        seen += [run.id for run in page.runs]
        cursor, pages = page.cursor, pages + 1
    assert seen == made[::-1]


async def test_others_get_their_turn_while_runs_are_looked_into(
    wire: Wire, store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(200):
        put(store, "t-a", n, "running", event=event("x", n))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await search(wire, RunQuery(where="event.data.n < 0"))
    monkeypatch.setattr("stepstream.checkpoint.read.lists.search.SLICE_S", 0)
    busy = asyncio.create_task(other())
    found = await search(wire, RunQuery(where="event.data.n < 0"))
    busy.cancel()
    assert (found.looked_at, found.runs, turns >= 200) == (200, [], True)


async def test_a_page_that_is_full_ends_where_the_next_begins(wire: Wire, store: "redis.Redis") -> None:
    made = [put(store, "t-a", n, "running", event=event("x", n)) for n in range(20)]
    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await search(wire, RunQuery(where="event.data.n % 2 == 0"), limit=4, cursor=cursor)
        seen += [run.id for run in page.runs]
        cursor, pages = page.cursor, pages + 1
    assert seen == made[18::-2]
