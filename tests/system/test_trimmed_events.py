"""An event that its stream has let go of: page, API and command tell what its runs know, and what nobody does."""

import asyncio
import html
import re
from collections.abc import Generator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from stepstream import Batch, Bus, Context, On, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.checkpoint.controls.pauses import pause_event
from stepstream.checkpoint.read.anything import find_anything
from stepstream.checkpoint.read.event.kept import Clue, Kept, find_kept
from stepstream.checkpoint.read.event.story import Part, event_story
from tests.support import Lab, fields
from tests.system.test_commands import bus
from tests.system.test_engine_pages import form

shop = Bus("shop")


@shop.function("ship", on="order/paid")
async def ship(ctx: Context[dict[str, Any]], step: Step) -> int:
    return ctx.event.data["n"]


@shop.function("pack", on="order/paid", batch=Batch(2, "1h"))
async def pack(ctx: Context[dict[str, Any]], step: Step) -> None: ...


@shop.function("large", on=On("order/paid", if_="event.data.n > 100"))
async def large(ctx: Context[dict[str, Any]], step: Step) -> None: ...


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(shop, configured=settings)) as client:
        yield client


async def trimmed(lab: Lab) -> dict[str, str]:
    """Publish two events that end in runs, and let the stream go of them: one has an id of its own, one has ours."""
    lab.app = shop
    await lab.work()
    ids = [(await lab.send("order/paid", {"n": n}, id=own)).id for n, own in ((7, "order/7"), (8, None))]
    await lab.ended(5)  # two of ship, two that are batched, and the batch
    await lab.wire.call("XTRIM", keys.events("order/paid"), "MAXLEN", 0)
    return dict(zip(("own", "ours"), ids, strict=True))


async def forget_ids(lab: Lab, *ids: str) -> None:
    """The memory of ids ends sooner than runs are cut."""
    await lab.wire.call("DEL", *(keys.seen("order/paid", one) for one in ids))


async def told(lab: Lab, kept: Kept) -> dict[str, Part]:
    return {part.function.removeprefix("shop-"): part for part in (await event_story(lab.wire, kept)).functions}


async def test_an_event_its_stream_let_go_of_is_told_by_its_runs(lab: Lab) -> None:
    ids = await trimmed(lab)
    for is_remembered in (True, False):
        for own, n in ((ids["own"], 7), (ids["ours"], 8)):
            kept = await find_kept(lab.wire, own)
            assert (kept.stands, bytes(kept.arrival.event.data)) == (False, b'{"n":%d}' % n)
            parts = await told(lab, kept)
            assert {name: part.kind for name, part in parts.items()} == {
                "ship": "started", "pack": "merged", "large": "condition",
            }  # fmt: skip
            assert (kept.by, kept.arrival.entry[:13].isdecimal()) == (parts["ship"].run, True)
            assert "its stream has let go of it" in kept.note
        if is_remembered:
            await forget_ids(lab, *ids.values())


async def test_a_run_tells_of_its_event_which_nothing_else_finds(lab: Lab) -> None:
    ids = await trimmed(lab)
    await forget_ids(lab, *ids.values())
    batch = next(run for run in await lab.runs() if run.source == "batch")
    for run in await lab.runs():
        if run.id != batch.id:
            await lab.wire.call("DEL", keys.run(run.function, run.id))
    second = await find_kept(lab.wire, ids["ours"], Clue(batch.id))
    assert (bytes(second.arrival.event.data), second.arrival.event.batch) == (b'{"n":8}', None), "not the batch's first"
    parts = await told(lab, second)
    assert {name: part.kind for name, part in parts.items()} == {
        "ship": "gone", "pack": "started", "large": "condition",
    }  # fmt: skip
    assert parts["ship"].words.startswith("not known")
    assert "not known are its entry" in second.note


