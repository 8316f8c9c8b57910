"""`GET /v1/live`: who listens hears what changes on the whole server, also what he has missed, and a hundred cost what one costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import redis

from stepstream import Context, Step
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.errors import errors_of
from stepstream.checkpoint.read.lists.pulse import Pulse, pulse_in
from stepstream.web.live import changes, feed, journal
from stepstream.web.live.journal import Journal
from tests.patience import PATIENT_S
from tests.support import Lab, eventually
from tests.system.test_live import Site, serving

RUN = "01KB0000000000000000000000"
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.01)
    monkeypatch.setattr(feed, "_SHARE", 1)


@pytest.fixture
def functions(store: "redis.Redis") -> None:
    for slug in ("t-f", "t-g"):
        told = {
            "bus": "t",
            "id": slug[2:],
            "name": slug,
            "slug": slug,
            "on": [],
            "events": [],
            "retries": 0,
            "code": "",
        }
        store.hset(keys.functions(), slug, json.dumps(told))


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with serving(settings) as running:
        yield running


async def heard(events: AsyncIterator[Event], kind: str = "changed") -> Event:
    """Return the next event of a kind; comments are passed over, and no other event is."""
    async with asyncio.timeout(PATIENT_S):
        while "comment" in (event := await anext(events)):
            pass
    assert event["event"] == kind, event
    return event


def end_one(store: "redis.Redis", slug: str, status: str = "completed", run: str = RUN) -> None:
    """Let a run be in the index of a status, as of now."""
    store.zadd(keys.runs(slug, status), {run: 1})
    store.expire(keys.runs(slug, status), 60)


async def test_that_runs_begin_end_and_fail_is_told_of_each_function(lab: Lab, site: Site) -> None:
    may_end = asyncio.Event()

    @lab.app.function("f", on="order/paid", retries=0)
    async def f(ctx: Context, step: Step) -> None:
        await may_end.wait()
        raise ValueError("no")

    await lab.work()
    async with site.events("/v1/live") as events:
        assert (await heard(events, "now"))["data"]["at"] > 0
        await lab.send("order/paid")
        while not (told := (await heard(events))["data"])["runs"]["running"]:
            pass
        assert (told["function"], told["ended"], told["error"]) == ("test-f", {}, "")
        may_end.set()
        while not (told := (await heard(events))["data"])["ended"]:
            pass
        assert (told["ended"], told["runs"]["failed"], told["runs"]["running"]) == ({"failed": 1}, 1, 0)
        [group] = await errors_of(lab.wire, ["test-f"])
        assert told["error"] == group.fingerprint


@pytest.mark.usefixtures("functions")
async def test_who_comes_back_hears_what_was_missed(store: "redis.Redis", site: Site) -> None:
    async with site.events("/v1/live") as stays:
        first = await heard(stays, "now")
        end_one(store, "t-f")
        one = await heard(stays)
        end_one(store, "t-g", "failed")
        two = await heard(stays)
        assert [one["data"]["function"], two["data"]["function"]] == ["t-f", "t-g"]
        assert [one["data"]["ended"], two["data"]["ended"]] == [{"completed": 1}, {"failed": 1}]
        for last, expected in ((first, [one, two]), (one, [two])):
            async with site.events("/v1/live", **{"Last-Event-ID": last["id"]}) as again:
                assert [await heard(again) for _ in expected] == expected
        async with site.events(f"/v1/live?after={first['id']}&function=t-g") as mine:
            assert await heard(mine) == two
            end_one(store, "t-f", "failed")
            end_one(store, "t-g", "cancelled")
            assert (await heard(mine))["data"]["function"] == "t-g"


@pytest.mark.usefixtures("functions")
async def test_who_comes_back_too_late_is_told_to_look_anew(store: "redis.Redis", site: Site) -> None:
    async with site.events("/v1/live") as events:
        first = await heard(events, "now")
    for last in (first["id"], "abc-5"):  # nobody has looked meanwhile; another process has told him
        async with site.events("/v1/live", **{"Last-Event-ID": last}) as again:
            gap = await heard(again, "gap")
            assert gap["data"]["code"] == "gap"
            assert gap["id"] != last
            end_one(store, "t-f", run=last)
            assert (await heard(again))["data"]["function"] == "t-f"


@pytest.mark.usefixtures("functions")
async def test_a_function_that_comes_or_goes_is_told(store: "redis.Redis", site: Site) -> None:
    async with site.events("/v1/live") as events:
        await heard(events, "now")
        store.hset(keys.functions(), "t-new", "{}")
        new = (await heard(events))["data"]
        assert (new["function"], set(new["runs"].values()), new["ended"]) == ("t-new", {0}, {})
        store.hdel(keys.functions(), "t-new")
        assert (await heard(events))["data"] | {"at": 0} == {
            "function": "t-new", "at": 0, "runs": None, "ended": {}, "error": "",
        }  # fmt: skip


@pytest.mark.usefixtures("functions")
async def test_a_hundred_cost_redis_what_one_costs(store: "redis.Redis", site: Site) -> None:
    def asked() -> tuple[int, int]:
        stats = store.info("commandstats")
        return stats["cmdstat_hkeys"]["calls"], stats["cmdstat_evalsha"]["calls"]

    limits = httpx2.Limits(max_connections=None)
    async with (
        httpx2.AsyncClient(base_url=site.url, timeout=PATIENT_S, verify=False, limits=limits) as client,
        AsyncExitStack() as all_of_them,
    ):
        for _ in range(100):
            answer = await all_of_them.enter_async_context(client.stream("GET", "/v1/live"))
            assert answer.status_code == 200
        [shared] = feed._feeds.values()
        assert len(shared._watchers) == 100
        looks, scripts = asked()

        async def look_twenty_times() -> bool:
            return asked()[0] >= looks + 20

        await eventually(look_twenty_times, "twenty looks")
        more_looks, more_scripts = asked()
        # a look is one list of functions, and a script for all of them; one look may be half done
        assert abs((more_scripts - scripts) - (more_looks - looks)) <= 2


@pytest.mark.usefixtures("functions")
async def test_it_beats_ends_with_the_server_and_lets_only_so_many_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(feed, "_MOST_WATCHERS", 1)
    async with serving(settings) as site, site.events("/v1/live") as events:
        await heard(events, "now")
        assert "comment" in await anext(events)
        async with httpx2.AsyncClient(base_url=site.url, timeout=PATIENT_S, verify=False) as client:
            crowded = await client.get("/v1/live")
        assert (crowded.status_code, crowded.json()["code"]) == (503, "too_many_listeners")
        site.running.should_exit = True
        assert (await heard(events, "closing"))["data"]["code"] == "closing"
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@pytest.mark.usefixtures("functions")
async def test_what_is_no_place_or_no_function_is_refused(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url, timeout=PATIENT_S, verify=False) as client:
        for path, headers, status, code in (
            ("/v1/live?after=junk", {}, 400, "bad_request"),
            ("/v1/live", {"Last-Event-ID": "5-" + "9" * 20}, 400, "bad_request"),
            ("/v1/live?function=nobody", {}, 404, "function_not_found"),
            ("/v1/live?fn=t-f", {}, 400, "unknown_parameter"),
        ):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await client.head("/v1/live")).status_code == 200


@pytest.mark.usefixtures("functions")
async def test_that_redis_is_away_is_told_to_who_comes_then_too(wire: Wire) -> None:
    mine = feed.feed_of(wire)
    async with mine.watch(feed.ALL) as first:
        mine._tell_all("away")
        async with mine.watch(feed.ALL) as late:
            assert [(await one.next()).error for one in (first, late)] == ["away", "away"]


def test_a_journal_keeps_so_much_and_knows_what_it_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEPT", 3)
    mine = Journal()
    assert mine.since("x-0") is None
    mine.note({"f": b"0 0 0 0 0 0 0 0|"})
    begun = mine.place
    for n in range(1, 6):
        mine.note({"f": b"0 0 0 0 %d 0 0 0|" % n})
    name = begun.removesuffix("-0")
    assert [place for place, _ in mine.since(f"{name}-2") or ()] == [f"{name}-{n}" for n in (3, 4, 5)]
    assert mine.since(mine.place) == []
    assert mine.since(f"{name}-1") is mine.since(f"{name}-6") is mine.since("other-5") is None
    mine.end()
    assert mine.since(f"{name}-5") is None


def test_a_word_says_what_each_partition_has() -> None:
    told = pulse_in(b"3 1 2 0 0 4 0 0 abc@5|0 1 0 0 0 0 0 1|")
    assert told == Pulse(
        {**dict.fromkeys(told.runs, 0), **dict(zip(told.runs, (2, 2, 0, 0, 4, 0, 1), strict=True))}, "abc", 5
    )
