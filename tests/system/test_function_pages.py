"""The pages of functions: what they show, and their forms, of which each acts once."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, Concurrency, Context, Step, Timeouts, create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys
from tests.support import fields
from tests.system.test_commands import bus

shop = Bus("shop")
HTML = {"accept": "text/html"}


@dataclass
class Order:
    """What the function takes."""

    id: str
    count: int
    note: str | None = None


async def failed(ctx: Context[dict], step: Step) -> None:
    """Tell somebody."""


@shop.function(
    "ship",
    on="order/paid",
    concurrency=Concurrency(1, key="event.data.user"),
    retries=2,
    timeouts=Timeouts(finish="2h"),
    on_failure=failed,
)
async def ship(ctx: Context[dict], step: Step) -> None:
    """Ship what is paid for."""


@shop.function("pack")
async def pack(ctx: Context[Order], step: Step) -> None:
    """Pack it."""


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(shop, configured=settings)) as client:
        client.post("/e/x", json=[{"name": "order/paid", "data": {}}] * 3)
        yield client


def got(http: TestClient, path: str) -> str:
    return http.get(path, headers=HTML).text


def posted(http: TestClient, path: str, given: dict[str, str]) -> Any:
    return http.post(path, data=given, headers=HTML, follow_redirects=False)


def test_events_that_nobody_has_read_are_in_the_backlog_of_a_function(http: TestClient) -> None:
    page = got(http, "/functions")
    assert page.index("shop-pack") < page.index("shop-ship")
    row = page.partition('id="fn-shop-ship"')[2].partition("</tr>")[0]
    assert '<td class="n wait">3</td>' in row
    one = got(http, "/functions/shop-ship")
    assert "3, of that 3 events not yet read" in one
    assert "a step that fails is tried 3 times" in one
    assert "none: its runs wait until one starts" in one


def test_what_the_page_of_a_function_tells_the_api_and_the_command_tell_too(http: TestClient, url: str) -> None:
    """They had no last hour, backlog, workers, versions alive nor pause, and no page told timeouts and on_failure."""
    assert http.post("/v1/functions/shop-ship/pause").status_code == 200
    told = http.get("/v1/functions/shop-ship").json()["data"]
    at_work = told["at_work"]
    assert (at_work["unread"], at_work["workers"], at_work["paused"]["by"]) == (3, 0, "the API")
    assert (at_work["hour"]["started"], at_work["hour"]["took_p95"], at_work["oldest"]) == (0, None, None)
    options = {"a run must end within 2 h after it starts", "when a run has failed, shop-ship-failure runs"}
    assert options <= set(told["options"])
    page, shown = got(http, "/functions/shop-ship"), bus("functions", "shop-ship", url=url)
    for option in told["options"]:
        assert option in page
        assert option in shown
    for words in ("it goes on with: bus resume shop-ship", "workers: none", "unread: 3 event(s)", "last hour: nothing"):
        assert words in shown
    as_json = json.loads(bus("functions", "shop-ship", "--json", url=url))
    assert as_json["at_work"] == at_work


def test_a_site_without_functions_says_how_to_get_one(settings: Settings) -> None:
    with TestClient(create_app(configured=settings)) as client:
        assert "bus worker" in client.get("/functions").text


def test_a_function_is_paused_and_resumed_by_buttons_and_says_since_when(http: TestClient) -> None:
    form = fields(got(http, "/functions/shop-ship"))
    for _ in range(2):
        answer = posted(http, "/functions/shop-ship/pause", form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/functions/shop-ship")
    assert http.get("/v1/paused").json()["data"]["functions"]["shop-ship"]["by"] == "the status page"
    page = got(http, "/functions/shop-ship")
    assert "by the status page" in page
    assert ">Resume</button>" in page
    assert "1 paused" in got(http, "/functions")
    for _ in range(2):
        assert posted(http, "/functions/shop-ship/resume", form).status_code == 303
    assert http.get("/v1/paused").json()["data"]["functions"] == {}


def test_a_form_of_another_page_does_nothing_nor_does_a_get(http: TestClient) -> None:
    got(http, "/functions/shop-ship")
    for word in ("pause", "resume", "invoke", "forget"):
        assert posted(http, f"/functions/shop-ship/{word}", {"slug": "shop-ship", "json": "{}"}).status_code == 403
        assert http.get(f"/functions/shop-ship/{word}", headers=HTML).status_code == 404
    assert http.get("/v1/runs").json()["data"] == []
    assert http.get("/v1/paused").json()["data"]["functions"] == {}


def test_what_a_function_takes_is_asked_for_field_by_field_and_it_is_invoked_once(http: TestClient) -> None:
    page = got(http, "/functions/shop-pack")
    assert all(f'name="data.{name}"' in page for name in ("id", "count", "note"))
    form = {**fields(page), "as": "fields", "data.id": '</textarea>"<b>', "data.count": "7", "data.note": ""}
    first, second = (posted(http, "/functions/shop-pack/invoke", form) for _ in range(2))
    assert first.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    run = first.headers["location"].rpartition("/")[2]
    found = http.get(f"/v1/runs/{run}").json()["data"]
    assert found["event"]["data"] == {"id": '</textarea>"<b>', "count": 7}
    assert len(http.get("/v1/runs?function=shop-pack").json()["data"]) <= 1
    as_json = {**form, "as": "json", "json": '{"id": "a", "count": 2}', "request": fields(got(http, "/functions/shop-pack"))["request"]}  # fmt: skip
    assert posted(http, "/functions/shop-pack/invoke", as_json).headers["location"] != first.headers["location"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"as": "fields", "data.id": "<i>kept</i>", "data.count": "many"}, "data.count: expected a number"),
        ({"as": "fields", "data.id": "<i>kept</i>", "data.count": ""}, "data.count: is missing"),
        ({"as": "json", "json": '{"id": "<i>kept</i>", "id": 1}'}, "twice"),
        ({"as": "json", "json": "[1, '<i>kept</i>'"}, "not JSON"),
        ({"as": "json", "json": '{"id": "<i>kept</i>", "count": []}'}, "data.count"),
    ],
)
def test_what_a_function_does_not_take_is_said_and_what_was_written_is_still_there(
    http: TestClient, given: dict[str, str], told: str
) -> None:
    answer = posted(http, "/functions/shop-pack/invoke", {**fields(got(http, "/functions/shop-pack")), **given})
    assert answer.status_code == 400
    assert told in answer.text
    assert "&lt;i&gt;kept" in answer.text
    assert "<i>" not in answer.text
    assert http.get("/v1/runs?function=shop-pack").json()["data"] == []


def test_a_function_is_forgotten_when_its_name_is_written_and_only_then(http: TestClient) -> None:
    form = fields(got(http, "/functions/shop-pack"))
    refused = posted(http, "/functions/shop-pack/forget", {**form, "slug": "shop-pac"})
    assert (refused.status_code, "nothing has been done" in refused.text) == (400, True)
    for _ in range(2):
        answer = posted(http, "/functions/shop-pack/forget", {**form, "slug": "shop-pack"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/functions")
    assert "shop-pack" not in got(http, "/functions")
    assert posted(http, "/functions/shop-pack/pause", form).status_code == 404


def test_a_function_is_forgotten_over_http_too(http: TestClient, store: "redis.Redis") -> None:
    store.zadd(keys.runs("shop-ship", "queued"), {ulid(): now_ms()})
    refused = http.delete("/v1/functions/shop-ship?with_runs=perhaps")
    assert (refused.status_code, "true or false" in refused.json()["error"]) == (400, True)
    assert http.delete("/v1/functions/shop-nobody").status_code == 404
    told = http.delete("/v1/functions/shop-ship?with_runs=true").json()["data"]
    assert told == {"function": "shop-ship", "groups_dropped": ["order/paid"]}
    assert http.get("/v1/functions/shop-ship").status_code == 404
