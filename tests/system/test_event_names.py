"""The names of events, with who listens to each: what nobody listens to is found first."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, CancelOn, Context, Step, create_app
from stepstream.bus.event import Outgoing
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Publisher, Sent
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.event_names import event_names
from stepstream.checkpoint.waits.event_waits import Wait, arm
from stepstream.producers.cli import unheard
from tests.support import Lab, eventually

shop = Bus("shop")


@shop.function("ship", on=["order/paid", "refund/*"], cancel_on=CancelOn("order/void", match="data.id"))
async def ship(ctx: Context[dict], step: Step) -> None:
    """Ship what is paid for."""


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(shop, configured=settings)) as client:
        yield client


def publish(http: TestClient, *names: str) -> dict[str, Any]:
    return http.post("/e/x", json=[{"name": name, "data": {}} for name in names]).json()


def test_a_name_that_nobody_listens_to_is_found_under_events_first(http: TestClient) -> None:
    publish(http, "order/paid", "refund/asked", "order/payed", "order/payed")
    found = http.get("/v1/event-names").json()
    assert [one["name"] for one in found["data"]] == ["order/payed", "order/paid", "order/void", "refund/asked"]
    unheard, paid, void, refund = found["data"]
    assert (unheard["functions"], unheard["entries"], unheard["waits"]) == ([], 2, 0)
    assert unheard["first"] <= unheard["last"]
    assert paid["functions"] == refund["functions"] == ["shop-ship"]
    assert (void["cancels"], void["functions"], void["last"], void["entries"]) == (["shop-ship"], [], None, 0)
    assert (found["unheard"], found["cursor"], found["not_looked_at"]) == (1, None, 0)
    page = http.get("/events", headers={"accept": "text/html"}).text
    assert page.index("order/payed") < page.index("nobody listens</span>") < page.index("order/paid")
    assert "1 that nobody listens to" in page
    assert 'href="/functions/shop-ship"' in page


def test_an_empty_bus_says_what_to_do(http: TestClient) -> None:
    assert "No event has been published" in http.get("/events").text
    assert http.get("/v1/event-names").json()["data"] == []


def test_names_come_page_by_page_each_once(http: TestClient) -> None:
    odd = ["order/paid", *(f"odd/{name}" for name in ("a:b", "ü", "{x}", "<b>", "unheard:", "%2F"))]
    publish(http, *odd)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = http.get("/v1/event-names", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["data"]) <= 2
        seen += [one["name"] for one in page["data"]]
        cursor = page["cursor"]
    assert seen == [*sorted(odd[1:]), "order/paid", "order/void"]
    assert "<b>" not in http.get("/events").text.partition("<main")[2]


def test_a_cursor_that_is_none_of_ours_is_refused(http: TestClient) -> None:
    answer = http.get("/v1/event-names?cursor=zzz")
    assert (answer.status_code, "cursor" in answer.json()["error"]) == (400, True)


async def test_waits_are_told_also_of_a_name_that_was_never_published(wire: Wire) -> None:
    await arm(wire, Wait("order/checked", "shop-ship", "r", "s", 10**13, path="data.id", value=b"1"))
    await arm(wire, Wait("order/checked", "shop-ship", "r", "s2", 10**13, if_="event.data.n > 1"))
    (one,) = (await event_names(wire)).names
    assert (one.name, one.functions, one.waits, one.last, one.entries) == ("order/checked", [], 2, None, 0)


async def test_a_name_that_runs_wait_for_is_heard_and_says_whose_runs_do(lab: Lab, http: TestClient) -> None:
    """It was counted among those that nobody listens to, in red, as was one whose wait had just ended."""

    @lab.app.function("f", on="a")
    async def f(ctx: Any, step: Any) -> None:
        await step.wait_for_event("back", "order/returned", match="data.n", timeout=60)

    await lab.work()
    await lab.send("a", {"n": 1})
    await lab.status(run := await lab.first(), "waiting")

    def look() -> tuple[dict[str, Any], str, str]:
        found = http.get("/v1/event-names").json()
        one = next(one for one in found["data"] if one["name"] == "order/returned")
        return (
            one | {"unheard": found["unheard"]},
            http.get("/events").text,
            http.get("/event-names/order/returned").text,
        )

    one, names, name = await asyncio.to_thread(look)
    assert (one["unheard"], one["waits"], one["waiting"], one["waited"]) == (0, 1, ["test-f"], True)
    assert "nobody listens" not in names
    assert 'runs of <a href="/functions/test-f">test-f</a> wait for it' in names
    assert f'back of <a class="mono" href="/runs/{run}">{run}</a> (test-f)' in name
    await lab.send("order/returned", {"n": 1}, id="came")
    await lab.status(run, "completed")
    one, names, _ = await asyncio.to_thread(look)
    assert (one["unheard"], one["waits"], one["waited"], "nobody listens" in names) == (0, 0, True, False)
    page, story = await asyncio.to_thread(
        lambda: (http.get("/events/came").text, http.get("/v1/events/came/story").json()["data"])
    )
    assert story["words"] == "no function starts on order/returned; runs have waited for such"
    assert "misspelt" not in page


def test_a_name_keeps_when_it_was_seen_last_after_its_events_were_removed(http: TestClient, url: str) -> None:
    publish(http, "order/payed")
    with redis.Redis.from_url(url) as store:
        store.xtrim(keys.events("order/payed"), maxlen=0, approximate=False)
    (one, *_) = http.get("/v1/event-names").json()["data"]
    assert (one["entries"], one["last"] is None) == (0, False)


async def test_who_sends_what_only_cancels_is_told_whose_runs(wire: Wire) -> None:
    """`bus send` said that no function listens to it."""
    await Listeners(wire, [shop.functions]).get_ready(set(), 5.0)
    assert await unheard(wire, "order/void", waits=False) == "it starts no function; it cancels runs of shop-ship"
    told = "it starts no function; runs wait for it, and it cancels runs of shop-ship"
    assert await unheard(wire, "order/void", waits=True) == told
    assert "did you mean order/paid" in await unheard(wire, "order/payd", waits=False)


async def test_who_sends_what_a_run_waits_for_is_told_so_though_the_run_takes_it_at_once(lab: Lab) -> None:
    """`bus send` looked behind the event, when the run had taken it and gone: no function listens to it, it said."""

    @lab.app.function("f", on="a")
    async def f(ctx: Any, step: Any) -> None:
        await step.wait_for_event("back", "order/returned", match="data.n", timeout=60)

    await lab.work()
    await lab.send("a", {"n": 1})

    async def waits() -> bool:
        return bool(await lab.wire.call("EXISTS", keys.waits("order/returned")))

    await eventually(waits, "the run waits")
    sender = Publisher(lab.wire, listeners=Listeners(lab.wire, []))
    [first, other] = await sender.publish(
        [Outgoing("e1", "order/returned", b'{"n":1}'), Outgoing("e2", "order/lost", b"{}")]
    )
    assert (first.functions, first.waits, other.waits) == (0, True, False)
    assert Sent.of(first).waits
    await lab.one()
    [later] = await sender.publish([Outgoing("e3", "order/returned", b'{"n":1}')])
    assert not later.waits


def test_what_only_cancels_is_not_said_to_have_no_listener(http: TestClient) -> None:
    told = publish(http, "order/void", "order/payed")
    assert (told["functions"], told["only_cancels"], told["nobody_listens_to"]) == (0, ["order/void"], ["order/payed"])
