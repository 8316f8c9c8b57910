"""A limit that people set otherwise until a time: it counts at once, is taken back by itself and by hand, for one key."""

import asyncio
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, Concurrency, Context, RateLimit, Step, Throttle, create_app
from stepstream.bus.errors import BadRequest, FunctionNotFound, StoreError
from stepstream.bus.function import Function
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.overview import look_over
from stepstream.checkpoint.controls.limits import lines_of
from stepstream.checkpoint.controls.ordered import Controls, Override, controls
from stepstream.checkpoint.controls.overrides import LimitChanged, override_limit, restore_limit
from stepstream.checkpoint.limits.admit import Applicant, admit
from stepstream.checkpoint.limits.dispatch import dispatch
from stepstream.checkpoint.limits.told import limits_of
from stepstream.checkpoint.read.run.verdict import verdict
from stepstream.checkpoint.registry import functions, register
from tests.support import Lab, eventually
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form, press

HOUR_MS = 3_600_000


class Busy:
    """Runs that go on until they are let go, of one user or of several."""

    def __init__(self, lab: Lab, **options: Any) -> None:
        self.running: set[int] = set()
        self.let_go = asyncio.Event()

        @lab.app.function("f", on="a", **options)
        async def f(ctx: Context[dict], step: Step) -> None:
            self.running.add(ctx.event.data["n"])
            await self.let_go.wait()

    async def at_work(self, count: int) -> None:
        async def look() -> bool:
            assert len(self.running) <= count, self.running
            return len(self.running) == count

        await eventually(look, f"{count} at work")


async def later(lab: Lab, ms: int = HOUR_MS) -> int:
    return await lab.wire.moment() + ms


@pytest.mark.parametrize("shared", [None, "gpu"])
async def test_a_limit_that_is_raised_lets_those_in_line_begin_at_once_and_is_taken_back_by_hand(
    lab: Lab, shared: str | None
) -> None:
    busy = Busy(lab, concurrency=Concurrency(1, shared=shared))
    await lab.work()
    for n in range(6):
        await lab.send("a", {"n": n})
    await busy.at_work(1)
    made = await override_limit(lab.wire, "test-f", "concurrency", 3, await later(lab), "Ada")
    await busy.at_work(3)
    [one] = await limits_of(lab.wire, await functions(lab.wire))
    assert one.overrides == (made,)
    assert one.lines[0].most == 3
    assert one.lines[0].override == made
    waiting = next(run for run in await lab.runs() if run.status == "queued")
    told = (await verdict(lab.wire, waiting)).words
    assert "set to 3 by Ada for another" in told
    await override_limit(lab.wire, "test-f", "concurrency", 0, await later(lab), "Ada")
    told = (await verdict(lab.wire, waiting)).words
    assert "while it is 0 nobody gets one: bus limits restore test-f concurrency" in told
    (shut,) = [one for one in (await look_over(lab.wire)).trouble if "is set to 0" in one.words]
    assert "concurrency of test-f is set to 0 by Ada, for another" in shut.words
    assert "no run of it begins; 3 runs in line" in shut.words
    assert shut.command == "bus limits restore test-f concurrency"
    assert (await restore_limit(lab.wire, "test-f", "concurrency")).was_set
    assert not (await restore_limit(lab.wire, "test-f", "concurrency")).was_set
    assert (await limits_of(lab.wire, await functions(lab.wire)))[0].overrides == ()
    busy.let_go.set()
    await lab.ended(6)


async def test_a_limit_is_taken_back_by_itself_and_what_waited_goes_on(lab: Lab) -> None:
    busy = Busy(lab, concurrency=2)
    await register(lab.wire, next(iter(lab.app.functions.values())))
    await override_limit(lab.wire, "test-f", "concurrency", 0, await later(lab, 1_500), "Ada")
    await lab.work()  # one that begins later knows it, too
    await lab.send("a", {"n": 1})
    await eventually(lambda: lab.wire.load("ZCARD", keys.full("test-f")), "it was refused")
    assert busy.running == set()
    await busy.at_work(1)

    async def gone() -> bool:
        return not (await controls(lab.wire)).limits

    await eventually(gone, "it is removed once it is over")
    busy.let_go.set()
    await lab.one()


