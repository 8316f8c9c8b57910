"""The pages of events: a name and its newest events, one event with what became of it, and their forms."""

import asyncio
from collections.abc import Generator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from starlette.testclient import TestClient

from stepstream import Bus, Context, EventData, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.checkpoint.read.lists.runs import list_runs
from tests.support import Lab, eventually, fields

shop = Bus("shop")
HTML = {"accept": "text/html"}
ODD = ['<img src=x>"', "a\nb", "\u202etxt", "order/paid?x=1#y", "ü/é"]


class Paid(EventData, name="order/paid"):
    """What order/paid is made of."""

    user: str
    cents: int


@shop.function("ship", on=Paid)
async def ship(ctx: Context[Paid], step: Step) -> None:
    """Ship what is paid for."""


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(shop, configured=settings)) as client:
        client.post("/e/x", json={"name": "warm/up"})  # with the first event the functions are registered
        yield client


def got(http: TestClient, path: str) -> str:
    answer = http.get(path, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def posted(http: TestClient, path: str, given: dict[str, str]) -> Any:
    return http.post(path, data=given, headers=HTML, follow_redirects=False)


def sent(http: TestClient, *several: dict[str, Any]) -> list[str]:
    return http.post("/e/x", json=list(several)).json()["ids"]


def kept(http: TestClient) -> list[dict[str, Any]]:
    return [one for one in http.get("/v1/events?fields=id,name,data").json()["data"] if one["name"] != "warm/up"]


def test_a_name_shows_its_newest_events_and_how_fast_they_come(http: TestClient) -> None:
    ids = sent(http, *({"name": "order/paid", "data": {"user": f"u{n}", "cents": n}} for n in range(23)))
    page = got(http, "/event-names/order/paid")
    assert page.index(ids[-1]) < page.index(ids[3])
    assert ids[2] not in page
    assert "20 or more in the last " in page
    assert 'href="/functions/shop-ship"' in page
    older = page.partition("/event-names/order%2Fpaid?cursor=")[2].partition('"')[0]
    assert ids[0] in got(http, f"/event-names/order%2Fpaid?cursor={older}")
    assert "20 or more in the last " in got(http, "/events")


def test_a_cursor_that_is_none_of_ours_is_an_error_and_not_an_empty_list(http: TestClient) -> None:
    page = got(http, "/event-names/order/paid?cursor=zzz")
    assert "could not be looked up" in page
    assert "No event of this name" not in page


def test_an_event_tells_what_each_function_made_of_it_and_that_its_id_is_remembered(http: TestClient) -> None:
    [id] = sent(http, {"name": "order/paid", "id": "my/own <id>", "data": {"user": "<b>ann</b>", "cents": 1}})
    page = got(http, f"/events/{quote(id, safe='')}")
    assert 'href="/functions/shop-ship"' in page
    assert "no worker" in page
    assert "taken for a repetition for another" in page
    assert "&lt;b&gt;ann" in page
    assert "<b>ann" not in page
    [unheard] = sent(http, {"name": "order/payed"})
    assert "No function listens to this name" in got(http, f"/events/{unheard}")
    assert http.get("/events/none", headers=HTML).status_code == 404


async def test_an_event_names_the_run_it_started_once_and_leads_to_it(lab: Lab, http: TestClient) -> None:
    await lab.work(app=shop)
    [id] = await asyncio.to_thread(sent, http, {"name": "order/paid", "data": {"user": "a", "cents": 1}})

    async def began() -> str:
        found = (await list_runs(lab.wire, ["shop-ship"])).runs
        return found[0].id if found else ""

    run = await eventually(began, "it began")
    page = await asyncio.to_thread(got, http, f"/events/{id}")
    assert page.count(f'<a class="mono" href="/runs/{run}">{run}</a>') == 1
    assert page.count(f">{run}<") == 1


def test_the_event_by_which_a_run_was_invoked_leads_to_that_run(http: TestClient) -> None:
    run = http.post("/invoke/shop-ship", json={"data": {"user": "a", "cents": 1}}).json()["id"]
    assert f'href="/runs/{run}"' in got(http, f"/events/{run}")


def test_a_form_that_is_sent_twice_sends_one_event(http: TestClient) -> None:
    page = got(http, "/event-names/order/paid")
    form = {**fields(page), "as": "fields", "data.user": "ann", "data.cents": "42"}
    first, second = (posted(http, "/events/send", form) for _ in range(2))
    assert (first.status_code, first.headers["location"]) == (303, second.headers["location"])
    [event] = kept(http)
    assert event["data"] == {"user": "ann", "cents": 42}
    assert event["id"] in got(http, first.headers["location"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"as": "fields", "data.user": "<i>kept</i>", "data.cents": "x"}, "data.cents"),
        ({"as": "json", "json": '{"user": "<i>kept</i>"}'}, "data.cents"),
        ({"as": "json", "json": '{"user": "<i>kept</i>"}}, {"name": "b"'}, "not JSON"),
        ({"as": "json", "json": '{"user": "<i>kept</i>"}, "id": "forged"'}, "not JSON"),
        ({"as": "json", "json": '["<i>kept</i>"]'}, "data"),
    ],
)
def test_what_does_not_fit_the_type_is_not_sent_and_is_still_in_the_form(
    http: TestClient, given: dict[str, str], told: str
) -> None:
    answer = posted(http, "/events/send", {**fields(got(http, "/event-names/order/paid")), **given})
    assert (answer.status_code, told in answer.text) == (400, True)
    assert "&lt;i&gt;kept" in answer.text
    assert "<i>" not in answer.text
    assert kept(http) == []


def test_a_reserved_name_is_refused_and_a_form_of_another_page_does_nothing(http: TestClient) -> None:
    form = fields(got(http, "/events"))
    for name in ("", "inngest/x", "a\x00b"):
        assert posted(http, "/events/send", {**form, "as": "json", "name": name, "json": "{}"}).status_code == 400
    without = {"name": "order/paid", "id": "x", "as": "json", "json": "{}"}
    for word in ("send", "pause", "resume"):
        assert posted(http, f"/events/{word}", without).status_code == 403
    assert kept(http) == []
    assert http.get("/v1/paused").json()["data"]["events"] == {}


def test_a_name_is_paused_and_resumed_by_buttons(http: TestClient) -> None:
    form = {**fields(got(http, "/event-names/order/paid")), "name": "order/paid"}
    for _ in range(2):
        answer = posted(http, "/events/pause", form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/event-names/order%2Fpaid")
    assert "by the status page" in got(http, "/event-names/order/paid")
    assert "by the status page" in got(http, "/events")
    assert posted(http, "/events/resume", form).status_code == 303
    assert http.get("/v1/paused").json()["data"]["events"] == {}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_shown_as_it_is_and_its_links_lead_to_it(http: TestClient, name: str) -> None:
    stored = sent(http, {"name": name, "id": name, "data": {"x": name}})
    if not stored:
        pytest.skip("no name of an event")
    path = f"/event-names/{quote(name, safe='')}"
    assert f'href="{path}"' in got(http, "/events")
    for page in (got(http, path), got(http, f"/events/{quote(name, safe='')}")):
        assert "<img" not in page
        assert (
            f'href="/events/{quote(name, safe="")}?name={quote_plus(name)}&amp;entry=' in page
            or "What each function made of it" in page
        )
