"""`bus cancel` and `bus rerun` of all runs that match: counted first, done with --yes, aborted with Ctrl-C."""

import asyncio
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from stepstream.checkpoint.actions import operations as module
from stepstream.checkpoint.actions.operations import Operation, dry_count, operations
from stepstream.checkpoint.cli.many import _operated
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.read.lists.search import RunQuery
from tests.support import Lab, eventually
from tests.system.test_looking import At
from tests.system.test_operations import count, failing, send, sleeper


async def test_a_count_ends_with_the_command_that_does_it(lab: Lab, tmp_path: Path) -> None:
    ran, at = failing(lab), At(lab, tmp_path)
    await lab.work()
    await send(lab, 6)
    await count(lab, "failed", 6)
    filters = ["--status", "failed", "--where", "event.data.n < 4 && 'a b' != ''"]
    told = await at.bus("rerun", *filters)
    assert "4 runs would be run again; nothing is done yet" in told
    assert len(await operations(lab.wire)) == 0
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:2] == ["bus", "rerun"]
    await send(lab, 2, first=0)  # later than the count: they are not meant
    await count(lab, "failed", 8)
    done = await at.bus(*words[1:])
    assert "4 runs were run again" in done
    assert "4 of 4 run again" in done
    await count(lab, "failed", 12)
    assert ran == {0: 3, 1: 3, 2: 2, 3: 2, 4: 1, 5: 1}
    twice = await at.bus(*words[1:])
    assert "0 runs were run again, 4 were not (4: it has been run again already)" in twice
    assert "4 of these, which have been run again already (--again" in await at.bus(*words[1:-1])
    assert "4 runs were run again" in await at.bus(*words[1:], "--again")


async def test_what_many_did_is_json_for_scripts(lab: Lab, tmp_path: Path) -> None:
    sleeper(lab)
    at = At(lab, tmp_path)
    await lab.work()
    await send(lab, 3)
    await count(lab, "waiting", 3)
    mine = ["cancel", "--function", "test-f", "--status", "waiting"]
    dry = json.loads((await at.bus(*mine, "--json")).splitlines()[-1])
    assert (dry["count"], dry["exact"], dry["kind"], len(dry["sample"])) == (3, True, "cancel", 3)
    assert (dry["query"]["function"], dry["query"]["status"]) == (["test-f"], ["waiting"])
    told = (await at.bus(*mine, "--yes", "--json")).splitlines()
    [over] = [json.loads(line) for line in told if line.startswith("{")]
    assert (over["state"], over["done"], over["failed"]) == ("done", 3, 0)
    assert (await counts(lab.wire, ["test-f"]))["test-f"]["cancelled"] == 3
    assert "no such runs: nothing is done" in await at.bus(*mine, "--yes")
    assert len(await operations(lab.wire)) == 1


async def test_one_run_and_many_are_told_apart(lab: Lab, tmp_path: Path) -> None:
    sleeper(lab)
    at = At(lab, tmp_path)
    await lab.work()
    assert "either the run 'x' or --status" in await at.bus("cancel", "x", "--status", "waiting", code=1)
    assert "either the run 'x' or --yes" in await at.bus("rerun", "x", "--yes", code=1)
    assert "which runs? bus rerun ID, or filters" in await at.bus("rerun", code=1)
    assert "which runs?" in await at.bus("cancel", "--yes", code=1)
    assert "--from 's' is for one run" in await at.bus("rerun", "--from", "s", "--status", "failed", code=1)
    assert "status 'asleep' is not known" in await at.bus("cancel", "--status", "asleep", code=1)
    assert "has ended is not cancelled" in await at.bus("cancel", "--status", "failed", code=1)


@pytest.mark.parametrize("kind", ["cancel", "rerun"])
async def test_ctrl_c_aborts_and_says_what_was_done(
    lab: Lab, kind: module.Kind, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_A_PAGE", 4)
    sleeper(lab) if kind == "cancel" else failing(lab)
    await lab.work()
    await send(lab, 12)
    await count(lab, "waiting" if kind == "cancel" else "failed", 12)
    whole_step, in_hand, go_on = module._step, asyncio.Event(), asyncio.Event()

    async def step_in_hand(wire: Any, at: Operation) -> Operation:
        stepped = await whole_step(wire, at)
        if stepped.done == 8:  # it has done so, and has not written it yet
            in_hand.set()
            await go_on.wait()
        return stepped

    monkeypatch.setattr(module, "_step", step_in_hand)
    dry = await dry_count(lab.wire, kind, RunQuery(functions=("test-f",)))
    doing = asyncio.ensure_future(_operated(lab.wire, dry))
    await in_hand.wait()
    doing.cancel()  # as asyncio.run does at Ctrl-C

    async def aborted() -> bool:
        return [one.state for one in await operations(lab.wire)] == ["aborted"]

    await eventually(aborted, "it is aborted")
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await doing
    [over] = await operations(lab.wire)
    assert (over.state, over.done) == ("aborted", 8)
    assert "aborted: 8 runs were" in capsys.readouterr().err
