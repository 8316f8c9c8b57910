"""What a debounce or a batch holds back runs now when somebody says so: once, with all that has come."""

from collections.abc import Generator
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Batch, Context, Debounce, Step, create_app
from stepstream.bus.errors import BadRequest, FunctionNotFound
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.admit import admit
from stepstream.checkpoint.limits.flush import FLUSH, flush
from stepstream.checkpoint.registry import register
from tests.redis.test_admit import applicant, declared, run_of
from tests.support import Lab, eventually
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form


@pytest.mark.parametrize("limit", [{"batch": Batch(9, timeout="1h", key="event.data.user")},
                                   {"debounce": Debounce("1h", key="event.data.user")}])  # fmt: skip
async def test_a_buffer_is_flushed_once_and_later_events_make_another_run(lab: Lab, limit: dict[str, Any]) -> None:
    seen: list[list[Any]] = []

    @lab.app.function("f", on="a", **limit)
    async def f(ctx: Context[dict], step: Step) -> None:
        seen.append([one.data["n"] for one in ctx.events])

    await lab.work()
    for n in range(3):
        await lab.send("a", {"n": n, "user": 7})
    await lab.send("a", {"n": 9, "user": "ada"})

    async def held() -> bool:
        counts = [await lab.wire.load("ZCARD", keys.runs("test-f", "skipped"))]
        return counts == [4]

    await eventually(held, "all are held back")
    assert await flush(lab.wire, "test-f", key="nobody") == []
    [one] = await flush(lab.wire, "test-f", key="7")
    assert (one.kind, one.key) == (next(iter(limit)), "7")
    await lab.status(one.run, "completed")
    assert seen == [[0, 1, 2] if "batch" in limit else [2]]
    assert await flush(lab.wire, "test-f", runs=[one.run]) == [], "asked again there is nothing to do"
    await lab.send("a", {"n": 5, "user": 7})

    async def again() -> bool:
        return await lab.wire.load("HLEN", keys.buffered("test-f")) == 2

    await eventually(again, "another buffer")
    assert {other.key for other in await flush(lab.wire, "test-f")} == {"7", "ada"}


async def test_what_holds_nothing_back_is_told_so(lab: Lab) -> None:
    @lab.app.function("f", on="a", concurrency=1)
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    with pytest.raises(BadRequest, match="neither debounce nor batch"):
        await flush(lab.wire, "test-f")
    with pytest.raises(FunctionNotFound):
        await flush(lab.wire, "test-g")


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=settings)) as client:
        yield client


async def hold(wire: Wire) -> None:
    function = declared(batch=Batch(9, "1h"))
    await register(wire, function)
    await admit(wire, function, "", [applicant(1, buffer="b:<x>", buffer_run=run_of(900))])


async def test_a_buffer_that_is_another_run_by_now_stays(wire: Wire) -> None:
    await hold(wire)
    assert await wire.script(FLUSH, [keys.function("shop-f", FIRST)], "b:<x>", run_of(901)) == 0
    assert await wire.load("XLEN", keys.queue("shop-f")) == 0


async def test_it_is_flushed_on_the_page_and_by_the_api(wire: Wire, http: TestClient) -> None:
    await hold(wire)
    page = http.get("/limits").text
    assert "a batch of 1 for <code>&lt;x&gt;</code>" in page
    where, sent = form(page, "Run now")
    for _ in range(2):
        answer = http.post(where, data=sent, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_of(900)}")
    assert await wire.load("XLEN", keys.queue("shop-f")) == 1
    assert http.post("/v1/functions/shop-f/flush").json() == {"data": []}
    assert http.post("/v1/functions/none/flush").status_code == 404
    assert http.post(where, data={**sent, "run": ""}).status_code == 400


async def test_it_is_flushed_in_the_terminal(wire: Wire, url: str, store: "redis.Redis") -> None:
    await hold(wire)
    assert f"{run_of(900)}  batch for <x>" in bus("limits", "flush", "shop-f", url=url)
    assert "holds nothing back" in bus("limits", "flush", "shop-f", url=url)