async def test_one_value_of_a_key_has_a_limit_of_its_own(lab: Lab) -> None:
    busy = Busy(lab, concurrency=Concurrency(1, key="event.data.user"))
    await lab.work()
    for n in range(3):
        await lab.send("a", {"n": n, "user": 42})
    await lab.send("a", {"n": 10, "user": "ada"})
    await lab.send("a", {"n": 11, "user": "ada"})
    await busy.at_work(2)
    await override_limit(lab.wire, "test-f", "concurrency", 3, await later(lab), "Ada", key="42")
    await busy.at_work(4)
    assert 11 not in busy.running or 10 not in busy.running
    [one] = await limits_of(lab.wire, await functions(lab.wire))
    assert {line.key: line.most for line in one.lines} == {"42": 3, "ada": 1}
    busy.let_go.set()
    await lab.ended(5)


async def test_what_makes_no_sense_is_refused_with_the_way_out(lab: Lab) -> None:
    Busy(lab, throttle=Throttle(5, "1m"))
    await lab.work()
    until = await later(lab)
    with pytest.raises(FunctionNotFound):
        await override_limit(lab.wire, "test-g", "throttle", 1, until, "Ada")
    with pytest.raises(BadRequest, match="no limit 'concurrency' that can be set; it has throttle"):
        await override_limit(lab.wire, "test-f", "concurrency", 1, until, "Ada")
    with pytest.raises(BadRequest, match="from 1 to"):
        await override_limit(lab.wire, "test-f", "throttle", 0, until, "Ada")
    for wrong in (0, await later(lab, -1), until + 400 * 24 * HOUR_MS):
        with pytest.raises(BadRequest, match="moment to come"):
            await override_limit(lab.wire, "test-f", "throttle", 1, wrong, "Ada")
    assert (await controls(lab.wire)).limits == {}


async def test_asked_twice_it_is_done_once_and_two_at_once_do_not_undo_each_other_unseen(lab: Lab) -> None:
    Busy(lab, concurrency=1)
    await lab.work()
    until = await later(lab)
    first = await override_limit(lab.wire, "test-f", "concurrency", 3, until, "Ada", seen=0, request="r1")
    assert await override_limit(lab.wire, "test-f", "concurrency", 3, until + 5, "Ada", seen=0, request="r1") == first
    with pytest.raises(LimitChanged, match="was set to 3 by Ada meanwhile"):
        await override_limit(lab.wire, "test-f", "concurrency", 9, until, "Bob", seen=0, request="r2")
    second = await override_limit(lab.wire, "test-f", "concurrency", 9, until, "Bob", seen=first.since, request="r2")
    assert (await controls(lab.wire)).limits == {"test-f": (second,)}


async def _handler(ctx: Any, step: Any) -> None:
    return None


def declared(**limits: Any) -> Function:
    return Bus("shop").function("f", on="a", **limits)(_handler)


async def lines(wire: Wire, function: Function, limit: str, to: int, until: int) -> str:
    await register(wire, function)
    await override_limit(wire, "shop-f", limit, to, until, "Ada")
    return lines_of(await controls(wire), function)


def applicant(n: int, **changes: Any) -> Applicant:
    event = b'{"id":"e%d","name":"a","data":{},"ts":%d}' % (n, n)
    return Applicant(run=f"01ARZ3NDEKTSV4RRFFQ69G{n:04}", event=event, source="event", queued=n, rank=n, **changes)


