"""The table of the API: what is not in it is refused on every route, and what comes in is strict JSON on every route."""

import json
import re
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.web.routing import NeedsRoute
from stepstream.web.table.parameters import Fields

RUN = run_id("t-f", "event", "a|1-0", now_ms() // 86_400_000 * 86_400_000)
PARTS = {"id": RUN, "function": "t-f", "channel": "c", "key": "k", "name": "a", "slug": "t-f", "env": "e"}
OF_SDKS = ("/v0/", "/v1/realtime/", "/v1/checkpoint/", "/fn/", "/dev", "/e/", "/invoke/")
"""What SDKs call: they send more than we know of, and that stays so."""


def site_routes() -> list[NeedsRoute]:
    return [route for route in create_app(configured=Settings()).routes if isinstance(route, NeedsRoute)]


def path_of(route: NeedsRoute) -> str:
    """A path of a route: of the function and the run that there are."""
    parts = PARTS | ({"id": "t-f"} if "functions" in route.path else {})
    return re.sub(r"[{](\w+)(:path)?[}]", lambda part: parts.get(part[1], "x"), route.path)


def method_of(route: NeedsRoute) -> str:
    return next(iter((route.methods or set()) - {"HEAD"}))


def told_of(route: NeedsRoute) -> str:
    return f"{method_of(route)} {route.path}"


def is_of_page(route: NeedsRoute) -> bool:
    """Whether it is a page's: its buttons send forms."""
    return route.about is None and not route.path.startswith(("/v1/", *OF_SDKS))


ROUTES = site_routes()
OURS = [route for route in ROUTES if route.path.startswith("/v1/") and not route.path.startswith(OF_SDKS)]
NO_JSON = {
    "POST /v0/connect/start": "protobuf",
    "POST /v0/connect/flush": "protobuf",
    "POST /v1/realtime/publish": "JSON or text: what is not JSON is text",
    "POST /v1/realtime/publish/tee": "whatever bytes",
}
"""Routes of which the body is no JSON, or need not be, and what it is."""


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    """A function, and an ended run of it."""
    fields = {"bus": "t", "id": "f", "name": "t-f", "slug": "t-f", "on": ["a"], "events": ["a"], "retries": 4}
    store.hset(keys.functions(), "t-f", json.dumps({**fields, "code": "x"}))
    event = '{"id":"e","name":"a","data":{},"ts":1}'
    store.hset(keys.run("t-f", RUN), mapping={"status": "completed", "queued": "1", "turn": "1", "event": event})
    store.expire(keys.run("t-f", RUN), 60)
    store.zadd(keys.runs("t-f", "completed"), {RUN: 1})
    return store


@pytest.fixture
def http(settings: Settings, store: "redis.Redis") -> Generator[TestClient]:
    with TestClient(create_app(configured=settings), base_url="http://localhost") as client:
        yield client


def test_every_route_of_ours_says_what_it_takes_and_answers() -> None:
    assert [told_of(route) for route in OURS if route.about is None or route.about.query is None] == []


def test_a_parameter_that_nobody_knows_is_refused_by_its_name(http: TestClient) -> None:
    for route in OURS:
        assert route.about is not None
        known = [one.name for one in route.about.query or ()]
        for name in ("nobody_knows", *(f"{one}s" for one in known if f"{one}s" not in known)):
            answer = http.request(method_of(route), path_of(route), params={name: "1"})
            told = answer.json()
            assert (answer.status_code, told["code"]) == (400, "unknown_parameter"), (told_of(route), name)
            assert repr(name) in told["error"]
            assert (f"did you mean {name[:-1]}?" in told["error"]) is (name != "nobody_knows")
            assert all(one in told["error"] for one in known)


def test_what_is_not_there_and_what_a_path_does_not_take_is_told_in_one_form(http: TestClient) -> None:
    for route in OURS:
        other = http.request("PATCH", path_of(route))
        told = other.json()
        assert (other.status_code, told["code"], told["status"], told["data"]) == (405, "method", 405, None), told_of(
            route
        )
        assert method_of(route) in other.headers["allow"]
        if "{id" not in route.path:
            continue
        gone = http.request(method_of(route), re.sub(r"[{]\w+(:path)?[}]", "gone", route.path), json={})
        told = gone.json()
        assert (gone.status_code, told["status"], told["data"]) in {(404, 404, None), (400, 400, None)}, told_of(route)
        if gone.status_code == 404:
            assert told["code"].endswith("not_found"), told_of(route)
        else:  # its body is read first
            assert told["code"] in {"event_invalid", "bad_request"}, told_of(route)
            assert route.about is not None
            assert route.about.body is not None or route.about.query, told_of(route)


def test_a_parameter_that_is_given_twice_is_refused_where_one_counts(http: TestClient) -> None:
    answer = http.get("/v1/runs?limit=1&limit=2")
    assert (answer.status_code, answer.json()["error"]) == (
        400, "limit is given twice, the second time as '2'; give one",
    )  # fmt: skip
    assert http.get("/v1/runs?status=failed&status=completed").status_code == 200


def test_a_list_has_only_the_fields_that_are_asked_for(http: TestClient) -> None:
    assert http.get("/v1/runs?fields=id,status").json()["data"] == [{"id": RUN, "status": "completed"}]
    refused = http.get("/v1/runs?fields=id,statu")
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_field")
    assert "did you mean status? there are id, " in refused.json()["error"]


NOT_PAGED = {
    "/v1/runs/{id}/steps": "of one run, at most 1,000",
    "/v1/runs/{id}/attempts": "of one run, at most 20",
    "/v1/runs/{id}/log": "of one run, with `last`",
    "/v1/events/{id:path}/runs": "of one event, one of each function",
}
PAYLOADS = {"data", "output", "event", "what"}
NOT_LEFT_OUT = {("/v1/audit", "what"), ("/v1/runs/{id}/steps", "what"), ("/v1/events/{id:path}/runs", "output")}
"""What a step waits for is short; and users of the hosted service read an output from where they wait for it."""


def rows_of(route: NeedsRoute) -> Any:
    """The type of the rows of a list, or None: of a route that answers with something else."""
    assert route.about is not None
    kind = route.about.answer
    if kind is None or isinstance(kind, str) or method_of(route) != "GET":
        return None
    data = next((one.type for one in msgspec.inspect.type_info(kind).fields if one.name == "data"), None)  # type: ignore[union-attr]
    return data.item_type.cls if isinstance(data, msgspec.inspect.ListType) else None  # type: ignore[union-attr]


def test_every_list_is_paged_and_leaves_payloads_out(http: TestClient) -> None:
    lists = {route.path: (route, row) for route in OURS if (row := rows_of(route)) is not None}
    assert len(lists) >= 14
    for path, (route, row) in lists.items():
        assert route.about is not None
        takes = {one.name: one for one in route.about.query or ()}
        if path not in NOT_PAGED:
            assert {"limit", "cursor", "fields"} <= takes.keys(), path
        elif path == "/v1/runs/{id}/log":
            continue
        fields = takes["fields"]
        assert isinstance(fields, Fields), path
        assert fields.row is row
        heavy = {(path, name) for name in fields.known if name in PAYLOADS} - NOT_LEFT_OUT
        assert fields._payloads == {name for _, name in heavy}, path
        target = path_of(route)
        assert http.get(target, params={"fields": "nobody_knows"}).json()["code"] == "unknown_field", path
        for wrong in ("1e9", "-1", "0", "", "1000000000", "\u0661") if "limit" in takes else ():
            assert http.get(target, params={"limit": wrong}).status_code == 400, (path, wrong)
        for wrong in ("junk", "-", "||", "1|", "9" * 99, "\u0661|x", "\x00", "<script>") if "cursor" in takes else ():
            told = http.get(target, params={"cursor": wrong})
            if told.status_code != 200:  # a slug may be called so: then it is a place among them
                assert (told.status_code, "cursor" in told.json()["error"]) == (400, True), (path, wrong, told.text)


def test_an_error_is_listed_marked_and_paged(http: TestClient, store: "redis.Redis") -> None:
    for n in range(3):
        mark = f"{n}" * 12
        store.hset(keys.errors("t-f"), mapping={
            mark: json.dumps({"name": "ValueError", "frame": "a.py:f", "message": "no"}),
            f"{mark} last": 5, f"{mark} first": 1, f"{mark} count": 2, f"{mark} run": RUN,
        })  # fmt: skip
    store.expire(keys.errors("t-f"), 60)
    found, cursor = [], ""
    while cursor is not None:
        page = http.get("/v1/errors", params={"limit": 1, "fields": "fingerprint", "cursor": cursor}).json()
        found += [one["fingerprint"] for one in page["data"]]
        cursor = page["cursor"]
    assert found == ["0" * 12, "1" * 12, "2" * 12]
    marked = http.post(f"/v1/errors/{'1' * 12}", json={"function": "t-f", "state": "resolved"})
    assert marked.json()["data"] == {"function": "t-f", "fingerprint": "1" * 12, "state": "resolved", "until": 0}
    assert [one["fingerprint"] for one in http.get("/v1/errors?state=resolved").json()["data"]] == ["1" * 12]
    for wrong, status in (
        ({"function": "t-f", "state": "done"}, 400),
        ({"function": "t-f", "state": "open", "until": 5}, 400),
        ({"function": "nobody", "state": "open"}, 404),
    ):
        assert http.post(f"/v1/errors/{'1' * 12}", json=wrong).status_code == status
    gone = http.post("/v1/errors/nothing", json={"function": "t-f", "state": "muted"})
    assert (gone.status_code, gone.json()["code"]) == (404, "error_not_found")
    assert http.get("/v1/errors?state=done").status_code == http.get("/v1/errors?cursor=x").status_code == 400


def test_workers_are_listed_also_those_that_are_gone(http: TestClient, store: "redis.Redis") -> None:
    store.zadd(keys.workers(), {"w0": now_ms() - 60_000})
    store.hset(keys.worker("w0"), mapping={"host": "a", "held": json.dumps([])})
    store.expire(keys.worker("w0"), 60)
    listed = http.get("/v1/workers?fields=name,alive,host").json()["data"]
    assert listed == [{"name": "w0", "alive": False, "host": "a"}]


# -- strict JSON, on every route that takes any -----------------------------------------------------------------------

MALFORMED: dict[str, bytes] = {
    "60,000 levels": b"[" * 60_000,
    "8,000 levels of objects": b'{"data":' * 8_000,
    "levels that parse and break later": b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
    "NaN": b'{"data": {"a": NaN}}',
    "Infinity": b'{"data": {"a": Infinity}}',
    "-Infinity": b'{"data": {"a": -Infinity}}',
    "a number that is infinite": b'{"data": {"a": 1e999}}',
    "an integer of 5,000 digits": b'{"data": {"a": ' + b"9" * 5_000 + b"}}",
    "an integer of 4,000 digits": b'{"data": {"a": ' + b"9" * 4_000 + b"}}",
    "a key twice": b'{"data": {"a": 1, "a": 2}}',
    "a key twice, at the top": b'{"data": {}, "data": {}}',
    "no UTF-8": b'{"data": {"a": "\xff"}}',
    "UTF-16": '{"data": {}}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"data": {}}',
    "half of a surrogate pair": b'{"data": {"a": "\\ud800"}}',
    "what is no JSON": b'{"data": ',
    "a list of nothing known": b"[0]",
    "a text": b'"x"',
    "null": b"null",
}
TAKE_JSON = [
    route
    for route in ROUTES
    if method_of(route) in {"POST", "PUT"} and not is_of_page(route) and told_of(route) not in NO_JSON
    and (route.about is None or route.about.body is not None)
]  # fmt: skip


def test_no_route_that_takes_a_body_is_forgotten() -> None:
    assert {told_of(route) for route in TAKE_JSON} >= {
        "POST /e/{key}", "POST /invoke/{function:path}", "POST /v1/signals", "POST /v1/cancellations",
        "POST /v1/runs/{id}/rerun", "POST /fn/register", "POST /v0/gql", "POST /v1/realtime/token",
        "POST /v1/checkpoint/{id}/async",
    }  # fmt: skip
    assert NO_JSON.keys() <= {told_of(route) for route in ROUTES}


def test_what_a_later_reader_could_not_handle_is_refused(http: TestClient, store: "redis.Redis") -> None:
    for route in TAKE_JSON:
        before = {keys.audit(), *store.keys("*")}  # that somebody tried is written down
        for what, body in MALFORMED.items():
            answer = http.request(
                method_of(route), path_of(route), content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, (told_of(route), what, answer.text)
            told: dict[str, Any] = answer.json()
            assert told["error" if "error" in told else "errors"], (told_of(route), what)
        assert {keys.audit(), *store.keys("*")} == before


def test_a_body_is_refused_that_is_compressed_or_too_long(http: TestClient) -> None:
    for route in TAKE_JSON:
        method, path = method_of(route), path_of(route)
        packed = http.request(method, path, content=b"{}", headers={"content-encoding": "gzip"})
        assert packed.status_code == 415, told_of(route)
        long = http.request(method, path, content=b"", headers={"content-length": str(10**12)})
        assert long.status_code == 413, told_of(route)


ACT = [route for route in ROUTES if method_of(route) != "GET"]


def test_nothing_acts_by_get_or_for_a_foreign_page(http: TestClient, store: "redis.Redis") -> None:
    for route in ACT:
        before = sorted(store.keys("*"))
        path = path_of(route)
        gets = http.get(path, headers={"accept": "application/json"}, follow_redirects=False)
        shared = [one for one in ROUTES if method_of(one) == "GET" and one.path_regex.match(path)]
        if shared:
            assert gets.status_code < 500
        else:
            assert gets.status_code == 405, told_of(route)
            assert method_of(route) in gets.headers["allow"]
        foreign = http.request(method_of(route), path, content=b"{}", headers={"origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "origin"), told_of(route)
        assert sorted(store.keys("*")) == before


# -- OpenAPI ----------------------------------------------------------------------------------------------------------


def test_openapi_tells_of_every_route_of_ours(http: TestClient) -> None:
    told = http.get("/openapi.json").json()
    assert told["openapi"] == "3.1.0"
    for route in OURS:
        operation = told["paths"][route.path.replace(":path}", "}")][method_of(route).lower()]
        assert route.about is not None
        named = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        assert named == {one.name for one in route.about.query or ()}
        assert str(route.about.status) in operation["responses"]
    runs = told["paths"]["/v1/runs"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert runs["$ref"].rpartition("/")[2] in told["components"]["schemas"]
