"""Every JSON that comes in by HTTP passes one validator, and what was stored otherwise breaks no page and no list."""

import json
import time
from collections.abc import Callable, Generator

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.checkpoint.read.lists.runs import list_runs
from tests.support import Lab

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
DEEP = "[" * 965 + "]" * 965
FUNCTION = {
    "bus": "t", "id": "f", "name": "f", "slug": "t-f", "on": ["a"], "events": ["a"], "retries": 4, "code": "x",
}  # fmt: skip


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    """A function, and an ended run of it."""
    store.hset(keys.functions(), "t-f", json.dumps(FUNCTION))
    put(store, RUN, '{"id":"e","name":"a","data":{},"ts":1}', "1")
    return store


def put(client: "redis.Redis", run: str, event: str, output: str, **more: str) -> None:
    fields = {"status": "completed", "queued": "1", "ended": "2", "event": event, "output": output, **more}
    client.hset(keys.run("t-f", run), mapping=fields)
    client.expire(keys.run("t-f", run), 60)
    client.zadd(keys.runs("t-f", "completed"), {run: 1})


ROUTES: dict[str, tuple[str, Callable[[str], str]]] = {
    "an event": ("/e/key", lambda data: f'{{"name":"a","data":{{"x":{data}}}}}'),
    "one of several events": ("/e/key", lambda data: f'[{{"name":"b"}},{{"name":"a","data":{{"x":{data}}}}}]'),
    "a call": ("/invoke/t-f", lambda data: f'{{"data":{{"x":{data}}}}}'),
    "a signal": ("/v1/signals", lambda data: f'{{"signal":"s","data":{{"x":{data}}}}}'),
    "a rerun": (f"/v1/runs/{RUN}/rerun", lambda data: f'{{"from":"","request":{data}}}'),
}
BAD = {
    "deep": (DEEP, 400, "deeper than 64"),
    "very deep": ("[" * 60_000, 400, "deeper than 64"),
    "a key twice": ('{"n":1,"m":2,"\\u006e":3}', 400, "key 'n' twice"),
    "NaN": ("NaN", 400, "NaN"),
    "too big": ("-1e999", 400, "too big"),
    "many digits": ("1" * 5_000, 400, "more than 64 digits"),
    "half a pair": ('"\\udc00"', 400, "surrogate"),
    "no JSON": ("{oops}", 400, "not JSON"),
    "an unterminated string of quotes": ('"' + '\\"' * 16_000, 400, "not JSON"),
    "over 3 MiB": (f'"{"y" * (3 * 1024 * 1024)}"', 413, ""),
    "over 16 MiB": (f'"{"y" * (16 * 1024 * 1024)}"', 413, "at most"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "around"), ROUTES.values(), ids=ROUTES.keys())
def test_what_one_route_refuses_every_route_refuses(
    http: TestClient, store: "redis.Redis", path: str, around: Callable[[str], str]
) -> None:
    before = set(store.keys())
    for name, (data, status, told) in BAD.items():
        began = time.process_time()
        answer = http.post(path, content=around(data).encode())
        assert (answer.status_code, told in answer.json()["error"]) == (status, True), (name, answer.text[:300])
        assert time.process_time() - began < 2, name
    assert set(store.keys()) - {keys.audit()} == before, "nothing but that it was asked for"


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/invoke/t-f", "[1]", "Expected `object`, got `array`"),
        ("/invoke/t-f", '{"data":[1]}', "data: must be an object"),
        ("/invoke/t-f", '{"data":null}', "data: must be an object"),
        ("/v1/signals", '{"signal":7}', "signal: Expected `str`, got `int`"),
        ("/v1/signals", "{}", "signal: is missing"),
        ("/v1/signals", '{"signal":""}', "signal: must be 1 to 256 printable characters"),
        (f"/v1/runs/{RUN}/rerun", '{"form":""}', "unknown field `form`"),
        (f"/v1/runs/{RUN}/rerun", '{"from":null}', "from: Expected `str`, got `null`"),
    ],
)
def test_a_body_of_the_wrong_shape_is_told_with_its_field(
    http: TestClient, store: "redis.Redis", path: str, body: str, told: str
) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]


def test_data_of_a_call_arrives_byte_by_byte(http: TestClient, store: "redis.Redis") -> None:
    data = '{"big":123456789012345678901234567890,"e":[],"f":1.0,"u":"\\u20ac€","sp" : 1}'
    assert http.post("/invoke/t-f", content=f'{{"data":{data}}}').status_code == 200
    queued = store.xrange(keys.queue("t-f"))[0][1]["event"]
    assert f'"data":{data}' in queued


def test_a_wrong_key_is_told_before_the_body_is_looked_at(settings: Settings) -> None:
    read: list[int] = []

    def body() -> Generator[bytes]:
        for _ in range(16):
            read.append(1)
            yield b'"\\"' * 300_000

    keyed = msgspec.structs.replace(settings, event_keys=("s3cret",))
    with TestClient(create_app(configured=keyed)) as http:
        began = time.process_time()
        assert http.post("/e/wrong", content=b'"' + b'\\"' * 8_000_000).status_code == 401
        assert time.process_time() - began < 1


def test_what_was_stored_and_is_too_deep_breaks_no_list_and_no_page(http: TestClient, store: "redis.Redis") -> None:
    deep = "[" * 50_000 + "]" * 50_000
    for n, value in enumerate((DEEP, deep, "no JSON at all", '"\\ud800"', "NaN")):
        run = run_id("t-f", "test", str(n), n + 10)
        put(store, run, f'{{"id":"e","name":"a","data":{value},"ts":1}}', value, progress=value)
        memo = f'{{"n":1,"kind":"run","attempts":1,"started":1,"ended":2,"data":{value}}}'
        store.hset(keys.steps("t-f", run), "s", memo)
        store.expire(keys.steps("t-f", run), 60)
        for path in ("/v1/runs", "/", "/functions/t-f", f"/v1/runs/{run}", f"/runs/{run}", f"/v1/runs/{run}/steps"):
            answer = http.get(path)
            assert answer.status_code == 200, (path, value[:20], answer.text[:300])
        page = http.get(f"/runs/{run}").text
        assert value[:20].strip('"\\') in page
        assert http.post(f"/v1/runs/{run}/rerun").status_code in (200, 400)


async def test_an_event_that_was_sent_too_deep_fails_its_run_and_harms_no_other(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return len(ctx.event.data)

    @lab.app.function("g", on="b")
    async def g(ctx, step):
        return await step.wait_for_event("next", "a", if_="async.data.n == 1", timeout="1h") is not None

    await lab.work()
    await lab.send("b")
    waiting = await lab.first("test-g")
    await lab.status(waiting, "waiting")
    entry = await lab.wire.call(
        "XADD", keys.events("a"), "*", "name", "a", "data", f'{{"x":{"[" * 5_000}{"]" * 5_000}}}'
    )
    deep = run_id("test-f", "event", f"a|{entry.decode()}", int(entry.decode().partition("-")[0]))
    failed = await lab.status(deep, "failed")
    assert failed.error is not None
    assert (failed.error.name, "too deep" in failed.error.message) == ("event_invalid", True)
    await lab.send("a", {"n": 1})
    await lab.status(waiting, "completed")
    assert len((await list_runs(lab.wire, ["test-f", "test-g"])).runs) == 3
