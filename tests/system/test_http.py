"""HTTP: publishing with every bad body there is, reading, waiting, and the pages."""

import json
import socket
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from tests.patience import PATIENT_S
from tests.support import free_port


def publish(http: TestClient, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post("/e/key", content=content, headers=headers)


@pytest.mark.each_server
def test_one_event_or_a_list_is_published_and_the_ids_answered(http: TestClient, store: "redis.Redis") -> None:
    one = publish(http, {"name": "a", "data": {"n": 1}})
    several = publish(http, [{"name": "a", "id": "mine", "ts": 1700000000123, "v": "2"}, {"name": "b", "data": None}])
    assert (one.status_code, one.json()["status"], len(one.json()["ids"])) == (200, 200, 1)
    assert several.json()["ids"][0] == "mine"
    entries = [fields for _, fields in store.xrange(keys.events("a"))]
    assert entries[0] == {"id": one.json()["ids"][0], "name": "a", "data": '{"n": 1}'}
    assert entries[1] == {"id": "mine", "name": "a", "data": "{}", "ts": "1700000000123", "v": "2"}
    assert store.xlen(keys.events("b")) == 1
    assert set(store.zrange(keys.event_names(), 0, -1)) == {"a", "b"}


def test_an_id_published_twice_is_stored_once_and_told(http: TestClient, store: "redis.Redis") -> None:
    first = publish(http, {"name": "a", "id": "x"}).json()
    second = publish(http, {"name": "a", "id": "x", "data": {"other": 1}}).json()
    assert first == {"ids": ["x"], "status": 200, "functions": 0, "nobody_listens_to": ["a"]}
    assert second == {**first, "duplicate": True}
    assert store.xlen(keys.events("a")) == 1


@pytest.mark.parametrize(("set_to", "within"), [("0.3", 8.0), (None, 9.0)])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_server_that_never_answers_costs_who_posts_no_longer_than_bus_timeout(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, within: float, *, loaded: bool
) -> None:
    """It took 10 s: the look at the types waited for a command's timeout, and the look at the registry for another."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        monkeypatch.setenv("BUS_REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        monkeypatch.delenv("BUS_TIMEOUT", raising=False)
        if set_to is not None:
            monkeypatch.setenv("BUS_TIMEOUT", set_to)
        app = Bus("shop")

        @app.function("ship", on="a")
        async def ship(ctx: Any, step: Any) -> None:
            return None

        with TestClient(create_app(*([app] if loaded else []))) as http:
            began = time.monotonic()
            answer = publish(http, {"name": "a"})
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert time.monotonic() - began < within


def test_plain_curl_works_though_it_says_it_is_a_form(http: TestClient) -> None:
    answer = publish(http, {"name": "a"}, **{"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 200


def test_a_misspelt_field_of_an_event_is_not_swallowed(http: TestClient) -> None:
    refused = publish(http, [{"name": "a"}, {"name": "a", "dta": 1}])
    assert (refused.status_code, refused.json()["field"], refused.json()["event"]) == (400, "dta", 1)
    assert "dta: is no field of an event; did you mean data?" in refused.json()["error"]
    of_others = {"name": "a", "data": {}, "id": "i", "ts": 1700000000123, "v": "1", "user": {}, "meta": {}}
    assert publish(http, of_others).status_code == 200


def test_an_unknown_function_with_a_wrong_body_is_unknown(http: TestClient) -> None:
    for body in (b"{}", b'{"dta": 1}', b"nonsense"):
        answer = http.post("/invoke/nobody", content=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "function_not_found")


def test_data_is_stored_byte_by_byte(http: TestClient, store: "redis.Redis") -> None:
    data = '{"big":12345678901234567890,"e":[],"f":1.0,"u":"\\u20ac€","z":"\\u0000","__proto__":1,"sp" : 1}'
    assert publish(http, f'{{"name":"a","data":{data}}}'.encode()).status_code == 200
    assert store.xrange(keys.events("a"))[0][1]["data"] == data


BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "empty"),
    ("blank", b"  \n", 400, "empty"),
    ("null", b"null", 400, "null"),
    ("empty list", b"[]", 400, "empty"),
    ("text", b'"x"', 400, "text"),
    ("number", b"0", 400, "number"),
    ("garbage", b"{oops", 400, "not JSON"),
    ("trailing", b'{"name":"a"} x', 400, "not JSON"),
    ("deep", b'{"name":"a","data":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, "deeper than 64"),
    ("depth 900", b'{"name":"a","data":{"x":' + b"[" * 900 + b"]" * 900 + b"}}", 400, "deeper than 64"),
    ("NaN", b'{"name":"a","data":{"x":NaN}}', 400, "NaN"),
    ("Infinity", b'{"name":"a","data":{"x":-Infinity}}', 400, "Infinity"),
    ("1e999", b'{"name":"a","data":{"x":1e999}}', 400, "too big"),
    ("5,000 digits", b'{"name":"a","data":{"x":' + b"1" * 5_000 + b"}}", 400, "more than 64 digits"),
    ("more than 64 digits", b'{"name":"a","data":{"x":' + b"1" * 65 + b"}}", 400, "more than 64 digits"),
    ("duplicate keys", b'{"name":"a","data":{"x":1,"x":2}}', 400, "twice"),
    ("invalid UTF-8", b'{"name":"a\xff"}', 400, "not UTF-8"),
    ("UTF-16", '{"name":"a"}'.encode("utf-16"), 400, "not UTF-8"),
    ("byte order mark", b'\xef\xbb\xbf{"name":"a"}', 400, "byte order mark"),
    ("lone surrogate", b'{"name":"a","data":{"x":"\\ud800"}}', 400, "surrogate"),
    ("NUL in the name", b'{"name":"a\\u0000"}', 400, "name"),
    ("NUL in the id", b'{"name":"a","id":"a\\u0000"}', 400, "id"),
    ("no name", b'{"data":{}}', 400, "name"),
    ("empty name", b'{"name":""}', 400, "name"),
    ("a number for a name", b'{"name":7}', 400, "name"),
    ("a long name", b'{"name":"' + b"a" * 513 + b'"}', 400, "name"),
    ("a reserved name", b'{"name":"inngest/x"}', 400, "reserved"),
    ("a reserved name of ours", b'{"name":"Bus/x"}', 400, "reserved"),
    ("a list for data", b'{"name":"a","data":[1]}', 400, "data"),
    ("text for data", b'{"name":"a","data":"x"}', 400, "data"),
    ("a long id", b'{"name":"a","id":"' + b"x" * 257 + b'"}', 400, "id"),
    ("an empty id", b'{"name":"a","id":""}', 400, "id"),
    ("a number for an id", b'{"name":"a","id":1}', 400, "id"),
    ("text for ts", b'{"name":"a","ts":"1700000000000"}', 400, "ts"),
    ("a float for ts", b'{"name":"a","ts":1700000000000.5}', 400, "ts"),
    ("a negative ts", b'{"name":"a","ts":-1}', 400, "ts"),
    ("ts before 1980", b'{"name":"a","ts":1}', 400, "ts"),
    ("ts far away", b'{"name":"a","ts":1000000000000000000}', 400, "ts"),
    ("true for ts", b'{"name":"a","ts":true}', 400, "ts"),
    ("a number for v", b'{"name":"a","v":1}', 400, "v"),
    ("too many events", b"[" + b",".join([b'{"name":"a"}'] * 5_001) + b"]", 413, "5001 events"),
    ("a big event", b'{"name":"a","data":{"x":"' + b"y" * (3 * 1024 * 1024) + b'"}}', 413, "data"),
    ("a big body", b'{"name":"a","data":{"x":"' + b"y" * (16 * 1024 * 1024) + b'"}}', 413, "16777216"),
]


@pytest.mark.parametrize(
    ("body", "status", "told"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES]
)
def test_a_bad_body_is_refused_with_the_reason_and_nothing_is_stored(
    http: TestClient, store: "redis.Redis", body: bytes, status: int, told: str
) -> None:
    answer = publish(http, body)
    assert answer.status_code == status
    assert answer.json()["ids"] == []
    assert told in answer.json()["error"]
    assert store.keys() == []


def test_one_bad_event_among_good_ones_stores_none_and_names_its_place_and_field(
    http: TestClient, store: "redis.Redis"
) -> None:
    answer = publish(http, [{"name": "a"}, {"name": "b", "data": 3}, {"name": "c"}])
    assert answer.status_code == 400
    told = answer.json()
    assert (told["ids"], told["event"], told["field"]) == ([], 1, "data")
    assert "event 1" in told["error"]
    assert store.keys() == []


@pytest.mark.parametrize("body", [b"{oops", b'[{"name": "a"}', b"[]", b' {"name": "a",}', b"{'name': 'a'}"])
def test_broken_json_from_plain_curl_is_told_as_such_with_its_field(http: TestClient, body: bytes) -> None:
    answer = publish(http, body, **{"content-type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, answer.json()["field"]) == (400, "body")
    assert "not JSON" in answer.json()["error"] or body == b"[]"


def test_a_body_without_end_is_cut_off_at_the_limit(http: TestClient, store: "redis.Redis") -> None:
    sent: list[int] = []

    def endless() -> Generator[bytes]:
        for _ in range(40):
            sent.append(1)
            yield b" " * 1024 * 1024

    assert http.post("/e/key", content=endless()).status_code == 413
    assert store.keys() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 400),
        ({"content-type": "multipart/form-data; boundary=x"}, 400),
        ({"content-encoding": "gzip"}, 415),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
    ],
)
def test_what_is_no_form_packed_bodies_and_foreign_pages_are_refused(
    http: TestClient, store: "redis.Redis", headers: dict[str, str], status: int
) -> None:
    assert publish(http, b"name=a&x=1", **headers).status_code == status
    assert store.keys() == []


def test_a_configured_key_must_be_given_exactly(settings: Settings, store: "redis.Redis") -> None:
    import msgspec

    keyed = msgspec.structs.replace(settings, event_keys=("s3cret",))
    with TestClient(create_app(configured=keyed)) as http:
        assert http.post("/e/s3cret", json={"name": "a"}).status_code == 200
        for wrong in ("s3creT", "s3cret%20", "é", "x"):
            assert http.post(f"/e/{wrong}", json={"name": "b"}).status_code == 401
    assert store.keys("bus:events:{b}*") == []


def test_only_post_publishes(http: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE"):
        assert http.request(method, "/e/key").status_code == 405


def test_a_store_that_is_away_is_told_and_ready_says_no() -> None:
    away = Settings(redis_url=f"redis://127.0.0.1:{free_port()}", timeout_ms=300)
    with TestClient(create_app(configured=away)) as http:
        answer = publish(http, {"name": "a"})
        assert (answer.status_code, answer.json()["ids"]) == (503, [])
        assert answer.headers["retry-after"] == "1"
        assert http.get("/health").status_code == 200
        assert http.get("/ready").status_code == 503
        assert http.get("/", headers={"accept": "text/html"}).status_code == 503


def test_a_run_that_nobody_started_yet_is_queued(http: TestClient, store: "redis.Redis") -> None:
    declared = {
        "bus": "t",
        "id": "f",
        "name": "f",
        "slug": "t-f",
        "on": ["a"],
        "events": ["a"],
        "retries": 4,
        "code": "x",
    }
    store.hset(keys.functions(), "t-f", json.dumps(declared))
    publish(http, {"name": "a"})
    entry = store.xrange(keys.events("a"))[0][0]
    run = run_id("t-f", "event", f"a|{entry}", int(entry.partition("-")[0]))
    assert http.get(f"/v1/runs/{run}").json()["data"]["status"] == "queued"
    assert http.get(f"/v1/runs/{run}?wait=0.05").json()["data"]["status"] == "queued"
    assert http.get("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV").status_code == 404
    assert http.get("/v1/runs/nonsense").status_code == 404


def test_reading_refuses_what_makes_no_sense(http: TestClient) -> None:
    for query in ("limit=0", "limit=1e9", "limit=-1", "limit=x", "cursor=junk", "status=asleep", "since=-1"):
        assert http.get(f"/v1/runs?{query}").status_code == 400, query
    assert http.get("/v1/runs?function=nope").status_code == 404
    assert http.get("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV?wait=soon").status_code == 400


class TestWithRuns:
    @pytest.fixture(autouse=True)
    def runs(self, settings: Settings, store: "redis.Redis") -> Generator[None]:
        """A worker in a thread of its own, and three runs: one completed, one failed, one waiting."""
        import asyncio

        from stepstream import Worker
        from stepstream.consumers.worker import running

        ended = threading.Event()
        begun = threading.Event()
        app = Bus("t")

        @app.function("f", on="a")
        async def f(ctx, step):
            await step.run("first", lambda: {"html": "<b>bold</b>"})
            if ctx.event.data.get("fail"):
                from stepstream import NonRetriable

                raise NonRetriable("<script>alert(1)</script>")
            if ctx.event.data.get("wait"):
                await step.sleep("nap", "1h")
            return {"big": "x" * ctx.event.data.get("size", 1)}

        async def work() -> None:
            async with running(Worker(app, settings=settings)):
                begun.set()
                while not ended.is_set():
                    await asyncio.sleep(0.01)

        thread = threading.Thread(target=lambda: asyncio.run(work()))
        thread.start()
        assert begun.wait(PATIENT_S)
        yield
        ended.set()
        thread.join(PATIENT_S)

    def wait(self, http: TestClient, count: int) -> list[dict[str, Any]]:
        import time

        until = time.monotonic() + PATIENT_S
        while True:
            found = http.get("/v1/runs").json()["data"]
            if len(found) == count and not any(run["status"] in {"running", "queued"} for run in found):
                return found
            assert time.monotonic() < until, found
            time.sleep(0.02)

    def test_runs_are_listed_paged_filtered_and_waited_for(self, http: TestClient) -> None:
        publish(http, [{"name": "a"} for _ in range(7)])
        every = self.wait(http, 7)
        assert [run["id"] for run in every] == sorted((run["id"] for run in every), reverse=True) or len(every) == 7
        seen: list[str] = []
        cursor = ""
        for _ in range(10):
            page = http.get(f"/v1/runs?limit=3{cursor}").json()
            seen += [run["id"] for run in page["data"]]
            if page["cursor"] is None:
                break
            cursor = f"&cursor={page['cursor']}"
        assert sorted(seen) == sorted(run["id"] for run in every)
        assert http.get("/v1/runs?status=failed").json()["data"] == []
        assert len(http.get("/v1/runs?status=completed&function=t-f").json()["data"]) == 7
        assert http.get(f"/v1/runs?since={every[0]['queued'] + 1}").json()["data"] == []
        one = http.get(f"/v1/runs/{every[0]['id']}?wait=30s").json()["data"]
        assert one["output"] == {"big": "x"}
        steps = http.get(f"/v1/runs/{every[0]['id']}/steps").json()["data"]
        assert [step["id"] for step in steps] == ["first"]
        row = http.get("/v1/functions").json()["data"][0]
        assert (row["slug"], row["runs"]["completed"]) == ("t-f", 7)

    def test_pages_show_runs_and_escape_everything(self, http: TestClient) -> None:
        publish(
            http,
            [
                {"name": "a", "data": {"fail": 1, "x": "</script><img src=x onerror=alert(1)>"}},
                {"name": "a", "data": {"wait": 1}},
            ],
        )
        rows = {run["status"]: run for run in self.wait(http, 2)}
        front = http.get("/runs")
        assert "Latest runs" in front.text
        assert front.headers["content-security-policy"].startswith("default-src 'self'")
        failed = http.get(f"/runs/{rows['failed']['id']}").text
        assert "&lt;script&gt;alert(1)" in failed
        assert "<script>alert" not in failed
        assert "<img" not in failed
        waiting = http.get(f"/runs/{rows['waiting']['id']}").text
        assert f'data-topic="run:{rows["waiting"]["id"]}:' in waiting
        assert "due in 59 min" in waiting or "due in 1 h" in waiting
        assert http.get("/runs/nope", headers={"accept": "text/html"}).status_code == 404

    def test_a_huge_payload_is_cut_with_its_size(self, http: TestClient) -> None:
        publish(http, {"name": "a", "data": {"size": 1024 * 1024}})
        run = self.wait(http, 1)[0]
        page = http.get(f"/runs/{run['id']}").text
        assert len(page) < 100_000
        assert "1,048,586 bytes; the first 16,384 characters are shown" in page


def test_pages_without_anything_say_what_to_do(http: TestClient) -> None:
    assert "No function is registered yet" in http.get("/").text
    assert "Nothing has run yet" in http.get("/runs").text
