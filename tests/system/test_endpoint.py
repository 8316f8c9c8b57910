"""The endpoint of an application: what it has, what is registered of it, and registering the rest."""

import json
from collections.abc import Generator
from typing import cast

import pytest
import redis
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from stepstream import Bus, Concurrency, ConfigError, Context, Cron, Function, FunctionFailed, Step, mount, serve
from stepstream.bus.wire import keys
from stepstream.web.endpoint import Endpoint

pytestmark = pytest.mark.usefixtures("in_environment")
PATH = "/api/inngest"


def shop(bus: str = "shop", retries: int = 3) -> tuple[Bus, list[Function]]:
    app = Bus(bus)

    async def refund(ctx: Context[FunctionFailed], step: Step) -> None: ...

    @app.function("ship", on=["order/paid", Cron("0 4 * * *", tz="Europe/Paris")], retries=retries, on_failure=refund)
    async def ship(ctx: Context[dict], step: Step) -> None: ...

    @app.function("score", on="order/paid", concurrency=Concurrency(2), name="Scores orders")
    async def score(ctx: Context[dict], step: Step) -> None: ...

    @app.function("internal", on="order/lost")
    async def internal(ctx: Context[dict], step: Step) -> None: ...

    return app, [ship, score]


def client(endpoint: Endpoint, *, path: str = PATH) -> Generator[TestClient]:
    host = Starlette()
    mount(host, path, endpoint)
    with TestClient(host, base_url="http://localhost", follow_redirects=False) as http:
        yield http


@pytest.fixture
def http() -> Generator[TestClient]:
    app, functions = shop()
    yield from client(serve(app, functions=functions))


def registered(http: TestClient) -> dict[str, str]:
    return {one["slug"]: one["registered"] for one in http.get(PATH).json()["functions"]}


def test_get_tells_a_person_what_there_is_and_what_is_registered(http: TestClient) -> None:
    answer = http.get(PATH)
    assert answer.text.startswith('{\n  "app": "shop",\n  "functions": [\n')
    told = answer.json()
    assert told["functions"][0] == {
        "slug": "shop-ship", "name": "ship", "on": ["order/paid", "cron 0 4 * * * Europe/Paris"], "retries": 3,
        "limits": [], "registered": "no",
    }  # fmt: skip
    assert [one["slug"] for one in told["functions"]] == ["shop-ship", "shop-score", "shop-ship-failure"]
    assert told["functions"][1]["limits"] == ["2 at a time"]
    assert (told["workers"], told["redis"].startswith("redis://stepstream:***@127.0.0.1")) == (0, True)


def test_put_registers_what_is_not_there_so_that_no_event_is_lost_and_a_second_one_changes_nothing(
    http: TestClient, store: "redis.Redis"
) -> None:
    first = http.put(PATH).json()
    assert (first["message"], first["modified"]) == ("3 registered, 0 had been before", True)
    assert set(registered(http).values()) == {"yes"}
    assert set(store.hkeys(keys.functions())) == {"shop-ship", "shop-score", "shop-ship-failure"}
    groups = {group["name"] for group in store.xinfo_groups(keys.events("order/paid"))}
    assert groups == {"shop-ship", "shop-score"}, "events wait for them from now on"
    before = store.hgetall(keys.functions())
    second = http.put(f"{PATH}/").json()
    assert (second["message"], second["modified"]) == ("0 registered, 3 had been before", False)
    assert store.hgetall(keys.functions()) == before
    store.flushall()
    assert http.put(PATH).json()["modified"], "what was wiped is registered again"


def test_put_replaces_nothing_that_another_version_has_declared(store: "redis.Redis") -> None:
    newer, functions = shop(retries=7)
    for http in client(serve(newer, functions=functions)):
        http.put(PATH)
    app, functions = shop()
    for http in client(serve(app, functions=functions)):
        assert http.put(PATH).status_code == 200
        assert registered(http) == {"shop-ship": "otherwise", "shop-score": "yes", "shop-ship-failure": "yes"}
    assert json.loads(str(store.hget(keys.functions(), "shop-ship")))["retries"] == 7


