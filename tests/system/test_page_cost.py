"""What a page costs Redis: commands that do not grow with the number of functions, nor with that of browsers."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import httpx2
import pytest
import redis

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.checkpoint.read.lists import search
from stepstream.web.app import Site
from stepstream.web.live import feed
from stepstream.web.live.feed import ALL, Watcher, feed_of
from stepstream.web.pages.csrf import COOKIE
from tests.patience import PATIENT_S
from tests.support import sent

FUNCTIONS, MOST, BROWSERS = 50, 40, 20
PAGES = ["/", "/runs", "/runs?status=failed", "/events", "/event-names/t/7", "/functions", "/functions/t-7", "/limits",
         "/schedules", "/workers", "/errors", "/apps", "/system", "/search?q=t-"]  # fmt: skip
OPEN = ["/", "/runs", "/runs?status=failed", "/runs?key=a", "/runs/{run}", "/functions", "/functions/t-1", "/workers",
        "/errors", "/limits", "/schedules", "/events"]  # fmt: skip
"""Pages that people leave open."""


def make(store: "redis.Redis", functions: int) -> None:
    """Make functions that have limits and a schedule, workers, runs of each kind, minutes and errors."""
    pipeline: Any = cast("Any", store).pipeline(transaction=False)
    now = time.time_ns() // 1_000_000
    for n in range(functions):
        slug, name = f"t-{n}", f"t/{n}"
        declared = {"bus": "t", "id": str(n), "name": slug, "slug": slug, "on": [name, "cron 0 3 * * *"], "retries": 4,
                    "events": [name], "code": "x", "flow": ["2 at a time per event.data.of"]}  # fmt: skip
        pipeline.hset(keys.functions(), slug, json.dumps(declared))
        pipeline.zadd(keys.event_names(), {name: now})
        pipeline.xgroup_create(keys.events(name), slug, "0", mkstream=True)
        pipeline.zadd(keys.workers(), {f"box-{n}": now + 9_000})
        pipeline.hset(keys.worker(f"box-{n}"), mapping={"seen": now, "since": now, "host": "box"})
        for status in ("queued", "running", "failed"):
            run = run_id(slug, "test", status, now)
            pipeline.hset(keys.run(slug, run), mapping={"status": status, "queued": now, "holds": "c0:a\nc0:b"})
            pipeline.pexpire(keys.run(slug, run), 60_000)
            pipeline.zadd(keys.runs(slug, status), {run: now})
        pipeline.zadd(keys.backlog(slug, "c0:a"), {run: now})
        pipeline.zadd(keys.full(slug), {"c0:a": now})
        pipeline.zadd(keys.places(slug, "c0:a"), {run: now})
        for minute in range(now // 60_000 - 2, now // 60_000):
            pipeline.hset(keys.minute(slug, minute), mapping={"started:1": 3, "failed:2": 1, "e:0123456789ab": 1})
        pipeline.hset(keys.errors(slug), mapping={"0123456789ab": '{"name":"Lost"}', "0123456789ab last": now})
    pipeline.execute()


@pytest.fixture
async def asked(settings: Settings) -> AsyncGenerator[tuple[Site, httpx2.AsyncClient]]:
    site = create_app(configured=settings)
    transport = httpx2.ASGITransport(app=site)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield site, http
    await site.close()


async def take(http: httpx2.AsyncClient, path: str) -> str:
    """Take a page again, as one that is open does."""
    answer = await http.get(path, headers={"hx-request": "true"})
    assert answer.status_code in (200, 204), answer.text
    return answer.text


async def test_no_page_sends_more_commands_than_forty_with_fifty_functions(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis"
) -> None:
    _, http = asked
    make(store, FUNCTIONS)
    over: dict[str, list[str]] = {}
    for path in PAGES:
        await take(http, path)  # scripts are loaded, and minutes that are over are read
        with sent(store) as commands:
            await take(http, path)
        if len(commands) > MOST:
            over[path] = commands
    assert not over


@pytest.mark.parametrize("path", OPEN)
async def test_a_change_costs_twenty_browsers_what_it_costs_one(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis", monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    site, http = asked
    make(store, 2)
    monkeypatch.setattr(feed, "EVERY_S", 0.02)
    monkeypatch.setattr(feed, "TICK_S", 3_600)
    run = store.zrange(keys.runs("t-1", "failed"), 0, 0)[0]
    tops = [""]
    if (
        path.startswith("/runs") and "{run}" not in path
    ):  # each has another run as its first, as of pages opened in turn
        ids = re.findall(r'id="run-(\w+)"', await take(http, path))
        tops = [f"{'&' if '?' in path else '?'}top={ulid_ms(one)}-{one}" for one in ids]
        assert len(tops) > 1
    paths = [path.replace("{run}", run) + top for top in tops]
    costs = {browsers: await _change(site, http, store, browsers, paths) for browsers in (1, BROWSERS)}
    # The feed looks meanwhile, on a slow machine more often, and a read that falls into one tick with its own is part of
    # its script. Each browser by itself would send each command again.
    assert (costs[BROWSERS][0] - costs[1][0]).total() < BROWSERS // 2, costs
    assert costs[BROWSERS][1] - costs[1][1] < BROWSERS // 2, costs


def queued(store: "redis.Redis", count: int, *, rare: int = 0) -> list[str]:
    """Make runs that failed, newest first; each `rare`th failed of another error than most. Return their places."""
    pipeline: Any = cast("Any", store).pipeline(transaction=False)
    now = time.time_ns() // 1_000_000 - 1_000
    places: list[str] = []
    for n in range(count):
        at, error = now - n, "Rare" if rare and n % rare == 0 else "Lost"
        run = run_id("t-1", "test", f"old{n}", at)
        stored = {"status": "failed", "queued": at, "error": f'{{"name":"{error}","message":"m"}}'}
        pipeline.hset(keys.run("t-1", run), mapping=stored)
        pipeline.pexpire(keys.run("t-1", run), 60_000)
        pipeline.zadd(keys.runs("t-1", "failed"), {run: at})
        places.append(f"{at}-{run}")
    pipeline.execute()
    return places


@pytest.mark.parametrize("path", ["/runs?", "/runs?status=failed&", "/runs?error=Lost&"])
async def test_pages_above_which_more_have_come_than_are_counted_are_read_in_turns(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis", monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    site, http = asked
    make(store, 2)
    places = queued(store, 400)
    monkeypatch.setattr(feed, "EVERY_S", 0.02)
    monkeypatch.setattr(feed, "TICK_S", 3_600)
    far = [f"{path}top={place}" for place in places[200 : 200 + BROWSERS]]
    with sent(store) as commands:
        assert (await http.get(far[0])).status_code == 200  # one that is loaded never waits for its turn
    alone = feed.ALONE * len(commands)
    cost = await _change(site, http, store, BROWSERS, far)
    assert cost[0].total() + cost[1] < alone < BROWSERS * len(commands), (cost, commands)


async def test_an_open_page_whose_turn_has_not_come_stays_as_it_is_and_one_that_is_loaded_never_waits(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    site, http = asked
    make(store, 2)
    monkeypatch.setattr(feed, "TICK_S", 3_600)
    far = [f"/runs?top={place}" for place in queued(store, 400)[200:220]]
    async with feed_of(await _wire(site, http)).watch(ALL):
        status = [(await http.get(path, headers={"hx-request": "true"})).status_code for path in far]
        assert status == [200] * feed.ALONE + [204] * (len(far) - feed.ALONE)
        loaded = await http.get(far[-1])
        assert "100+ new" in loaded.text
        assert far[-1].partition("-")[2] in loaded.text


async def test_a_page_whose_look_ended_at_its_bound_is_not_looked_for_once_more(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    _, http = asked
    make(store, 2)
    places = queued(store, 500, rare=120)
    monkeypatch.setattr(search, "MOST_BYTES", 1)  # it ends with the first window: 100 runs of the page, 302 of all
    await take(http, "/runs?error=Rare")
    for top, shown, new in ((places[0], 3, ""), (places[120], 2, "1 new")):
        with sent(store) as commands:
            text = await take(http, f"/runs?error=Rare&top={top}")
        assert re.findall(r'id="run-(\w+)"', text) == [one.partition("-")[2] for one in places[0:360:120]][-shown:]
        assert new in text
        assert Counter(commands)["EVALSHA"] == 2, "one looks at runs, one has the lines of those that match"
        older = re.findall(r'href="([^"]*cursor=[^"]*)"', text)[0].replace("&amp;", "&")
        assert re.findall(r'id="run-(\w+)"', await take(http, older)) == [places[360].partition("-")[2]]


async def test_the_browsers_that_share_a_page_have_tokens_of_their_own(
    asked: tuple[Site, httpx2.AsyncClient], store: "redis.Redis"
) -> None:
    site, http = asked
    make(store, 2)
    async with feed_of(await _wire(site, http)).watch(ALL):
        pages: list[str] = []
        for token in ("a" * 32, "b" * 32):
            headers = {"hx-request": "true", "cookie": f"{COOKIE}={token}"}
            pages.append((await http.get("/functions/t-1", headers=headers)).text)
            assert f'name="token" value="{token}"' in pages[-1]
        http.cookies.clear()
        new = await http.get("/functions/t-1", headers={"hx-request": "true"})
        assert new.cookies[COOKIE] in new.text
        whole = await http.get("/functions/t-1")
        assert COOKIE not in whole.cookies, "it has its token"
        assert f'name="token" value="{http.cookies[COOKIE]}"' in whole.text
        elsewhere = await http.get("/apps", headers={"hx-request": "true", "host": "127.0.0.1:8288"})
        assert "http://127.0.0.1:8288" in elsewhere.text, "what is told of the host is that of who asks"
    once = [re.findall(r'name="(?:once|request)" value="([^"]+)"', page) for page in pages]
    assert not any("form_token" in page or "-once" in page for page in [*pages, whole.text]), "no mark is sent"
    assert len({*once[0], *once[1]}) == len(once[0]) + len(once[1]) > 2, "each button acts once, for each browser"


async def _wire(site: Site, http: httpx2.AsyncClient) -> Any:
    await take(http, "/")
    return site.state.store.wire


async def _change(
    site: Site, http: httpx2.AsyncClient, store: "redis.Redis", browsers: int, paths: Sequence[str]
) -> tuple[Counter[str], int]:
    """Return the commands that are sent for a page, and how many scripts, when a change is seen by so many."""
    for path in paths:
        await take(http, path)
    wire = site.state.store.wire

    async def look(n: int, watcher: Watcher) -> None:
        while not (await watcher.next()).changed:
            pass
        await take(http, paths[n % len(paths)])

    async with AsyncExitStack() as stack, asyncio.timeout(PATIENT_S):
        mine = feed_of(wire)
        watchers = [await stack.enter_async_context(mine.watch(ALL)) for _ in range(browsers)]
        while ALL not in mine._words:
            await asyncio.sleep(0.005)
        looking = [asyncio.create_task(look(*one)) for one in enumerate(watchers)]
        with sent(store) as commands:
            store.zadd(keys.runs("t-1", "waiting"), {f"x{browsers}": 1})
            await asyncio.gather(*looking)
    mine = Counter(commands)
    looks = mine.pop("HKEYS")  # the feed's, but for those of the page: each is followed by a script, the pulses
    del mine["ZREM"]  # it begins each write, to prove that the server is a primary
    for one in ("HELLO", "CLIENT", "SCRIPT", "INFO"):  # a connection is opened when it is, by whichever of the two
        mine.pop(one, None)
    scripts = mine.pop("EVALSHA") - looks
    return mine, scripts
