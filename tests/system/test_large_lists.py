"""Large lists: what an expression would be too much work for holds nobody up, counts as false, and says why."""

import asyncio
from typing import Any

import httpx2
import pytest

from stepstream import CancelOn, Context, On, Step, create_app
from stepstream.checkpoint.cli.events import event
from stepstream.checkpoint.cli.runs import runs
from stepstream.checkpoint.read.run.log import log_of
from tests.support import Lab, eventually

CONDITION = "event.data.l.all(x, event.data.n == 1)"
"""The event is copied for each member."""
LARGE = {"l": [1] * 10_000, "n": 1}
WHY = "for so large an event it would copy up to 100,"


async def test_an_event_with_a_large_list_starts_nothing_holds_nobody_up_and_its_page_says_why(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was looked at for six seconds, in which the worker did nothing else, and so was its page."""

    @lab.app.function("f", on=On("a", if_=CONDITION))
    async def f(ctx: Context[Any], step: Step) -> int:
        return len(ctx.event.data["l"])

    await lab.work()
    large = await lab.send("a", LARGE)
    await lab.send("a", {"l": [1, 1], "n": 1})
    assert await lab.output() == 2, "only of the small one is it true"
    site = create_app(configured=lab.settings)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as http:
        [part] = (await http.get(f"/v1/events/{large.id}/story")).json()["data"]["functions"]
        page = (await http.get(f"/events/{large.id}", headers={"accept": "text/html"})).text
    await site.close()
    assert part["kind"] == "condition"
    assert WHY in part["words"]
    assert part["words"].endswith("and may 2,000,000; let the publisher send a field that has the answer)")
    assert WHY in page
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    capsys.readouterr()
    await asyncio.to_thread(event, large.id)
    assert WHY in " ".join(capsys.readouterr().out.split())


async def test_a_wait_that_could_not_be_asked_of_an_event_waits_on_and_it_is_told(lab: Lab) -> None:
    """Two lists that are each a few thousand long were compared member by member, for each run that waits."""
    if_ = "event.data.l.all(x, async.data.l.all(y, x + y > 0))"

    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> int:
        came = await step.wait_for_event("w", "b", if_=if_, timeout="1h")
        return len(came.data["l"]) if came else 0

    await lab.work()
    await lab.send("a", {"l": [1] * 2_000})
    run = await lab.first()
    await lab.status(run, "waiting")
    await lab.send("b", {"l": [1] * 2_000})

    async def told() -> list[dict[str, Any]]:
        return [one.fields for one in lab.notices if one.event.startswith("the condition of a wait for an event")]

    [fields] = await eventually(told, "it is told")
    assert (fields["runs"], fields["run"]) == (1, run)
    assert fields["why"].startswith(f"{if_}: for so large an event it would copy up to ")
    await lab.send("b", {"l": [1]})
    assert await lab.output() == 1


async def test_a_wait_that_looks_back_at_what_it_cannot_be_asked_of_says_so_in_the_log_of_its_run(lab: Lab) -> None:
    if_ = "event.data.l.all(x, async.data.l.all(y, x + y > 0))"
    go = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> bool:
        await go.wait()
        return await step.wait_for_event("w", "b", if_=if_, timeout="1h") is not None

    await lab.work()
    await lab.send("a", {"l": [1] * 2_000})
    run = await lab.first()
    await lab.status(run, "running")
    large = await lab.send("b", {"l": [1] * 2_000})
    await lab.send("b", {"l": [1]})
    go.set()
    assert await lab.output() is True
    lines = (await log_of(lab.wire, "test-f", run)).lines
    words = f"could not evaluate {if_} for b {large.id}, and waits on: for so large an event it would copy up to "
    assert any(words in line.text and line.level == "warning" for line in lines), lines


async def test_an_event_that_cannot_be_asked_about_cancels_nothing_and_it_is_told(lab: Lab) -> None:
    if_ = "async.data.l.all(x, async.data.n == event.data.n)"

    @lab.app.function("f", on="a", cancel_on=CancelOn("b", if_=if_))
    async def f(ctx: Context[Any], step: Step) -> None:
        await step.sleep("nap", "1h")

    await lab.work()
    await lab.send("a", {"n": 1})
    run = await lab.first()
    await lab.status(run, "waiting")
    await lab.send("b", LARGE)

    async def told() -> list[dict[str, Any]]:
        return [one.fields for one in lab.notices if one.event.startswith("the condition of a cancellation")]

    [fields] = await eventually(told, "it is told")
    assert (fields["runs"], fields["run"]) == (1, run)
    assert WHY in fields["why"]
    assert (await lab.status(run, "waiting")).status == "waiting"
    await lab.send("b", {"l": [1], "n": 1})
    await lab.status(run, "cancelled")


async def test_who_searches_or_acts_by_a_condition_is_told_of_how_many_runs_it_could_not_be_evaluated(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They counted as not matching, which nobody was told."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[Any], step: Step) -> None:
        await step.sleep("nap", "1h")

    await lab.work()
    for data in (LARGE, {"l": [1], "n": 1}, {"l": [1], "n": 2**70}, {"l": [1], "n": 2}):
        await lab.send("a", data)
    for run in await lab.some(4):
        await lab.status(run.id, "waiting")
    site = create_app(configured=lab.settings)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as http:
        found = (await http.get("/v1/runs", params={"where": CONDITION})).json()
        page = (await http.get("/runs", params={"where": CONDITION}, headers={"accept": "text/html"})).text
        count = (await http.post("/v1/operations/count", json={"kind": "cancel", "query": {"where": CONDITION}})).json()
        made = await http.post("/v1/operations", json={"kind": "cancel", "query": {"where": CONDITION}})
        id = made.json()["data"]["id"]

        async def done() -> dict[str, Any] | None:
            told = (await http.get(f"/v1/operations/{id}")).json()["data"]
            return told if told["state"] == "done" else None

        told = await eventually(done, "the operation is done")
        at = (await http.get(f"/operations/{id}", headers={"accept": "text/html"})).text
    await site.close()
    assert (len(found["data"]), found["looked_at"], found["not_evaluated"]) == (1, 4, 2)
    assert "the condition could not be evaluated for 2: their event is too large" in page
    assert (count["data"]["count"], count["data"]["not_evaluated"]) == (1, 2)
    assert told is not None
    assert (told["done"], told["not_evaluated"]) == (1, 2)
    assert "<dt>Not evaluated</dt>" in at
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    capsys.readouterr()
    await asyncio.to_thread(runs, where=CONDITION)
    assert "where could not be evaluated for 2 of the 4 that were looked at" in capsys.readouterr().err
