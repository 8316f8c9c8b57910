"""What commands say: what there is, what there is not, and what may be meant."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepstream import Concurrency, Context, Step
from stepstream.checkpoint.actions.replay import replay
from stepstream.checkpoint.cli.controls import pause, resume
from stepstream.checkpoint.cli.events import event
from stepstream.checkpoint.cli.limits import limits
from stepstream.checkpoint.cli.runs import runs
from stepstream.checkpoint.limits.told import limits_of
from stepstream.checkpoint.registry import functions
from tests.support import Lab, eventually

Says = Callable[..., Awaitable[str]]


@pytest.fixture
def says(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """Return what calls a command in this process, and returns what it prints."""
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)

    async def said(command: Any, *words: Any, **options: Any) -> str:
        capsys.readouterr()
        await asyncio.to_thread(command, *words, **options)
        printed = capsys.readouterr()
        return printed.out + printed.err

    return said


async def test_a_condition_of_which_nothing_is_true_says_how_many_were_looked_at(lab: Lab, says: Says) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    await lab.send("a", {"total": 5})
    await lab.ended()
    told = await says(runs, where="event.total > 4")
    assert "no such runs: 1 were looked at" in told
    assert "an event has no field total: did you mean event.data.total?" in told
    assert "did you mean" not in await says(runs, where="event.data.total > 9 && event.ts > 0")
    assert "did you mean" not in await says(runs, where="event.data.total > 4")
    assert await says(runs, status=["failed"]) == "no such runs\n"


async def test_an_event_tells_what_became_of_its_runs_and_of_its_replays(lab: Lab, says: Says) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    sent, other = await lab.send("a"), await lab.send("a")
    await lab.ended(2)
    [again] = (await replay(lab.wire, sent.id)).runs
    await lab.ended(3)
    told = await says(event, sent.id)
    assert ", completed\n" in told.partition("started run ")[2]
    assert f"test-f  was replayed as run {again.run}, completed\n" in told
    assert "replayed" not in await says(event, other.id)


async def test_limits_name_who_holds_a_place_and_who_is_first_in_line(lab: Lab, says: Says) -> None:
    go = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=Concurrency(1))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("busy", go.wait)

    await lab.work()
    for _ in range(3):
        await lab.send("a")

    async def look() -> Any:
        lines = [line for one in await limits_of(lab.wire, await functions(lab.wire)) for line in one.lines]
        return lines if lines and lines[0].running and lines[0].waiting == 2 else None

    [line] = await eventually(look, "one runs, two wait")
    told = await says(limits)
    assert line.holders[0] in told
    assert line.oldest in told
    go.set()
    await lab.ended(3)


async def test_letting_one_run_through_says_whether_one_is_in_line(lab: Lab, says: Says) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    await lab.send("a")
    await lab.ended()
    await lab.idle()
    assert "bus resume test-f" in await says(pause, "test-f")
    assert "nothing was in line" in await says(resume, "test-f", one=True)


async def test_who_pauses_events_of_a_name_that_nobody_knows_is_told_so(lab: Lab, says: Says) -> None:
    @lab.app.function("f", on="order/*")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    assert "is the name right?" in await says(pause, event="ordre/placed")
    assert "is the name right?" not in await says(pause, event="order/placed")
