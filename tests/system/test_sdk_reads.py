"""What the official SDKs and their users send and read here: events under a seed, runs of events, GraphQL."""

import base64
import json
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys

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
