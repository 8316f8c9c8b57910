"""Commands that look at what there is, follow it and act on it, as a person types them beside a worker."""

import asyncio
import json
import os
import pty
import signal
import tty
from pathlib import Path

from stepstream import Context, Step
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import Lab, eventually
from tests.system.test_commands import bus

STEERS = "\x1b]0;owned\x07\x1b[31mred\x9b2J"


class At:
    """The commands of a test, which go to its server while its workers work."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.url = lab.settings.redis_url
        self._folder = folder

    async def bus(self, *words: str, code: int = 0) -> str:
        return await asyncio.to_thread(bus, *words, url=self.url, code=code)

    async def json(self, *words: str, code: int = 0):
        return json.loads(await self.bus(*words, "--json", code=code))

    def begin(self, *words: str, out: Path | None = None) -> Forked:
        environ = {**os.environ, "BUS_REDIS_URL": self.url, "TERM": "xterm", "COLUMNS": "100"}
        return Forked(*words, env=environ, out=out or self.out, err=self._folder / "err")

    @property
    def out(self) -> Path:
        return self._folder / "out"

    @property
    def err(self) -> str:
        return (self._folder / "err").read_text()

    async def printed(self, what: str) -> None:
        async def look() -> bool:
            return self.out.exists() and what in self.out.read_text()

        await eventually(look, f"{what} is printed")


def asks(lab: Lab) -> None:
    @lab.app.function("ask", on="order/placed")
    async def ask(ctx: Context[dict], step: Step) -> str:
        await step.run("reserve", lambda: 1)
        ctx.logger.warning("reserved")
        answer = await step.wait_for_signal("answer", f"go/{ctx.event.data['n']}", timeout="1h")
        ctx.logger.warning("answered")
        return answer["by"]


async def test_a_run_is_followed_to_its_end_and_a_signal_is_sent(lab: Lab, tmp_path: Path) -> None:
    asks(lab)
    at = At(lab, tmp_path)
    await lab.work()
    await lab.send("order/placed", {"n": 1})
    run = await lab.first()
    follows = at.begin("run", run, "--follow")
    await at.printed("waits for signal go/1")
    assert (await at.bus("signal", "go/1", "by=ada")).strip() == run
    assert "no run waits for signal 'go/1'" in await at.bus("signal", "go/1", "by=bob", code=1)
    assert await asyncio.to_thread(follows.wait, PATIENT_S) == 0
    lines = at.out.read_text().splitlines()
    assert "reserve  completed" in "\n".join(lines[:3])
    assert lines[-1].endswith(f"{run}  test-ask  completed")
    assert at.err == ""


async def test_who_stops_following_is_told_nothing(lab: Lab, tmp_path: Path) -> None:
    asks(lab)
    at = At(lab, tmp_path)
    await lab.work()
    await lab.send("order/placed", {"n": 2})
    run = await lab.first()
    follows = at.begin("logs", run, "--follow")
    await at.printed("reserved")
    follows.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(follows.wait, PATIENT_S) == 130
    assert at.err == ""
    assert "reserved" in await at.bus("logs", run)
    assert [line["text"] for line in map(json.loads, (await at.bus("logs", run, "--json")).splitlines())] == [
        "reserved"
    ]
    assert "answered" not in at.out.read_text()
    await at.bus("cancel", run)


async def test_at_a_terminal_the_steps_of_a_run_are_a_tree_that_goes_on(lab: Lab, tmp_path: Path) -> None:
    asks(lab)
    at = At(lab, tmp_path)
    await lab.work()
    await lab.send("order/placed", {"n": 3})
    run = await lab.first()
    master, slave = pty.openpty()
    tty.setraw(slave)
    shown = b""
    try:
        follows = at.begin("run", run, "--follow", out=Path(os.ttyname(slave)))
        while b"go/3" not in shown:
            shown += await asyncio.wait_for(asyncio.to_thread(os.read, master, 65_536), PATIENT_S)
        await at.bus("signal", "go/3", '{"by": "ada"}')
        while b"test-ask  \x1b[32mcompleted" not in shown:
            shown += await asyncio.wait_for(asyncio.to_thread(os.read, master, 65_536), PATIENT_S)
        assert await asyncio.to_thread(follows.wait, PATIENT_S) == 0
    finally:
        os.close(slave)
        os.close(master)
    assert "└── ".encode() in shown
    assert b"waited for signal go/3" in shown


async def test_events_and_what_became_of_them(lab: Lab, tmp_path: Path) -> None:
    asks(lab)
    at = At(lab, tmp_path)
    assert "no events yet" in await at.bus("events")
    await lab.work()
    stored = await lab.send("order/placed", {"n": 4})
    run = await lab.first()
    await lab.status(run, "waiting")  # a moment later, so not in the same millisecond
    await asyncio.sleep(0.002)
    other = await lab.send("nobody/hears", {"text": STEERS})
    listed = await at.bus("events")
    assert listed.index(other.id) < listed.index(stored.id), "newest first"
    assert "\x1b" not in listed
    assert [one["name"] for one in await at.json("events", "--name", "order/placed", "--since", "1h")] == [
        "order/placed"
    ]
    assert "no such events" in await at.bus("events", "--until", "1d")
    assert "since is not a time: 'soon'" in await at.bus("events", "--since", "soon", code=1)
    paged = await at.bus("events", "--limit", "1")
    assert "go on with --cursor" in paged
    cursor = paged.rpartition("--cursor '")[2].partition("'")[0]
    assert stored.id in await at.bus("events", "--limit", "1", "--cursor", cursor)

    shown = await at.bus("event", stored.id)
    assert run in shown
    assert (await at.json("event", stored.id))["event"]["data"] == {"n": 4}
    assert other.id in await at.bus("event", other.id)
    assert "nope" in await at.bus("event", "nope", code=1)

    [queue, placed, nobody] = await at.json("streams")
    assert (queue["kind"], queue["name"], queue["waits"]) == ("queue", "test-ask", 0)
    assert (nobody["name"], nobody["entries"], nobody["readers"]) == ("nobody/hears", 1, [])
    assert [one["function"] for one in placed["readers"]] == ["test-ask"]
    assert "nobody/hears" in await at.bus("streams")
    await at.bus("cancel", run)


async def test_errors_are_listed_resolved_and_muted_and_steer_no_terminal(lab: Lab, tmp_path: Path) -> None:
    @lab.app.function("fails", on="a", retries=0)
    async def fails(ctx: Context[dict], step: Step) -> None:
        ctx.logger.warning(STEERS)
        raise ValueError(STEERS)

    at = At(lab, tmp_path)
    await lab.work()
    assert "no errors that are open" in await at.bus("errors")
    await lab.send("a", {"x": STEERS})
    [run] = await lab.ended()
    [group] = await at.json("errors")
    assert (group["function"], group["name"], group["count"], group["run"]) == ("test-fails", "ValueError", 1, run.id)
    mark = group["fingerprint"]
    every = [
        ("errors",),
        ("run", run.id),
        ("run", run.id, "--json"),
        ("logs", run.id),
        ("events",),
        ("runs",),
        ("errors", "--json"),
    ]
    for words in every:
        printed = await at.bus(*words, code=1 if words[0] == "run" else 0)
        assert not {"\x1b", "\x07", "\x9b"} & set(printed), words
    assert "run again" in await at.bus("errors", "rerun", mark)
    assert "no group" in await at.bus("errors", "rerun", "nothing", code=1)
    assert f"{mark}  resolved  (test-fails)" in await at.bus("errors", "resolve", mark)
    assert "no errors that are open" in await at.bus("errors")
    assert "muted" in await at.bus("errors", "mute", mark[:8], "--for", "2h")
    assert [one["state"] for one in await at.json("errors", "--state", "muted")] == ["muted"]
    assert "bus errors --state all lists them" in await at.bus("errors", "reopen", "nothing", code=1)
    assert "--state 'bad' is not known" in await at.bus("errors", "--state", "bad", code=1)
    assert "'test-fals' is not registered; there are test-fails" in await at.bus(
        "errors", "--function", "test-fals", code=1
    )


async def test_an_event_is_triggered_as_one_starts_a_script(lab: Lab, tmp_path: Path) -> None:
    got: list[dict] = []

    @lab.app.function("sync-press", on="sync/press")
    async def sync_press(ctx: Context[dict], step: Step) -> None:
        got.append(ctx.event.data)

    at = At(lab, tmp_path)
    await lab.work()
    told = await at.json("trigger", "sync:press", "--limit=50", "--force", "--only=le monde", "--wait", "20")
    assert [one["status"] for one in told["runs"]] == ["completed"]
    assert got == [{"limit": 50, "force": True, "only": "le monde"}]
    assert "did you mean sync/press?" in await at.bus("trigger", "sync:pres")
    assert "'50' is no flag; write --name, or --name=value" in await at.bus(
        "trigger", "sync:press", "--limit", "50", code=1
    )


async def test_top_and_workers_tell_what_goes_on(lab: Lab, tmp_path: Path) -> None:
    asks(lab)
    at = At(lab, tmp_path)
    assert "no functions yet" in await at.bus("top")
    assert "no workers; start one" in await at.bus("workers")
    worker = await lab.work()
    await lab.send("order/placed", {"n": 5})
    run = await lab.first()
    await lab.status(run, "waiting")
    shown = await at.bus("top", "--once")
    assert "test-ask" in shown
    assert worker.name in shown
    told = await at.json("top")
    [busy] = told["functions"]
    assert (busy["function"], busy["workers"], busy["waiting"], busy["running"]) == ("test-ask", 1, 1, 0)
    [one] = await at.json("workers")
    assert (one["name"], one["alive"]) == (worker.name, True)
    assert worker.name in await at.bus("workers")
    await at.bus("cancel", run)
