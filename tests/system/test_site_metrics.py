"""/metrics of a site: gauges of the store, which also tell that there is no Redis."""

import pytest
import redis
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families
from starlette.testclient import TestClient

from stepstream import Context, Cron, Step, create_app
from stepstream.bus.process.ports import free_port
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.checkpoint.at_work.overview import AtWork, HourTold, Overview
from stepstream.web.api.engine.measures import COUNTERS, GAUGES, MOST_FUNCTIONS, Looked, Measures
from tests.promtool import MISSING, PROMTOOL, promtool
from tests.support import Lab
from tests.system.test_worker_metrics import samples


def of(function: str, **more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"function": function, **more}.items()))


async def test_what_the_store_holds_is_there_as_gauges(lab: Lab, http: TestClient, store: redis.Redis) -> None:
    @lab.app.function("f", on=["a", Cron("0 4 * * *")])
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("w", "b", timeout="1h")

    await lab.work()
    await lab.send("a")
    run = (await lab.some())[0]
    await lab.status(run.id, "waiting")
    store.zadd(keys.runs("test-f", "running"), {"old": 1_000})
    store.zadd(keys.runs("test-f", "queued"), {"older": 1_000})
    try:
        answer = http.get("/metrics")
    finally:
        store.zrem(keys.runs("test-f", "running"), "old")
        store.zrem(keys.runs("test-f", "queued"), "older")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    told = samples(answer.text)
    for name, labels, value in (
        ("redis_up", (), 1), ("store_read", (), 1), ("functions", (), 1), ("functions_left_out", (), 0), ("workers", of("test-f"), 1),
        ("runs", of("test-f", status="waiting"), 1), ("paused", of("test-f"), 0), ("unread_events", of("test-f"), 0),
        ("unread_turns", of("test-f"), 0), ("missed_ticks", of("test-f"), 0), ("redis_primary", (), 1),
        ("entries_in_hand", of("test-f", stream="queue"), 0), ("redis_aof", (), 0), ("redis_written", (), 1),
        ("last_hour_runs", of("test-f", what="started"), 1), ("redis_replicas", (), 0), ("redis_evicted_keys", (), 0),
    ):  # fmt: skip
        assert told["stepstream_" + name, labels] == value, name
    assert told["stepstream_oldest_running_seconds", of("test-f")] > 1e9
    assert told["stepstream_oldest_queued_seconds", of("test-f")] > 1e9
    assert told["stepstream_redis_memory_bytes", ()] > 0
    names = {f"stepstream_{name}" for name in GAUGES} | {f"stepstream_{name}_total" for name in COUNTERS}
    assert {name for name, _ in told} <= names
    assert names - {name for name, _ in told} <= {"stepstream_last_hour_took_seconds"}, "nothing has ended yet"
    await lab.send("b")
    await lab.one()


def test_both_formats_are_read_by_the_library_s_own_parsers(http: TestClient) -> None:
    text = http.get("/metrics").text
    assert "stepstream_redis_up" in {one.name for one in families(text)}
    answer = http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "stepstream_site_events_stored" in {one.name for one in openmetrics(answer.text)}


def test_an_id_that_comes_again_is_counted(http: TestClient) -> None:
    for _ in range(3):
        assert http.post("/e/k", json={"id": "one", "name": "a", "data": {}}).status_code == 200
    told = samples(http.get("/metrics").text)
    assert told["stepstream_site_events_stored_total", ()] == 3
    assert told["stepstream_site_events_repeated_total", ()] == 2


def test_without_redis_it_is_answered_that_it_is_not_up() -> None:
    """With an error there would be nothing to alert on but that a scrape failed, as if the site were down."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with TestClient(create_app(configured=Settings(redis_url=url))) as client:
        answer = client.get("/metrics")
    told = samples(answer.text)
    assert (answer.status_code, told["stepstream_redis_up", ()]) == (200, 0)
    assert told["stepstream_store_read", ()] == 0
    assert {name for name, _ in told} == {
        "stepstream_redis_up",
        "stepstream_store_read",
        *(f"stepstream_{name}_total" for name in COUNTERS),
    }


def test_it_tells_of_five_hundred_functions_and_how_many_it_leaves_out() -> None:
    hour = HourTold(0, 0, 0, 0, None, None, [])
    made = [
        AtWork(f"f{n:03}", {"queued": n}, 0, True, None, "", 0, {}, None, (), hour) for n in range(MOST_FUNCTIONS + 3)
    ]
    seen = Looked(Overview(0, [], [], made), {}, [], [], None, None)

    class Nobody:
        stored = repeated = 0

    told = samples(generate_latest(Measures(seen, Nobody(), is_up=True)).decode())  # pyright: ignore[reportArgumentType]
    assert told["stepstream_functions", ()] == MOST_FUNCTIONS + 3
    assert told["stepstream_functions_left_out", ()] == 3
    assert sum(name == "stepstream_workers" for name, _ in told) == MOST_FUNCTIONS


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_promtool_finds_nothing_wrong_in_it(http: TestClient) -> None:
    assert promtool("check", "metrics", given=http.get("/metrics").text) == ""


def test_a_redis_that_answers_is_up_though_the_store_takes_too_long_to_read(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1,500 functions it took 2 s, and the alert said that Redis is down."""
    monkeypatch.setattr("stepstream.web.api.engine.metrics.READ_S", 0.0)
    told = samples(http.get("/metrics").text)
    assert told["stepstream_redis_up", ()] == 1
    assert told["stepstream_store_read", ()] == 0
    assert ("stepstream_functions", ()) not in told
