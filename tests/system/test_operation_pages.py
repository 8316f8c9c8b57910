"""The pages of operations: runs are chosen or filtered, counted, confirmed, and watched until they are done."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from stepstream.bus.settings import Settings
from stepstream.checkpoint.actions import operations as module
from stepstream.checkpoint.actions.operations import carry_on, operation, operations
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.read.lists.search import RunQuery
from stepstream.web.app import create_app
from stepstream.web.live import feed
from stepstream.web.live.feed import Topic, feed_of, topic_of
from tests.patience import PATIENT_S
from tests.support import Lab, fields
from tests.system.test_operations import count, failing, left, send, sleeper


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    app = create_app(configured=settings)
    client = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://localhost", headers={"accept": "text/html"}
    )
    async with client:
        yield client
    await app.close()


async def got(site: httpx2.AsyncClient, path: str, status: int = 200) -> str:
    answer = await site.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


async def posted(site: httpx2.AsyncClient, path: str, given: dict[str, str]) -> Any:
    return await site.post(path, data=given)


async def test_runs_that_are_chosen_are_cancelled_once_however_often_the_button_is_pressed(
    lab: Lab, site: httpx2.AsyncClient
) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 4)
    await count(lab, "waiting", 4)
    page = await got(site, "/runs")
    boxes = re.findall(r'type="checkbox" name="run" value="(\w+)" form="chosen"', page)
    assert len(boxes) == 4
    asked = await got(site, f"/operations/new?kind=cancel&run={boxes[0]}&run={boxes[2]}&run={boxes[0]}&run=nope")
    assert "Cancel 3 runs?" in asked
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 0
    form = fields(asked)
    pressed = await asyncio.gather(*(posted(site, "/operations", form) for _ in range(3)))
    assert {answer.status_code for answer in pressed} == {303}
    [where] = {answer.headers["location"] for answer in pressed}
    await posted(site, "/operations", form)
    [made] = await operations(lab.wire)
    while not (made := await operation(lab.wire, made.id)).over:  # another press had it in hand
        await carry_on(lab.wire, made.id, 1.0)
    assert (made.state, made.done, made.failed, made.failures) == ("done", 2, 1, {"it is gone": 1})
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 2
    told = await got(site, where)
    assert 'id="done">2<' in told
    assert "it is gone" in told
    assert "Abort" not in told
    assert "3 runs, chosen one by one" in await got(site, "/operations")


async def test_what_matches_is_counted_confirmed_in_words_and_run_again(lab: Lab, site: httpx2.AsyncClient) -> None:
    ran = failing(lab)
    await lab.work()
    await send(lab, 6)
    await count(lab, "failed", 6)
    page = await got(site, "/runs?status=failed&function=test-f&where=event.data.n+%3C+4")
    links = re.findall(r'href="(/operations/new[^"]*)"', page)
    assert len(links) == 1, "what has failed cannot be cancelled"
    asked = await got(site, links[0].replace("&amp;", "&"))
    assert "Run again 4 runs?" in asked
    assert "Write 4 or test-f to go on" in asked
    form = fields(asked)
    for wrong in ("", "5", "test-g", "4.0", "yes"):
        refused = await posted(site, "/operations", {**form, "confirm": wrong})
        assert refused.status_code == 400
        assert "Nothing has been done" in refused.text
    await send(lab, 2)
    await count(lab, "failed", 8)
    assert await operations(lab.wire) == []
    done = [await posted(site, "/operations", {**form, "confirm": word}) for word in ("4", " test-f ")]
    assert done[0].headers["location"] == done[1].headers["location"]
    await count(lab, "failed", 12)
    assert ran == {0: 3, 1: 3, 2: 2, 3: 2, 4: 1, 5: 1}
    [made] = await operations(lab.wire)
    assert (made.by, made.expected, made.done) == ("the status page", 4, 4)
    asked = await got(site, links[0].replace("&amp;", "&"))
    assert "4 of these have been run again already, and are left out" in asked
    assert 'type="checkbox" name="again"' in asked
    told = await got(site, done[0].headers["location"])
    assert "4 of about 4" in told


async def test_a_count_that_has_grown_is_shown_anew_and_nothing_is_done(lab: Lab, site: httpx2.AsyncClient) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 3)
    await count(lab, "waiting", 3)
    form = fields(await got(site, "/operations/new?kind=cancel&status=waiting"))
    refused = await posted(site, "/operations", {**form, "count": "1", "confirm": "1"})
    assert refused.status_code == 409
    assert "3 runs match now, 1 were confirmed" in refused.text
    assert "Write 3 to go on" in refused.text
    assert await operations(lab.wire) == []


async def test_nothing_to_do_and_nonsense_are_told(lab: Lab, site: httpx2.AsyncClient) -> None:
    sleeper(lab)
    await lab.work()
    assert "there is nothing to be run again" in await got(site, "/operations/new?kind=rerun&status=failed")
    assert "no run is chosen" in await got(site, "/operations/new?kind=cancel", 400)
    assert "no run is chosen" in await got(site, "/operations/new?kind=cancel&status=", 400)
    assert "kind &#39;paint&#39; is not known" in await got(site, "/operations/new?kind=paint&status=failed", 400)
    assert "has ended is not cancelled" in await got(site, "/operations/new?kind=cancel&status=failed", 400)
    assert "there is no operation" in await got(site, "/operations/nope", 404)
    assert "Nothing was cancelled or run again" in await got(site, "/operations")
    form = fields(await got(site, "/operations/new?kind=cancel&run=x"))
    assert (await posted(site, "/operations", {"kind": "cancel", "runs": "x", "once": "1"})).status_code == 403
    assert (await posted(site, "/operations", {**form, "runs": ""})).status_code == 400
    assert (await posted(site, "/operations", {**form, "once": ""})).status_code == 400
    assert await operations(lab.wire) == []


async def test_an_operation_is_aborted_by_a_button(lab: Lab, site: httpx2.AsyncClient) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 3)
    await count(lab, "waiting", 3)
    made = await left(lab, "cancel", RunQuery(functions=("test-f",)))
    page = await got(site, f"/operations/{made.id}")
    assert 'data-topic="op:' in page
    for _ in range(2):
        answer = await posted(site, f"/operations/{made.id}/abort", fields(page))
        assert (answer.status_code, answer.headers["location"]) == (303, f"/operations/{made.id}")
    assert "It was aborted" in await got(site, f"/operations/{made.id}")
    assert (await operation(lab.wire, made.id)).state == "aborted"


async def test_an_open_page_hears_of_each_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.01)
    monkeypatch.setattr(feed, "_SHARE", 1)
    monkeypatch.setattr(feed, "TICK_S", 3_600.0)
    monkeypatch.setattr(module, "_A_PAGE", 2)
    sleeper(lab)
    await lab.work()
    await send(lab, 6)
    await count(lab, "waiting", 6)
    made = await left(lab, "cancel", RunQuery(functions=("test-f",), statuses=("waiting",)))
    topic = Topic(operation=made.id)
    assert topic_of(topic.text) == topic
    async with feed_of(lab.wire).watch(topic) as watcher, asyncio.timeout(PATIENT_S):
        while topic not in feed_of(lab.wire)._words:
            await asyncio.sleep(0.005)
        for _ in range(3):
            await carry_on(lab.wire, made.id, 0.0)
            assert not (await watcher.next()).error
