"""The pages of limits, workers and the system: what they show of a store that the test writes; no worker runs."""

import json
import re
from collections.abc import Generator

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from tests.support import fields
from tests.system.test_commands import bus

_LEASE = 3_600_000
ODD = 'c<b>"4"</b>\nnext\u202e'
STORED = "c%3Cb%3E%224%22%3C/b%3E%0Anext%E2%80%AE"


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=msgspec.structs.replace(settings, lease_ms=_LEASE))) as client:
        yield client


def declare(store: "redis.Redis", slug: str, *flow: str) -> None:
    store.hset(keys.functions(), slug, codec.encode(Registered("t", slug, slug, slug, ("a",), ("a",), 4, "code", flow)))


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<main")[2]))


def test_a_limit_says_for_each_key_who_holds_its_places_and_who_waits(http: TestClient, store: "redis.Redis") -> None:
    declare(store, "t-f", "2 at a time per event.data.who", "5 starts in 1m", "batches of 9, within 1h")
    declare(store, "t-free")
    first, second, alone, line = (ulid() for _ in range(4))
    for run, key in ((first, STORED), (second, STORED), (alone, "=7")):
        store.zadd(keys.places("t-f", f"c0:{key}"), {run: now_ms()})
        store.zadd(keys.runs("t-f", "running"), {run: now_ms()})
        store.hset(keys.run("t-f", run), mapping={"status": "running", "holds": f"c0:{key}\nt:"})
    store.zadd(keys.backlog("t-f", f"c0:{STORED}"), {line: now_ms()})
    store.zadd(keys.full("t-f"), {f"c0:{STORED}": now_ms()})
    store.zadd(keys.backlog("t-f", "t:"), {ulid(): now_ms()})
    store.zadd(keys.ready("t-f"), {"t:": now_ms()})
    store.zadd(keys.timers("t-f"), {"limit|t:": now_ms() + 3_600_000, "buffer|b:x": now_ms() + 60_000})
    store.hset(keys.buffered("t-f"), ulid(), "b:x")
    store.hset(keys.buffer("t-f", "b:x"), "n", 3)
    page = http.get("/limits").text
    assert "c&lt;b&gt;" in page
    assert "<b>" not in page
    told = words(page)
    assert "2 of 2 full 1" in told, "both places are taken, one waits"
    assert "1 of 2 0" in told, "a key of which nobody waits is there too"
    assert all(f"/runs/{run}" in page for run in (first, second, alone, line))
    assert "the next in 59 min" in told or "the next in 1 h" in told
    assert "a batch of 3 for x" in told
    assert "t-free" not in told
    assert "t-f" in words(http.get("/limits?function=t-f").text)
    assert "No function has a limit" in words(http.get("/limits?function=t-free").text)


def test_what_the_page_of_the_system_tells_the_api_tells_too_without_secrets(settings: Settings) -> None:
    token = "t" * 32
    keyed = msgspec.structs.replace(settings, api_tokens=(token, "r" * 32))
    with TestClient(create_app(configured=keyed), headers={"authorization": f"Bearer {token}"}) as http:
        told = http.get("/v1/system")
        data, whole = told.json()["data"], http.post("/v1/system/examine").json()["data"]
    assert token not in told.text
    assert (data["settings"]["BUS_API_TOKENS"], data["is_whole"], whole["is_whole"]) == ("2 tokens", False, True)
    assert data["server"]["used"] > 0
    checked = [{one["check"] for one in each["findings"]} for each in (data, whole)]
    assert checked[0] < checked[1]
    assert "memory" in checked[1]


def test_settings_and_memory_are_told_in_the_terminal_without_secrets(url: str) -> None:
    told = bus("doctor", "--settings", url=url, BUS_SIGNING_KEY="signkey-test-" + "5" * 64)
    assert re.search(r"BUS_SIGNING_KEY +set", told)
    assert "5" * 64 not in told
    as_json = json.loads(bus("doctor", "--settings", "--json", url=url))
    assert as_json["settings"]["BUS_PREFIX"] == "bus"
    assert as_json["server"]["used"] > 0


def test_what_a_dead_worker_held_is_there_for_a_day(http: TestClient, store: "redis.Redis") -> None:
    now, run = now_ms(), ulid()
    held = codec.encode([{"function": "t-f", "run": run, "step": ODD, "since": now - 60_000}])
    for name, ends in (("alive", now + _LEASE), ("dead", now - 600_000)):
        store.zadd(keys.workers(), {name: ends})
        about = {"host": ODD, "pid": 7, "version": "0.1", "slots": 20, "since": now - 900_000, "seen": now - 1_000}
        more = {"functions": codec.encode({"t-f": "c0de"}), "in_hand": 1, "held": held, "draining": 1}
        store.hset(keys.worker(name), mapping={**about, **more})
    store.zadd(keys.workers(), {"old": now + _LEASE})
    page = http.get("/workers").text
    assert "<b>" not in page
    assert f"/runs/{run}" in page
    living, _, gone = words(page).partition("Gone within the last day")
    assert "draining alive" in living
    assert "of an earlier version" in living
    assert "of 20 slots" in living
    assert "gone dead" in gone
    assert "t-f at c&lt;b" in gone


