"""Steps that are commands: how they end, what they leave (nothing), and what is kept of what they write."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient

from stepstream import Context, NonRetriable, ProcessFailed, ProcessResult, Step, create_app
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.cli.runs import run as show
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.run.log import tell_log
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.upkeep.audit import audit, mend
from stepstream.consumers.turn.steps import leftovers, process
from tests.patience import PATIENT_S
from tests.support import Lab, WorkerProcess, eventually

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what flees its group is found by /proc")
FLEES = "import os,time; os.setsid(); open(os.environ['PIDS'], 'a').write(f'{os.getpid()}\\n'); time.sleep(3600)"
"""Leaves the group of the command, and would outlive it."""


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def alive(pids: list[int]) -> list[int]:
    """Return those that live, zombies too."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


class Pids:
    """The processes that write their number into a file, one a line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pids"
        self.env = {"PIDS": str(self.path)}

    def all(self) -> list[int]:
        lines = self.path.read_text().split("\n") if self.path.exists() else [""]
        return [int(line) for line in lines[:-1]]

    async def some(self, count: int) -> list[int]:
        async def look() -> list[int] | None:
            return self.all() if len(self.all()) >= count else None

        return await eventually(look, f"{count} processes") or []

    async def gone(self) -> None:
        await eventually(lambda: asyncio.sleep(0, not alive(self.all())), "all of them have ended")


@pytest.fixture
def pids(tmp_path: Path) -> Pids:
    return Pids(tmp_path)


def children() -> set[int]:
    """Return the processes of this one, but those that the tests' own commands are forked from."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found.update(map(int, (task / "children").read_text().split()))
    for pid in list(found):
        try:
            ours = b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            ours = True  # waited for meanwhile
        if ours:
            found.discard(pid)
    return found


@pytest.fixture(autouse=True)
def _no_zombie_and_no_open_file(url: str) -> Any:  # the connections of the session are open by then
    files, before = len(os.listdir("/proc/self/fd")), children()
    yield
    left = children() - before
    assert not [Path(f"/proc/{pid}/stat").read_text()[:60] for pid in left], "a child was left, or not waited for"
    assert len(os.listdir("/proc/self/fd")) <= files + 2, "files were left open"


async def ran(lab: Lab, *commands: Any, **how: Any) -> Run:
    """Run commands one after the other, each a step, and return the run."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> list[ProcessResult]:
        return [await step.subprocess(f"s{n}", command, **how) for n, command in enumerate(commands)]

    await lab.work()
    await lab.send("a")
    return await lab.one()


async def lines(lab: Lab, run: Run) -> list[tuple[str, str]]:
    """Return what is in a run's log: source and text."""
    return [(line.source, line.text) for line in (await log_of(lab.wire, run.function, run.id)).lines]


async def test_a_command_is_a_step_with_its_code_and_its_outputs(lab: Lab) -> None:
    results: list[ProcessResult] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> int:
        done = await step.subprocess("s", sh("cat; echo oops >&2; echo $EXTRA $STEPSTREAM_STEP; pwd"), stdin="in\n",
                                     env={"EXTRA": "more"}, cwd="/")  # fmt: skip
        results.append(done)
        await step.sleep("nap", 0.4)  # long enough to suspend: what comes then is a replay
        return done.code

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.status == "completed", run.error
    assert results == [ProcessResult(0, "in\nmore s\n/\n", "oops\n")] * 2
    assert sorted(await lines(lab, run)) == [("err", "oops"), ("out", "/"), ("out", "in"), ("out", "more s")]


@pytest.mark.parametrize(
    ("command", "how", "name", "told", "code", "by"),
    [
        (sh("echo so; echo bad >&2; exit 3"), {}, "exit_code", "exit code 3; its last line: bad", 3, ""),
        (sh("kill -SEGV $$"), {}, "killed", "killed by SIGSEGV", None, "SIGSEGV"),
        (["no-such-command"], {}, "not_started", "command not found: 'no-such-command' is in no folder of PATH", None, ""),
        (["/no/such"], {}, "not_started", "command '/no/such': No such file or directory", None, ""),
        (["/etc/passwd"], {}, "not_started", "command '/etc/passwd': Permission denied", None, ""),
        (["true"], {"cwd": "/no/folder"}, "not_started", "cwd '/no/folder': No such file or directory", None, ""),
        (["true", "x" * 3_000_000], {}, "not_started", "the system cannot start it", None, ""),
        (sh("echo so; sleep 3600"), {"timeout": 2}, "timeout", "not done within 2 s: it was ended; its last line: so", None, "SIGTERM"),
    ],
)  # fmt: skip
async def test_how_a_command_ended_is_in_the_error_also_in_a_replay(
    lab: Lab, command: list[str], how: dict[str, Any], name: str, told: str, code: int | None, by: str
) -> None:
    caught: list[ProcessFailed] = []

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        try:
            await step.subprocess("s", command, **how)
        except ProcessFailed as error:
            caught.append(error)
        await step.sleep("nap", 0.4)  # long enough to suspend, however slow the machine

    await lab.work()
    await lab.send("a")
    assert (await lab.one()).status == "completed"
    assert len(caught) == 2
    for error in caught:
        assert (error.step, error.name, error.exit_code, error.signal) == ("s", name, code, by)
        assert told in error.message
    assert caught[0].output == ("so\nbad" if code == 3 else "so" if how.get("timeout") else "")


