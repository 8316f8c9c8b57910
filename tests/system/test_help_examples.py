"""The examples in the help of commands, with what the commands print."""

import asyncio
import importlib.metadata
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from stepstream import Context, Step
from stepstream.checkpoint.actions.replay import replay
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.cli.runs import run as command
from stepstream.checkpoint.read.lists.search import query_of, search
from stepstream.checkpoint.waits.signals import send_signal
from tests.support import Lab, eventually


def examples() -> Iterator[tuple[str, str]]:
    """Yield the commands whose help has an example for jq, with what jq is given."""
    for entry in importlib.metadata.entry_points(group="bus.commands"):
        for program in re.findall(r"--json \| jq '([^']+)'", inspect.cleandoc(entry.load().__doc__).replace("\n", " ")):
            yield entry.name, program


def taken(found: list[Any], path: str) -> list[Any]:
    """Return what a path of jq names, `.[].data`, in each of these; KeyError where there is no such field."""
    for name, each in re.findall(r"\.(\w*)(\[\])?", path):
        found = [one[name] if name else one for one in found]
        found = [part for one in found for part in one] if each else found
    return found


async def test_what_the_help_gives_to_jq_is_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bus streams --json | jq '.[].readings[]…'`: there was no such field."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        pass

    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    await lab.work()
    await lab.send("a", {"n": 1})
    await lab.ended()
    found = list(examples())
    assert {"streams", "events", "top", "workers", "doctor"} <= {name for name, _ in found}
    commands = {entry.name: entry for entry in importlib.metadata.entry_points(group="bus.commands")}
    for name, program in found:
        capsys.readouterr()
        await asyncio.to_thread(_printed, commands[name].load())
        told = json.loads(capsys.readouterr().out)
        path, _, condition = program.partition(" | select(")
        there = taken([told], path)
        assert there, program
        for field in re.findall(r"\.\w+", condition):
            assert taken(there, field), program


def _printed(command: Any) -> None:
    try:
        command(as_json=True)
    except Exception as ended:  # `bus doctor` has an exit code
        if type(ended).__name__ != "Exit":
            raise


async def test_the_runs_of_a_worker_are_those_that_it_has_in_hand(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bus runs --worker` listed runs that wait, too: they name the worker that had them last."""
    go = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        if ctx.event.data["waits"]:
            await step.wait_for_signal("waits", "s")
        else:
            await step.run("busy", go.wait)

    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    worker = await lab.work()
    await lab.send("a", {"waits": True})
    waits = await lab.first()
    await lab.status(waits, "waiting")
    await lab.send("a", {"waits": False})

    async def look() -> bool:
        return sorted(run.status for run in await lab.runs()) == ["running", "waiting"]

    await eventually(look, "one runs, one waits")

    in_hand = await search(lab.wire, await query_of(lab.wire, [("worker", worker.name)]))
    assert [run.status for run in in_hand.runs] == ["running"]
    had = await search(lab.wire, await query_of(lab.wire, [("worker", worker.name), ("status", "waiting")]))
    assert [run.id for run in had.runs] == [waits]
    go.set()
    assert await send_signal(lab.wire, "s", None) == waits
    await lab.ended(2)


async def test_a_run_says_when_it_was_queued_and_what_it_runs_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        for n in range(30):
            ctx.logger.info("line", n=n)

    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    await lab.work()
    sent = await lab.send("a")
    [first] = await lab.ended()
    again = await rerun(lab.wire, first.id)
    await replay(lab.wire, sent.id)
    runs = {run.source: run.id for run in await lab.ended(3)}

    async def printed(id: str) -> str:
        capsys.readouterr()
        await asyncio.to_thread(command, id)
        return capsys.readouterr().out

    told = await printed(first.id)
    assert re.search(r"\nqueued \d\d-\d\d \d\d:\d\d:\d\d\n", told)
    assert f"before these: bus logs {first.id}" in told
    assert f", a rerun of {first.id}\n" in await printed(again)
    assert ", a replay of its event\n" in await printed(runs["replay"])