def test_the_system_is_shown_live_and_is_examined_by_a_button(http: TestClient, store: "redis.Redis") -> None:
    declare(store, "t-f")
    store.zadd(keys.event_names(), {"order/<b>": 1, "gone": 2})
    for n in range(3):
        store.xadd(keys.events("order/<b>"), {"data": str(n)})
    store.xgroup_create(keys.events("order/<b>"), "t-f", "0")
    store.xreadgroup("t-f", "w", {keys.events("order/<b>"): ">"}, count=1)
    page = http.get("/system").text
    told = words(page)
    assert "<b>" not in page
    assert "t-f: 2 unread, 1 in hand" in told
    assert "BUS_REDIS_URL" in told
    assert "MiB" in told
    assert "all that workers need" not in told
    before = {keys.audit(), *store.keys()}
    whole = http.post("/system/examine", data=fields(page))
    assert whole.status_code == 200
    assert "all that workers need" in words(whole.text)
    assert 'data-topic=""' in whole.text, "what a button asked for is not taken again by itself"
    assert {*store.keys()} == before
    assert http.post("/system/examine", data={"token": "x"}).status_code == 403
    assert http.get("/system/examine").status_code == 405


def test_streams_are_told_page_by_page_with_who_reads_them(http: TestClient, store: "redis.Redis") -> None:
    """Queues, then events that somebody hears, then the others; declared ones that nobody has sent are left out."""
    declare(store, "t-f")
    declare(store, "t-idle")
    for stream in (keys.queue("t-f"), keys.events("a"), keys.events("heard-by-none")):
        store.xadd(stream, {"data": "{}"}, id="5-0")
    for stream in (keys.queue("t-f"), keys.events("a")):
        store.xgroup_create(stream, "t-f", "0")
    store.zadd(keys.event_names(), {"a": 1, "heard-by-none": 2})
    found, cursor = [], ""
    while cursor is not None:
        page = http.get("/v1/streams", params={"limit": 1, "cursor": cursor}).json()
        found += page["data"]
        cursor = page["cursor"]
    reader = {"function": "t-f", "unread": 1, "in_hand": 0}
    told = {"entries": 1, "oldest": 5, "newest": 5, "waits": 0}
    assert found == [
        {"kind": "queue", "name": "t-f", **told, "readers": [reader]},
        {"kind": "events", "name": "a", **told, "readers": [reader]},
        {"kind": "events", "name": "heard-by-none", **told, "readers": []},
    ]
    assert http.get("/v1/streams", params={"cursor": "what:a"}).status_code == 400


def test_settings_are_shown_without_the_secrets() -> None:
    secret = "0123456789abcdef-secret"
    configured = Settings(
        redis_url=f"redis://me:{secret}@127.0.0.1:6379/0", api_tokens=(secret,), event_keys=(secret,),
        signing_key="signkey-test-" + "0123456789abcdef" * 2, allow_hosts=("a.example", "b.example"), lease_ms=90_000,
    )  # fmt: skip
    shown = dict(configured.shown())
    assert secret not in str(shown)
    assert "0123456789abcdef" not in str(shown)
    assert (shown["BUS_LEASE"], shown["BUS_ALLOW_HOSTS"]) == ("1 min 30 s", "a.example, b.example")
    assert (shown["BUS_SIGNING_KEY"], shown["BUS_API_TOKENS"]) == ("set", "1 tokens")


def test_where_there_is_nothing_the_next_command_is_told(http: TestClient) -> None:
    assert "concurrency=2" in http.get("/limits").text
    assert "bus worker" in http.get("/workers").text
    assert "bus send" in http.get("/system").text
    for path in ("/limits", "/workers", "/system"):
        assert f'href="{path}"' in http.get("/").text, "in the top bar"


def test_pages_are_taken_in_parts_of_a_bounded_size(http: TestClient, store: "redis.Redis") -> None:
    for n in range(51):
        declare(store, f"t-{n:02}", "1 at a time")
    page = http.get("/limits").text
    assert 'href="/limits?after=t-49"' in page
    assert "t-50" in words(http.get("/limits?after=t-49").text)
