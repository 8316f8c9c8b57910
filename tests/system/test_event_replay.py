"""An event that came before is replayed to one function or to all: nothing swallows it, and its runs are marked."""

from collections.abc import Generator

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, Context, Debounce, On, RateLimit, Step, create_app
from stepstream.bus.errors import BadRequest, FunctionNotFound
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.replay import replay
from stepstream.checkpoint.read.event.kept import EventNotFound
from stepstream.checkpoint.read.lists.search import RunQuery, search
from tests.support import Lab
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form


async def test_a_replay_begins_all_that_listen_today_once_for_each_request_and_is_marked(lab: Lab) -> None:
    seen: list[tuple[str, str]] = []

    @lab.app.function("f", on="a", rate_limit=RateLimit(1, "1h"))
    async def f(ctx: Context[dict], step: Step) -> None:
        seen.append(("f", ctx.event.id))

    await lab.work()
    await lab.send("a", {"n": 1}, id="mine")
    await lab.ended(1)
    later = Bus("later")

    @later.function("g", on=On("a", if_="event.data.n == 1"), debounce=Debounce("1h"))
    async def g(ctx: Context[dict], step: Step) -> None:
        seen.append(("g", ctx.event.id))

    @later.function("h", on=On("a", if_="event.data.n == 2"))
    async def h(ctx: Context[dict], step: Step) -> None: ...

    await lab.work(app=later)
    asked = ulid()
    made = await replay(lab.wire, "mine", request=asked)
    assert {one.function for one in made.runs} == {"test-f", "later-g"}
    [left] = made.left_out
    assert (left.function, "event.data.n == 2 is not true: event.data.n is 1" in left.why) == ("later-h", True)
    assert await replay(lab.wire, "mine", request=asked) == made, "asked again, the same runs"
    for one in made.runs:
        assert (await lab.status(one.run, "completed")).source == "replay"
    assert sorted(seen) == [("f", "mine"), ("f", "mine"), ("g", "mine")]
    found = await search(lab.wire, RunQuery(source="replay"))
    assert {run.id for run in found.runs} == {one.run for one in made.runs}
    [again] = (await replay(lab.wire, "mine", "test-f")).runs
    await lab.status(again.run, "completed")


async def test_an_event_past_its_stream_is_taken_from_a_run_and_one_that_nothing_keeps_is_told(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> int:
        return ctx.event.data["n"]

    await lab.work()
    stored = [await lab.send("a", {"n": 7}), await lab.send("a", {"n": 8}, id="order-8")]
    await lab.ended(2)
    await lab.wire.call("XTRIM", keys.events("a"), "MAXLEN", 0)
    for one, n in zip(stored, (7, 8), strict=True):
        [begun] = (await replay(lab.wire, one.id)).runs
        assert bytes((await lab.status(begun.run, "completed")).output or b"") == b"%d" % n
    with pytest.raises(EventNotFound):
        await replay(lab.wire, 'never" || true')
    with pytest.raises(FunctionNotFound):
        await replay(lab.wire, "order-8", "test-none")
    with pytest.raises(BadRequest, match="ULID"):
        await replay(lab.wire, "order-8", request="1")


async def test_a_function_that_does_not_listen_is_refused_with_those_that_do(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    @lab.app.function("g", on="b")
    async def g(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    await lab.send("a", id="one")
    await lab.store("c", {})
    with pytest.raises(BadRequest, match="'test-g' does not listen to a; test-f listens to it"):
        await replay(lab.wire, "one", "test-g")


shop = Bus("shop")


@shop.function("ship", on="order/paid")
async def ship(ctx: Context[dict], step: Step) -> None: ...


@shop.function("pack", on=On("order/*", if_="event.data.n > 1"))
async def pack(ctx: Context[dict], step: Step) -> None: ...


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(shop, configured=settings)) as client:
        client.post("/e/x", json={"name": "order/paid", "id": "o<1>", "data": {"n": 1}})
        yield client


def test_it_is_replayed_on_the_page_by_the_api_and_in_the_terminal(
    http: TestClient, store: "redis.Redis", url: str
) -> None:
    page = http.get("/events/o<1>").text
    for button in ("Replay to all", "Replay to shop-ship"):
        where, sent = form(page, button)
        places = {http.post(where, data=sent, follow_redirects=False).headers["location"] for _ in range(2)}
        assert len(places) == 1, "pressed twice it is one run"
    where, sent = form(page, "Replay to shop-pack")
    refused = http.post(where, data=sent)
    assert (refused.status_code, "is not true" in refused.text) == (400, True)
    made = http.post("/v1/events/o<1>/replay", json={"function": "shop-ship"})
    assert made.status_code == 201
    assert made.json()["data"]["runs"][0]["function"] == "shop-ship"
    assert http.post("/v1/events/none/replay").status_code == 404
    assert http.post("/v1/events/o<1>/replay", json={"function": "shop-none"}).status_code == 404
    told = bus("replay", "o<1>", url=url)
    assert "shop-ship" in told
    assert "shop-pack  did not begin" in told
    assert "no event" in bus("replay", "none", url=url, code=1)
    sources = [entry["source"] for _, entry in store.xrange(keys.queue("shop-ship")) if "source" in entry]
    assert set(sources) == {"replay"}