async def test_a_throttle_and_a_rate_limit_go_by_the_new_number_until_its_time(wire: Wire) -> None:
    wire.now = "1000"
    function = declared(throttle=Throttle(1, "1h"), rate_limit=RateLimit(1, "1h"))
    over = await lines(wire, function, "throttle", 3, 2_000)
    over = await lines(wire, function, "rate_limit", 3_600, 2_000)
    await wire.call("XGROUP", "CREATE", keys.queue("shop-f"), "shop-f", "0", "MKSTREAM")
    several = [applicant(n, holds="t:", rate="r:") for n in range(1, 6)]
    words = [one.word for one in await admit(wire, function, "", several, over)]
    assert words == ["later"] * 5, "1 + a tenth of the limit at once"
    assert (await dispatch(wire, function, "w.0", 10, over)).taken == 3
    wire.now = "2000"
    [verdict] = await admit(wire, function, "", [applicant(9, holds="t:", rate="r:")], over)
    assert verdict.word == "skipped"
    assert (await dispatch(wire, function, "w.0", 10, over)).taken == 0


async def test_what_was_written_by_hand_is_passed_over_and_written_over(wire: Wire, store: "redis.Redis") -> None:
    await register(wire, declared(concurrency=1))
    store.hset(keys.controls(), "limit shop-f concurrency", "junk")
    store.hset(keys.controls(), "limit ", "junk")
    assert (await controls(wire)).limits == {}
    made = await override_limit(wire, "shop-f", "concurrency", 2, await wire.moment() + HOUR_MS, "Ada")
    assert (await controls(wire)).limits == {"shop-f": (made,)}


async def test_an_error_that_redis_answers_is_told_and_nothing_is_half_set(
    wire: Wire, store: "redis.Redis", settings: Settings
) -> None:
    await register(wire, declared(concurrency=1))
    store.set(keys.controls(), "of another type")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await override_limit(wire, "shop-f", "concurrency", 2, await wire.moment() + HOUR_MS, "Ada")
    with TestClient(create_app(configured=settings), raise_server_exceptions=False) as client:
        answer = client.post("/v1/functions/shop-f/limits", json={"limit": "concurrency", "to": 2, "for": "1h"})
    assert (answer.status_code, answer.json()["code"]) == (500, "broken")
    assert store.get(keys.controls()) == "of another type"


def test_of_a_function_whose_limits_are_as_declared_scripts_are_told_nothing() -> None:
    assert lines_of(Controls(), declared(concurrency=1)) == ""


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=settings)) as client:
        yield client


def registered(store: "redis.Redis", *flow: str) -> None:
    one = Registered("t", "f", "f", "t-f", ("a",), (), 4, "code", flow)
    store.hset(keys.functions(), "t-f", codec.encode(one))


def test_it_is_set_and_taken_back_on_the_page_each_once(http: TestClient, store: "redis.Redis") -> None:
    registered(store, "2 at a time per event.data.user")
    page = http.get("/limits").text
    where, sent = form(page, "Set it")
    wanted = {"limit": "concurrency", "to": "5", "for": "1h", "key": "<b>ada</b>"}
    for _ in range(2):  # pressed twice
        assert http.post(where, data={**sent, **wanted}, follow_redirects=False).status_code == 303
    [raw] = store.hvals(keys.controls())
    assert codec.decode_as(raw, Override).to == 5
    other = http.post(where, data={**sent, **wanted, "once": "another", "to": "9"})
    assert (other.status_code, "by the status page meanwhile" in other.text) == (409, True)
    page = http.get("/limits").text
    assert "is set to 5" in page
    assert "(declared: 2) by the status page, until" in page
    assert "<b>ada" not in page
    for _ in range(2):
        press(http, page, "Take back")
    assert "is set to 5" not in http.get("/limits").text
    for wrong in ({"for": "1y"}, {"to": "-1"}, {"seen": "x"}, {"limit": "debounce"}):
        assert http.post(where, data={**sent, **wanted, **wrong}).status_code == 400, wrong