def test_a_function_of_another_bus_is_not_taken_over(store: "redis.Redis") -> None:
    other = {"bus": "sh", "id": "op-ship", "name": "x", "slug": "shop-ship", "on": [], "events": [], "retries": 1}
    store.hset(keys.functions(), "shop-ship", json.dumps({**other, "code": "x"}))
    app, functions = shop()
    for http in client(serve(app, functions=functions)):
        answer = http.put(PATH)
        assert (answer.status_code, "1 may not be" in answer.json()["message"]) == (409, True)
        assert registered(http)["shop-ship"] == "by sh"


def test_post_says_that_functions_are_not_called_over_http_yet(http: TestClient) -> None:
    answer = http.post(PATH, json={})
    assert (answer.status_code, "bus worker" in answer.json()["error"]) == (501, True)
    refused = http.delete(PATH)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST, PUT")


def test_names_in_place_of_functions_are_refused_with_the_way_out_and_all_are_taken() -> None:
    """`list(app.functions)` are ids: that was an AttributeError."""
    app, _ = shop()
    with pytest.raises(ConfigError, match=r"functions='ship.*' is not a function of bus 'shop'.*app.functions.values"):
        serve(app, functions=cast("list[Function]", list(app.functions)))
    for http in client(serve(app, functions=app.functions.values())):
        slugs = [one["slug"] for one in http.get(PATH).json()["functions"]]
        assert sorted(slugs) == sorted(function.slug for function in app.functions.values())


@pytest.mark.parametrize("path", ["/inngest", "/deep/er/api/inngest"])
def test_it_answers_under_any_prefix(path: str) -> None:
    app, functions = shop()
    for http in client(serve(app, functions=functions), path=path):
        assert http.get(path).json()["app"] == "shop"
        assert http.put(f"{path}/").json()["modified"]


def test_two_of_them_and_the_page_stand_in_one_application() -> None:
    host, (app, functions), (other, others) = Starlette(), shop(), shop("other")
    mount(host, PATH, serve(app, functions=functions))
    mount(host, "/other", serve(other, functions=others))
    mount(host, "/bus", serve(app))
    with TestClient(host, base_url="http://localhost") as http:
        assert [http.get(path).json()["app"] for path in (PATH, "/other")] == ["shop", "other"]
        http.put("/other")
        assert "other-ship" in http.get("/bus").text


@pytest.mark.parametrize("route", [Mount, Route])
def test_it_stands_as_a_mount_or_as_the_endpoint_of_a_route_of_the_hosts_own(route: type[Mount | Route]) -> None:
    app, functions = shop()
    endpoint = serve(app, functions=functions)
    with TestClient(Starlette(routes=[route(PATH, endpoint)]), base_url="http://localhost") as http:
        assert http.get(PATH).json()["app"] == "shop"
        assert http.portal is not None
        http.portal.call(endpoint.close)


def test_foreign_hosts_and_pages_are_refused(http: TestClient) -> None:
    assert http.get(PATH, headers={"host": "evil.example"}).status_code == 421
    assert http.put(PATH, headers={"origin": "http://evil.example"}).status_code == 403
    assert set(registered(http).values()) == {"no"}


def test_a_redis_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_REDIS_URL", "redis://127.0.0.1:1/0")
    app, functions = shop()
    for http in client(serve(app, functions=functions)):
        answer = http.get(PATH)
        assert (answer.status_code, "127.0.0.1:1" in answer.json()["error"]) == (503, True)


def test_a_function_that_is_not_of_the_bus_is_refused() -> None:
    (app, _), (_, others) = shop(), shop("other")
    with pytest.raises(ConfigError, match="'other-ship' is not one of bus 'shop'"):
        serve(app, functions=others)


def test_the_host_may_ask_it_directly() -> None:
    app, functions = shop()
    endpoint: ASGIApp = serve(app, functions=functions)
    with TestClient(endpoint, base_url="http://localhost") as http:
        assert http.get("/").json()["app"] == "shop"
