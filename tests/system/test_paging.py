"""Paging: every run is seen once, however many share a millisecond, whatever becomes of them; and lists stay light."""

import json
import random
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from stepstream.bus.values.ids import run_id, ulid
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.runs import STATUSES, list_runs

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SLUGS = ("t-a", "t-b")


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    for slug in SLUGS:
        declared = {"bus": "t", "id": slug[2:], "name": slug, "slug": slug, "on": [], "events": [], "retries": 4}
        store.hset(keys.functions(), slug, json.dumps({**declared, "code": "x"}))
    return store


def put(store: "redis.Redis", slug: str, run: str, queued: int, status: str, **more: str) -> None:
    pipeline = store.pipeline()
    add(pipeline, slug, run, queued, status, **more)
    pipeline.execute()


def add(pipeline: Any, slug: str, run: str, queued: int, status: str, **more: str) -> None:
    pipeline.hset(keys.run(slug, run), mapping={"status": status, "queued": str(queued), **more})
    pipeline.pexpire(keys.run(slug, run), 60_000)
    pipeline.zadd(keys.runs(slug, status), {run: queued})


async def paged(wire: Wire, limit: int, slugs: tuple[str, ...] = SLUGS, **bounds: Any) -> list[list[str]]:
    """Return the ids of each page, until there is no cursor."""
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = await list_runs(wire, slugs, limit=limit, cursor=cursor, **bounds)
        pages.append([run.id for run in page.runs])
        assert len(page.runs) <= limit
        cursor = page.cursor
        if cursor is None:
            return pages


async def test_five_thousand_runs_of_one_millisecond_are_each_seen_once(wire: Wire, store: "redis.Redis") -> None:
    made = [(random.choice(SLUGS), ulid(1_700_000_000_000), random.choice(STATUSES)) for _ in range(5_000)]
    pipeline = store.pipeline()
    for slug, run, status in made:
        add(pipeline, slug, run, 1_700_000_000_000, status)
    pipeline.execute()
    for limit in (50, 999):
        pages = await paged(wire, limit)
        assert joined(pages) == sorted((run for _, run, _ in made), reverse=True)
        assert all(len(page) == limit for page in pages[:-1])
    assert len(joined(await paged(wire, 100, ("t-a",)))) == sum(slug == "t-a" for slug, _, _ in made)


def joined(pages: list[list[str]]) -> list[str]:
    return [run for page in pages for run in page]


SOME = st.lists(
    st.tuples(st.sampled_from(SLUGS), st.integers(1, 4), st.sampled_from(STATUSES), st.booleans()), max_size=40
)
BOUND = st.none() | st.integers(0, 5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOME, st.integers(1, 9), BOUND, BOUND, st.sets(st.sampled_from(STATUSES), min_size=1))
async def test_pages_joined_are_the_list_that_one_would_write_by_hand(
    wire: Wire,
    store: "redis.Redis",
    some: list[tuple[str, int, str, bool]],
    limit: int,
    since: int | None,
    until: int | None,
    statuses: set[str],
) -> None:
    for slug in SLUGS:
        store.delete(*(keys.runs(slug, status) for status in STATUSES))
    wanted: list[tuple[int, str]] = []
    for n, (slug, queued, status, is_gone) in enumerate(some):
        run = run_id(slug, "test", str(n), 1)
        put(store, slug, run, queued, status)
        if is_gone:
            store.delete(keys.run(slug, run))
        elif status in statuses and (since or 0) <= queued <= (9 if until is None else until):
            wanted.append((queued, run))
    pages = await paged(wire, limit, statuses=sorted(statuses), since=since, until=until)
    assert joined(pages) == [run for _, run in sorted(wanted, reverse=True)]


@pytest.mark.each_server
async def test_a_run_that_moves_on_between_two_pages_is_seen_once(wire: Wire, store: "redis.Redis") -> None:
    made = [run_id("t-a", "test", str(n), 5) for n in range(60)]
    for run in made:
        put(store, "t-a", run, 5, "running")
    seen: list[str] = []
    cursor = None
    while True:
        page = await list_runs(wire, SLUGS, limit=7, cursor=cursor)
        seen += [run.id for run in page.runs]
        for run in random.sample(made, 20):
            store.zrem(keys.runs("t-a", "running"), run)
            put(store, "t-a", run, 5, "completed")
        if (cursor := page.cursor) is None:
            break
    assert sorted(seen) == sorted(made)


async def test_many_that_are_gone_hide_none_of_those_that_are_there(wire: Wire, store: "redis.Redis") -> None:
    gone = {run_id("t-a", "gone", str(n), 9): 9 for n in range(2_000)}
    store.zadd(keys.runs("t-a", "skipped"), gone)
    there = run_id("t-a", "test", "1", 5)
    put(store, "t-a", there, 5, "completed")
    pages = await paged(wire, 5)
    assert joined(pages) == [there]
    assert pages[0] == []


def test_lists_carry_no_payloads_and_the_runs_own_route_does(http: TestClient, store: "redis.Redis") -> None:
    big = json.dumps("x" * 1_000_000)
    runs = [run_id("t-a", "test", str(n), 5) for n in range(10)]
    for run in runs:
        event = f'{{"id":"e","name":"a","data":{{"x":{big}}},"ts":1}}'
        error = json.dumps({"name": "Boom", "message": "m" * 8_000, "stack": "s" * 8_000})
        put(store, "t-a", run, 5, "failed", event=event, output=big, error=error, source="event", attempt="2")
    answer = http.get("/v1/runs")
    assert len(answer.content) < 5_000
    assert {run["id"] for run in answer.json()["data"]} == set(runs)
    assert answer.json()["data"][0] == {
        "id": max(runs), "function": "t-a", "status": "failed", "queued": 5, "attempt": 2, "source": "event",
        "event_name": "a", "error_line": f"Boom: {'m' * 194}",
    }  # fmt: skip
    one = http.get(f"/v1/runs/{runs[0]}").json()["data"]
    assert (len(one["event"]["data"]["x"]), one["error"]["name"]) == (1_000_000, "Boom")
    assert len(http.get("/runs").content) < 30_000


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "+5", "1e2", "5.0", "\u0665", "", " 5", "0000000000000050999999", "9" * 5_000]
)
def test_a_limit_that_is_no_plain_number_is_refused_with_what_would_do(http: TestClient, limit: str) -> None:
    answer = http.get("/v1/runs", params={"limit": limit})
    assert answer.status_code == 400
    assert "limit must be a number from 1 to 1000" in answer.json()["error"]
    assert len(answer.content) < 300


@pytest.mark.parametrize(
    "cursor", ["x", "5", "5-", "\u0665-" + RUN, "-5-" + RUN, "9" * 4_301 + "-" + RUN, "5-" + "x" * 26]
)
def test_a_cursor_that_is_none_of_ours_is_refused(http: TestClient, cursor: str) -> None:
    answer = http.get("/v1/runs", params={"cursor": cursor})
    assert (answer.status_code, "cursor" in answer.json()["error"]) == (400, True)