async def test_a_command_is_tried_again_and_its_last_failure_is_the_runs(lab: Lab, tmp_path: Path) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        from stepstream import Retry

        await step.subprocess("s", sh("echo $STEPSTREAM_ATTEMPT; exit 1"), retries=Retry(2, backoff=0.01))

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert (run.status, run.error.name) == ("failed", "exit_code")
    assert run.error.message == "step 's': exit code 1; its last line: 2"
    assert run.error.process is not None
    assert run.error.process.code == 1
    said = await lines(lab, run)
    assert [line for line in said if line[0] != "bus"] == [("out", "0"), ("out", "1"), ("out", "2")]
    assert [text.partition(":")[0] for source, text in said if source == "bus"] == [
        "attempt 1 failed", "attempt 2 failed", "attempt 3 failed",
    ]  # fmt: skip


async def test_codes_that_are_an_answer_are_no_failure(lab: Lab) -> None:
    run = await ran(lab, sh("exit 1"), sh("exit 0"), ok=(0, 1))
    assert run.status == "completed", run.error
    assert b'"code":1' in bytes(run.output or b"")


@pytest.mark.parametrize(
    ("command", "how", "told"),
    [
        ("ls -l", {}, "must be a list of words, got 'ls -l'; for a shell write ['sh', '-c', '…']"),
        ([], {}, "must be a list of words"),
        (["a\0b"], {}, "must be text without NUL"),
        (["a", 5], {}, "5 must be text"),
        (["a"], {"env": {"X": 5}}, "5 must be text"),
        (["a"], {"stdin": 5}, "stdin must be text or bytes, got int"),
    ],
)
async def test_what_no_system_could_run_is_refused_at_the_call(
    lab: Lab, command: Any, how: dict[str, Any], told: str
) -> None:
    run = await ran(lab, command, **how)
    assert run.error is not None
    assert run.error.name == NonRetriable.__name__
    assert told in run.error.message


# -- nothing of it outlives the step ------------------------------------------------------------------------------------


def tree(pids: Pids) -> list[str]:
    """A command that ignores SIGTERM, with a child, and a grandchild that has fled into a session of its own."""
    return sh(
        f"trap '' TERM; echo $$ >> $PIDS; sh -c 'trap \"\" TERM; echo $$ >> $PIDS; sleep 3600; sleep 3600' & "
        f'{sys.executable} -c "{FLEES}" & wait; sleep 3600'
    )