async def test_what_was_removed_unread_did_not_begin_and_no_worker_is_about_to_read_it(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> None: ...

    @lab.app.function("g", on="a")
    async def g(ctx: Context[Any], step: Step) -> None: ...

    await lab.work()
    await lab.send("a", id="one")
    await lab.ended(2)
    stream = keys.events("a")
    await lab.wire.call("XTRIM", stream, "MAXLEN", 0)
    [run] = [run for run in await lab.runs() if run.function == "test-g"]
    await lab.wire.call("XGROUP", "SETID", stream, "test-g", "0")  # as if g had yet to read it
    await lab.wire.call("DEL", keys.run("test-g", run.id))
    parts = {
        part.function: part.kind for part in (await event_story(lab.wire, await find_kept(lab.wire, "one"))).functions
    }
    assert parts == {"test-f": "started", "test-g": "lost"}


async def test_of_an_event_that_is_not_read_yet_it_is_told_how_many_are_to_be_read(lab: Lab) -> None:
    go = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> None:
        await go.wait()

    await lab.work(concurrency=1)
    await lab.send("a", id="first")
    await lab.first()
    for n in range(300):
        await lab.send("a", id=f"n{n}")
    [part] = (await event_story(lab.wire, await find_kept(lab.wire, "n299"))).functions
    assert part.kind == "unread"
    assert re.search(r"; it has \d+ events of this name to read$", part.words)
    await pause_event(lab.wire, "a", "ann")
    [part] = (await event_story(lab.wire, await find_kept(lab.wire, "n299"))).functions
    assert (part.kind, part.words) == ("paused", "has not begun: events a are paused, by ann")
    go.set()


async def test_of_two_events_with_one_id_a_run_tells_which_is_meant(lab: Lab) -> None:
    lab.app = shop
    await lab.work()
    for n in (1, 2):
        await lab.send("order/paid", {"n": n}, id="same")
        await lab.ended(2 * n + (n == 2))
        await forget_ids(lab, "same")
    runs = [run for run in await lab.runs() if run.function == "shop-ship"]
    assert len(runs) == 2
    for run in runs:
        kept = await find_kept(lab.wire, "same", Clue(run.id))
        assert (kept.stands, b'"n":%s' % bytes(run.output or b"") in bytes(kept.arrival.event.data)) == (True, True)


async def test_page_api_and_command_tell_of_it_and_replay_it(lab: Lab, http: TestClient, url: str) -> None:
    ids = await trimmed(lab)
    own, path = ids["own"], f"/events/{quote(ids['own'], safe='')}"
    [run] = [run for run in await lab.runs() if run.function == "shop-ship" and bytes(run.output or b"") == b"7"]

    def look() -> tuple[str, str, dict[str, Any]]:
        return http.get(f"/runs/{run.id}").text, http.get(f"{path}?run={run.id}").text, http.get(f"/v1{path}").json()

    of_run, page, api = await asyncio.to_thread(look)
    assert f'href="{path}?run={run.id}"' in of_run
    assert "Its stream has let go of it" in page
    assert '{\n  "n": 7\n}' in page.replace("&#34;", '"').replace("&quot;", '"')
    assert (api["data"]["kept_by"], api["data"]["data"]) == (run.id, {"n": 7})
    story = await asyncio.to_thread(lambda: http.get(f"/v1{path}/story?run={run.id}").json()["data"])
    assert (story["kept_by"], "let go of it" in story["note"]) == (run.id, True)
    made = await asyncio.to_thread(lambda: http.get(f"/v1{path}/runs").json()["data"])
    assert {"shop-ship", "shop-pack"} == {one["function_id"] for one in made}
    text = await asyncio.to_thread(bus, "event", own, "--run", run.id, url=url)
    assert "its stream has let go of it" in text
    assert '{"n":7}' in text
    where, sent = form(page, "Replay to shop-ship")
    assert fields(page)["run"] == run.id
    pressed = await asyncio.to_thread(lambda: http.post(where, data=sent, follow_redirects=False))
    begun = pressed.headers["location"].rpartition("/")[2]
    assert bytes((await lab.status(begun, "completed")).output or b"") == b"7"


async def test_an_event_that_nothing_keeps_is_not_found_and_told_as_far_as_it_is_known(
    lab: Lab, http: TestClient
) -> None:
    await lab.send("b", id="lone")
    await lab.wire.call("XTRIM", keys.events("b"), "MAXLEN", 0)

    def look() -> list[Any]:
        return [http.get(f"/v1/events/lone{more}") for more in ("", "/story", "/runs")]

    for answer in await asyncio.to_thread(look):
        assert (answer.status_code, answer.json()["code"]) == (404, "event_not_found")
        assert "it came as b at " in answer.json()["error"]
        assert "its stream has let go of it, and no run keeps it" in answer.json()["error"]


async def test_a_run_that_is_not_of_the_event_is_refused(lab: Lab, http: TestClient) -> None:
    await trimmed(lab)
    run = (await lab.runs())[0].id
    answer = await asyncio.to_thread(lambda: http.get(f"/v1/events/other?run={run}"))
    assert (answer.status_code, f"run {run} is not of it" in answer.json()["error"]) == (404, True)


async def test_the_search_finds_an_event_that_only_its_runs_keep(lab: Lab) -> None:
    ids = await trimmed(lab)
    await forget_ids(lab, *ids.values())
    for own in ids.values():
        found = await find_anything(lab.wire, own)
        assert [(hit.kind, hit.id) for hit in found.found] == [("event", own)]


async def test_the_list_of_a_name_leads_to_an_event_whose_id_is_not_remembered(
    lab: Lab, http: TestClient, url: str
) -> None:
    """An id of one's own is remembered for a day, and its event kept for three: meanwhile its link led nowhere."""
    await lab.send("lone", {"n": 7}, id="order/7")
    await lab.wire.call("DEL", keys.seen("lone", "order/7"))
    await lab.store("lone", {"by": "hand"})
    events = await asyncio.to_thread(lambda: http.get("/v1/events?fields=id,name,entry").json()["data"])
    assert [one["name"] for one in events] == ["lone", "lone"]

    def follow() -> list[int]:
        page = http.get("/event-names/lone").text
        links = [html.unescape(one) for one in re.findall(r'href="(/events/[^"]*)"', page)]
        return [http.get(one).status_code for one in links]

    assert await asyncio.to_thread(follow) == [200, 200]
    for one in events:
        path, asked = f"/v1/events/{quote(one['id'], safe='')}", {"name": one["name"], "entry": one["entry"]}
        told = await asyncio.to_thread(partial(http.get, path, params=asked))
        assert (told.status_code, told.json()["data"]["entry"]) == (200, one["entry"])
        given = ("--name", one["name"], "--entry", one["entry"])
        assert one["id"] in await asyncio.to_thread(partial(bus, "event", one["id"], *given, url=url))
    far = {"name": "lone", "entry": "18446744073709551616-0"}
    wrong = {"entry": "x"}, {"name": "lone", "entry": "x"}, far, {"name": "lone", "entry": "1-1"}
    answers = await asyncio.to_thread(lambda: [http.get("/v1/events/none", params=one) for one in wrong])
    assert [one.status_code for one in answers] == [400, 400, 400, 404]