def test_it_is_set_and_taken_back_by_the_api(http: TestClient, store: "redis.Redis") -> None:
    registered(store, "2 at a time", "3 starts in 1m")
    where = "/v1/functions/t-f/limits"

    def refused(body: Any) -> tuple[int, str]:
        answer = http.post(where, json=body)
        return answer.status_code, answer.json()["error"]

    made = http.post(where, json={"limit": "throttle", "to": 9, "for": "2h"}).json()["data"]["override"]
    assert (made["to"], made["by"], made["until"] - made["since"] - 2 * HOUR_MS < 1_000) == (9, "the API", True)
    [one] = http.get("/v1/limits", params={"function": "t-f"}).json()["data"]
    assert one["settable"] == {"concurrency": 2, "throttle": 3}
    assert one["overrides"] == [made]
    assert refused({"limit": "throttle", "to": 9})[0] == 400
    assert refused({"limit": "throttle", "to": 9, "for": "soon"})[0] == 400
    assert refused({"limit": "rate_limit", "to": 9, "for": "1h"})[0] == 400
    assert refused({"limit": "throttle", "to": 8, "for": "1h", "seen": 0}) == (
        409, "the throttle of function 't-f' was set to 9 by the API meanwhile: look again, then set it"
    )  # fmt: skip
    assert http.post("/v1/functions/none/limits", json={"limit": "throttle", "to": 9, "for": "1h"}).status_code == 404
    took = [http.delete(where, params={"limit": "throttle"}).json()["data"]["was_set"] for _ in range(2)]
    assert took == [True, False]


def test_it_is_set_and_taken_back_in_the_terminal(url: str, store: "redis.Redis") -> None:
    registered(store, "2 at a time")
    words = ("limits", "set", "t-f", "concurrency", "5", "--for", "2h")
    assert "bus limits restore t-f concurrency --key 'a b'" in bus(*words, "--key", "a b", url=url)
    assert "as it declares" in bus("limits", "restore", "t-f", "concurrency", "--key", "a b", url=url)
    assert "bus limits restore t-f concurrency" in bus(*words, url=url)
    assert "concurrency is set to 5 (declared: 2) by bus limits" in bus("limits", url=url)
    assert "as it declares" in bus("limits", "restore", "t-f", "concurrency", url=url)
    assert "was as it declares" in bus("limits", "restore", "t-f", "concurrency", url=url)
    assert "no run holds a place" in bus("limits", "t-f", url=url)


def test_what_is_still_set_for_another_value_is_told_when_a_limit_is_taken_back(
    url: str, http: TestClient, store: "redis.Redis"
) -> None:
    registered(store, "2 at a time")
    words = ("limits", "set", "t-f", "concurrency", "--for", "2h")
    bus(*words, "5", url=url)
    bus(*words, "0", "--key", "a b", url=url)
    assert "no run for a b begins" in bus("top", "--once", url=url)
    told = bus("limits", "restore", "t-f", "concurrency", url=url)
    assert "t-f concurrency: as it declares\n  still 0 for a b, until" in told
    assert "bus limits restore t-f concurrency --key 'a b'" in told
    bus(*words, "5", url=url)
    told = bus("limits", "restore", "t-f", "concurrency", "--key", "a b", url=url)
    assert "t-f concurrency for a b: as for every value\n  still 5 for every value, until" in told
    asked = {"params": {"limit": "concurrency", "key": "a b"}}
    told = http.delete("/v1/functions/t-f/limits", **asked).json()["data"]
    assert (told["was_set"], [one["to"] for one in told["overrides"]]) == (False, [5])


def test_who_may_only_read_sets_no_limit(settings: Settings, store: "redis.Redis") -> None:
    registered(store, "2 at a time")
    keyed = msgspec.structs.replace(settings, api_tokens=("t" * 32,))
    with TestClient(create_app(configured=keyed)) as client:
        answer = client.post("/v1/functions/t-f/limits", json={"limit": "concurrency", "to": 9, "for": "2h"})
    assert answer.status_code == 401
    assert not store.exists(keys.controls())