@LINUX
@pytest.mark.parametrize("way", ["timeout", "cancel", "drain", "given up", "lease"])
async def test_a_command_ends_whole_whatever_ends_its_step(
    lab: Lab, settings: Settings, pids: Pids, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.3)

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> str:
        limit = 0.6 if way == "timeout" else None
        running = asyncio.create_task(step.subprocess("s", tree(pids), env=pids.env, timeout=limit))
        if way != "given up":
            await running
        await step.run("begun", pids.some, 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return str(alive(pids.all()))

    lab.settings = Settings(redis_url=settings.redis_url, lease_ms=1_000, drain_ms=200)
    worker = await lab.work()
    await lab.send("a")
    await pids.some(3)
    run = await lab.first()
    if way == "cancel":
        await cancel(lab.wire, run, "enough")
    elif way == "drain":
        worker.stop()
        await lab.no_turns(worker)
        assert not alive(pids.all()), "another may have the run only when nothing of it is left"
        await cancel(lab.wire, run, "enough")
        await lab.work()
    elif way == "lease":
        assert worker._assembly is not None
        for executor in worker._assembly.executors:
            executor.abandon(lambda _: True)
        await pids.gone()
        await cancel(lab.wire, run, "enough")
    found = await lab.one()
    if way == "given up":
        assert found.output is not None
        assert bytes(found.output) == b'"[]"'
    assert not alive(pids.all())


@LINUX
async def test_what_a_command_leaves_running_is_ended_and_told_of(lab: Lab, pids: Pids) -> None:
    """A grandchild that held the output open hung the step for as long as it lived."""
    run = await ran(lab, sh("(echo early; sleep 3600) & sleep 0.2; echo done"), env=pids.env)
    assert run.status == "completed", run.error
    assert [text for _, text in await lines(lab, run)][-1].startswith("processes it left running were ended: ")


@pytest.mark.process
@LINUX
def test_a_command_ends_when_its_worker_is_killed(url: str, tmp_path: Path) -> None:
    environ = {"PIDS": str(tmp_path / "pids"), "CHAOS_JOURNAL": str(tmp_path / "journal"), "BUS_LEASE": "1"}
    pids = Pids(tmp_path)
    with WorkerProcess("tests.system.process_app:app", url, log=tmp_path / "log", environ=environ) as worker:
        worker.wait_ready()
        from tests.system.test_commands import bus

        bus("send", "tree", url=url)
        until = time.monotonic() + PATIENT_S
        while len(pids.all()) < 3:
            assert time.monotonic() < until, worker.log.read_text()
            time.sleep(0.02)
        assert len(alive(pids.all())) == 3
        worker.signal(signal.SIGKILL)
        worker.process.wait()
        while alive(pids.all()):
            assert time.monotonic() < until, "its command lives on"
            time.sleep(0.02)


@LINUX
async def test_a_command_ends_when_its_supervisor_is_killed(lab: Lab, pids: Pids) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.subprocess("s", sh("echo $$ >> $PIDS; sleep 3600; true"), env=pids.env)

    before = children()
    await lab.work()
    await lab.send("a")
    await pids.some(1)
    [supervisor] = children() - before
    os.kill(supervisor, signal.SIGKILL)
    run = await lab.one()
    assert run.error is not None
    assert "its supervisor was killed" in run.error.message
    await pids.gone()


# -- what it writes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("printf 'no newline'", [("out", "no newline")]),
        ("printf '1%%\\r2%%\\r\\n3'", [("out", "1%"), ("out", "2%"), ("out", "3")]),
        ("printf 'a\\377\\000b\\n'", [("out", "a\ufffd\0b")]),
        ("exec >&-; sleep 0.1; echo on >&2", [("err", "on")]),
        ("exec >&- 2>&-; sleep 0.1", []),
        ("true", []),
    ],
)
async def test_whatever_a_command_writes_is_kept_in_lines(lab: Lab, script: str, kept: list[tuple[str, str]]) -> None:
    run = await ran(lab, sh(script))
    assert run.status == "completed", run.error
    assert await lines(lab, run) == kept


async def test_what_is_kept_of_a_flood_is_its_end(lab: Lab) -> None:
    """The result has the last 16 KiB, the log the last lines, and both say how much came before."""
    run = await ran(lab, sh("seq 1 200000; printf 'x%.0s' $(seq 1 30000); echo; printf 'é%.0s' $(seq 1 9000)"))
    assert run.status == "completed", run.error
    [result] = __import__("json").loads(bytes(run.output or b""))
    assert set(result["stdout"]) == {"é"}
    assert 8_190 <= len(result["stdout"]) <= 8_192
    assert result["cut"] == len("".join(f"{n}\n" for n in range(1, 200_001))) + 30_001 + 18_000 - 16_384
    log = await log_of(lab.wire, run.function, run.id)
    assert "é" in log.lines[-1].text
    assert any(line.text.endswith("more characters") for line in log.lines)
    assert max(len(line.text) for line in log.lines) < 2_050
    assert log.dropped + len(log.lines) >= 200_000
    assert sum(len(line.text) for line in log.lines) <= 256 * 1_024


async def test_a_command_that_does_not_read_its_input_ends_all_the_same(lab: Lab) -> None:
    run = await ran(lab, ["true"], sh("head -c 5; exec 0<&-; sleep 0.1"), stdin=b"x" * 1_000_000)
    assert run.status == "completed", run.error


# -- where it is read ---------------------------------------------------------------------------------------------------


async def test_a_runs_log_is_on_its_page_in_the_api_and_in_the_terminal(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ran(lab, sh("seq 2 300; echo '<b>last</b>'"))
    site = create_app(configured=lab.settings)
    async with AsyncClient(transport=ASGITransport(site), base_url="http://localhost") as client:
        whole = (await client.get(f"/v1/runs/{run.id}/log")).json()
        last = (await client.get(f"/v1/runs/{run.id}/log?last=2")).json()
        page = (await client.get(f"/runs/{run.id}", headers={"accept": "text/html"})).text
    await site.close()
    assert [line["text"] for line in whole["data"]] == [*map(str, range(2, 301)), "<b>last</b>"]
    assert {(line["step"], line["from"]) for line in whole["data"]} == {("s0", "out")}
    assert whole["dropped"] == 0
    assert ([line["text"] for line in last["data"]], last["dropped"]) == (["300", "<b>last</b>"], 298)
    assert "&lt;b&gt;last&lt;/b&gt;" in page
    assert "100 lines came before these" in page
    monkeypatch.setenv("BUS_REDIS_URL", lab.settings.redis_url)
    await asyncio.to_thread(show, run.id)
    told = capsys.readouterr().out
    assert f"… 290 lines before these: bus logs {run.id}" in told
    assert "s0  <b>last</b>" in told
    await asyncio.to_thread(show, run.id, 0.0, log=True)
    assert len(capsys.readouterr().out.splitlines()) == 300


async def test_a_log_goes_with_its_run(lab: Lab) -> None:
    """It expires with it; what a thread says after the run's end is kept as long, and nothing once the run is gone."""
    run = await ran(lab, sh("echo one"))
    key = keys.log(run.function, run.id)
    assert 0 < await lab.wire.call("PTTL", key) <= lab.settings.keep_ms
    owned = Owned(run.function, run.id, 1, "x")
    await lab.wire.call("DEL", key)
    tell_log(lab.wire, owned, [b'{"at":1,"from":"out","text":"late"}'], 0)
    assert await lab.wire.call("PTTL", key) > 0
    await lab.wire.call("DEL", keys.run(run.function, run.id), keys.steps(run.function, run.id), key)
    tell_log(lab.wire, owned, [b'{"at":1,"from":"out","text":"too late"}'], 0)
    assert not await lab.wire.call("EXISTS", key)
    await lab.wire.call("ZREM", keys.runs(run.function, "completed"), run.id)


async def test_a_log_keeps_the_newest_lines_and_says_how_many_went(lab: Lab) -> None:
    run = await ran(lab, sh("true"))
    owned = Owned(run.function, run.id, 1, "x")
    for n in range(6):
        tell_log(lab.wire, owned, [b'{"at":1,"from":"out","text":"%d"}' % n] * 500, 7)
    await lab.wire.clock()  # behind them on their connection; what reads has another
    found = await log_of(lab.wire, run.function, run.id)
    assert (len(found.lines), found.dropped) == (2_000, 1_000 + 6 * 7)
    assert (found.lines[0].text, found.lines[-1].text) == ("2", "5")
    tell_log(lab.wire, owned, [b'{"at":1,"from":"out","text":"%s"}' % (b"x" * 2_000)] * 200, 0)
    raw = await lab.wire.call("LRANGE", keys.log(run.function, run.id), 0, -1)
    assert sum(map(len, raw)) <= 256 * 1_024


async def test_a_log_whose_run_is_gone_is_found_by_the_audit(lab: Lab) -> None:
    run = await ran(lab, sh("echo one"))
    orphan = keys.log(run.function, run.id[:-1] + ("X" if run.id[-1] != "X" else "Y"))
    await lab.wire.call("RPUSH", orphan, "x")
    [fault] = [one for one in await audit(lab.checker) if one.key == orphan]
    assert fault.words == "belongs to no run"
    await mend(lab.wire, fault)


# -- a process inside step.run ------------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize("ends_it", [False, True])
async def test_processes_that_a_step_leaves_when_it_is_cut_off_are_told_of(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, ends_it: bool
) -> None:
    """A body that begins a process itself and is cut off at its timeout left it at work, unseen."""
    monkeypatch.setattr(leftovers, "_LOOK_AFTER_S", 0.1)
    processes: list[asyncio.subprocess.Process] = []

    async def body() -> None:
        processes.append(await asyncio.create_subprocess_exec("sleep", "3600"))
        try:
            await processes[0].wait()
        finally:
            if ends_it:
                processes[0].kill()

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("s", body, timeout=2)

    def told() -> list[dict[str, Any]]:
        return [notice.fields for notice in lab.notices if "left running" in notice.event]

    await lab.work()
    await lab.send("a")
    assert (await lab.one()).status == "failed"
    if ends_it:
        await processes[0].wait()
        await asyncio.sleep(0.2)
        assert not told()
    else:
        await eventually(lambda: asyncio.sleep(0, told()), "it is told of")
        assert told()[0]["step"] == "s"
        assert told()[0]["processes"] == [f"{processes[0].pid} sleep 3600"]
        processes[0].kill()
        await processes[0].wait()
