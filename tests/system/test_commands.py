"""The commands, as a person types them."""

import asyncio
import importlib.metadata
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis

from stepstream import Context, Step
from stepstream.bus.cli import SUMMARIES, announced
from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.wire import keys
from stepstream.checkpoint.cli.acting import cancel, invoke
from stepstream.checkpoint.cli.functions import functions
from stepstream.checkpoint.cli.runs import run, runs
from stepstream.checkpoint.cli.server.checking import check, doctor
from stepstream.producers.cli import send
from tests import forks
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import Lab, ValkeyProcess, WorkerProcess, free_port

ROOT = Path(__file__).parent.parent.parent


def bus(*words: str, url: str = "", code: int = 0, cwd: Path = ROOT, said: str = "", **environ: str) -> str:
    given = {**os.environ, **environ} | ({"BUS_REDIS_URL": url} if url else {})
    done = forks.bus(*words, env=given, cwd=cwd, given=said, timeout=30)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.process
def test_every_command_teaches_itself() -> None:
    command_line = [sys.executable, "-X", "importtime", "-m", "stepstream", "--help"]  # the others are forks
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=PATIENT_S, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    slow = {
        "asyncio",
        "msgspec",
        "redis",
        "rich.console",
        "stepstream.bus.bus",
        "stepstream.checkpoint",
        "stepstream.web",
    }
    assert not imported & slow, "bus --help took two seconds"
    for command in announced():
        assert command in done.stdout
        assert "Usage" in bus(command, "--help")


def test_help_says_of_each_command_what_its_docstring_begins_with() -> None:
    entries = importlib.metadata.entry_points(group="bus.commands")
    assert {entry.name for entry in entries} == set(SUMMARIES)
    for entry in entries:
        assert inspect.cleandoc(entry.load().__doc__).startswith(SUMMARIES[entry.name].removesuffix(".")), entry.name


SERVE = {"dev", "serve", "worker"}
"""Commands that go on until they are ended: they write a log (BUS_LOG_FORMAT=json)."""


def test_every_command_has_json_and_an_example_in_its_help() -> None:
    for entry in importlib.metadata.entry_points(group="bus.commands"):
        command = entry.load()
        assert f"bus {entry.name} " in inspect.cleandoc(command.__doc__), f"bus {entry.name} --help has no example"
        option = inspect.signature(command).parameters.get("as_json")
        assert (option is not None) is (entry.name not in SERVE), f"bus {entry.name} has no --json"


@pytest.mark.process
def test_a_reader_that_has_enough_ends_a_command_quietly() -> None:
    command_line = [sys.executable, "-m", "stepstream", "--help"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_shell_completes_names_and_options() -> None:
    zsh = {"_BUS_COMPLETE": "complete_zsh"}
    assert "List runs, newest first." in bus("", _TYPER_COMPLETE_ARGS="bus ru", **zsh)
    assert "--status" in bus("", _TYPER_COMPLETE_ARGS="bus runs --st", **zsh)
    assert bus("", COMP_WORDS="bus dela", COMP_CWORD="1", _BUS_COMPLETE="complete_bash").strip() == "delayed"
    undetected = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # which is the shell that runs the tests
    assert "_BUS_COMPLETE" in bus("--show-completion", "bash", **undetected)


def test_a_mistyped_command_is_told_what_is_near() -> None:
    assert "Did you mean 'functions'?" in bus("function", code=2)
    for words, told in (
        ("runs --nope 1", "bus: No such option: --nope"),
        ("runs --limit -1", "bus: Invalid value for '--limit'"),
        ("signal x -1", "goes behind --, as in bus signal … -- -1"),
        ("send", "bus: Missing argument 'name' (bus send --help says more)"),
    ):
        said = bus(*words.split(), code=2)
        assert told in said
        assert said.count("\n") == 1, said


def test_a_command_says_what_it_waits_for(tmp_path: Path) -> None:
    """Where Redis hangs, or a firewall drops what is sent, nothing was said for BUS_TIMEOUT."""
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        url = f"redis://:zanzibar@127.0.0.1:{hangs.getsockname()[1]}"
        environ = {**os.environ, "BUS_REDIS_URL": url, "BUS_TIMEOUT": "300"}
        waits = Forked("runs", env=environ, err=tmp_path / "told")
        until = time.monotonic() + PATIENT_S
        while "does not answer" not in ((tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""):
            assert time.monotonic() < until
            assert waits.poll() is None
            time.sleep(0.02)
        waits.kill()
    shown = url.replace("zanzibar", "***")
    assert (tmp_path / "told").read_text() == f"bus: waits for Redis, 300 s at most: {shown}/0 does not answer\n"


@pytest.mark.process
def test_an_event_is_sent_waited_for_and_its_run_looked_at(url: str, tmp_path: Path) -> None:
    app = "tests.chaos.app:app"
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal"), "CHAOS_STEP": "0.01"}
    (tmp_path / "journal").touch()
    assert "no runs yet" in bus("runs", url=url)
    with WorkerProcess(app, url, log=tmp_path / "log", environ=environ) as worker:
        worker.wait_ready()
        sent = json.loads(bus("send", "chaos/five", "n=3", "gift=true", "who=ada", "--wait", "20", "--json", url=url))
        assert [run["status"] for run in sent["runs"]] == ["completed"]
        run = sent["runs"][0]["run"]
        listed = bus("runs", url=url)
        assert run in listed
        assert "completed" in listed
        shown = json.loads(bus("run", run, "--json", url=url))
        assert shown["run"]["event"]["data"] == {"n": 3, "gift": True, "who": "ada"}
        assert [step["id"] for step in shown["steps"]] == ["s0", "s1", "s2", "s3", "s4"]
        assert "s4" in bus("run", run, url=url)
        recorded = bus("run", run, "--export", url=url)
        assert list(json.loads(recorded[: recorded.rindex("}") + 1])["steps"]) == ["s0", "s1", "s2", "s3", "s4"]
        assert "take out what is secret" in recorded
        assert "no function ran for it" in bus("send", "nobody/listens", "--wait", "20", url=url)
        assert "no function listens to it; did you mean chaos/five?" in bus("send", "chaos/fiv", url=url)
        worker.signal(signal.SIGTERM)
        assert worker.process.wait(PATIENT_S) == 0


def test_what_makes_no_sense_is_told_in_one_line_with_the_way_out(url: str, tmp_path: Path) -> None:
    assert "no run 'nope'" in bus("run", "nope", url=url, code=1)
    assert "no such runs" in bus("runs", "--status", "waiting", url=url)
    assert "status 'asleep' is not known" in bus("runs", "--status", "asleep", url=url, code=1)
    assert "neither a JSON object nor key=value" in bus("send", "a", "oops", url=url, code=1)
    assert "reserved" in bus("send", "bus/x", url=url, code=1)
    assert "not module:attribute" in bus("worker", "nonsense", url=url, code=1)
    assert "no module 'nowhere'" in bus("worker", "nowhere:app", url=url, code=1)
    assert "did you mean tests.chaos.app:app?" in bus("worker", "tests.chaos.app:five", url=url, code=1)
    assert "BUS_LEASE" in bus("runs", url=url, code=1, BUS_LEASE="0.1")
    assert "did you mean BUS_LEASE" in bus("runs", url=url, BUS_LEASES="3")
    assert "without keys" in bus("serve", "--host", "0.0.0.0", url=url, code=1)
    (tmp_path / "empty.py").write_text("from stepstream import Bus\napp = Bus('empty')\n")
    assert "no function is declared" in bus("worker", "empty:app", url=url, code=1, cwd=tmp_path)


class Dev:
    """`bus dev` in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        environ = {name: value for name, value in os.environ.items() if name != "BUS_REDIS_URL"}
        (folder / "shop.py").write_text(SHOP)
        self.process = Forked("dev", "shop:app", "--port", str(port), cwd=folder, env=environ, err=folder / "log")

    def get(self, path: str) -> dict:
        until = time.monotonic() + PATIENT_S
        while True:
            try:
                with urllib.request.urlopen(self.url + path, timeout=PATIENT_S) as answer:
                    return json.load(answer)
            except OSError:
                assert time.monotonic() < until
                assert self.process.poll() is None
                time.sleep(0.05)

    def until(self, path: str, look) -> dict:
        until = time.monotonic() + PATIENT_S
        while not look(found := self.get(path)):
            assert time.monotonic() < until, found
            time.sleep(0.05)
        return found

    def output(self, run: str) -> object:
        return self.get(f"/v1/runs/{run}")["data"].get("output")

    def publish(self, name: str) -> None:
        urllib.request.urlopen(f"{self.url}/e/x", json.dumps({"name": name}).encode(), timeout=PATIENT_S).close()


SHOP = """
from stepstream import Bus

app = Bus("shop")


@app.function("greet", on="hello")
async def greet(ctx, step):
    await step.sleep("nap", 0.5)
    return "version one"
"""


@pytest.mark.process
def test_dev_keeps_runs_over_a_restart_reloads_code_and_ends_cleanly(url: str, tmp_path: Path) -> None:
    port = free_port()
    dev = Dev(tmp_path, port)
    dev.until("/v1/functions", lambda found: found["data"])
    dev.publish("hello")
    dev.until("/v1/runs", lambda found: found["data"] and found["data"][0]["status"] == "waiting")
    listed = bus("runs", cwd=tmp_path)
    assert "shop-greet" in listed
    assert "bus dev" not in listed, "a person is told, a program is not"
    assert "shop-greet" not in bus("runs", cwd=tmp_path, url=url), "who sets BUS_REDIS_URL gets that one"
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(PATIENT_S) == 0
    noted = json.loads((tmp_path / ".bus" / "server.json").read_text())

    again = Dev(tmp_path, port)
    run = again.until("/v1/runs", lambda found: found["data"] and found["data"][0]["status"] == "completed")["data"][0]
    assert again.output(run["id"]) == "version one"
    assert json.loads((tmp_path / ".bus" / "server.json").read_text())["port"] == noted["port"], (
        "whoever knows it, finds it"
    )
    written = 0.0

    def second(found: dict) -> bool:
        nonlocal written
        if time.monotonic() > written + 5:  # once is enough where the watcher is up as soon as the worker
            written = time.monotonic()
            (tmp_path / "shop.py").write_text(SHOP.replace("version one", "version two"))
        again.publish("hello")
        return any(again.output(run["id"]) == "version two" for run in found["data"])

    again.until("/v1/runs", second)
    taken = bus("dev", "--port", str(port), code=1, cwd=tmp_path)
    assert "a bus dev runs on" in taken
    assert "--folder .bus-2 --port 8289" in taken
    taken = bus("dev", "--port", str(port), "--folder", ".bus-2", code=1, cwd=tmp_path)
    assert f"cannot listen on 127.0.0.1:{port}" in taken
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(PATIENT_S) == 0


@pytest.mark.process
def test_a_worker_waits_for_redis_and_goes_on_when_it_comes(tmp_path: Path) -> None:
    server = ValkeyProcess(tmp_path)
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal")}
    with WorkerProcess("tests.chaos.app:app", server.url, log=tmp_path / "log", environ=environ) as worker:
        time.sleep(0.8)
        assert worker.process.poll() is None
        with server:
            worker.wait_ready()


@pytest.mark.process
def test_a_worker_that_never_met_redis_still_ends_when_told(tmp_path: Path) -> None:
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal")}
    url = f"redis://127.0.0.1:{free_port()}"
    with WorkerProcess("tests.chaos.app:app", url, log=tmp_path / "log", environ=environ) as worker:
        while b"no Redis at" not in worker.log.read_bytes():
            time.sleep(0.02)
        worker.signal(signal.SIGTERM)
        assert worker.process.wait(PATIENT_S) == 0


@pytest.mark.process
def test_several_processes_work_and_drain_together(url: str, tmp_path: Path) -> None:
    given = {**os.environ, "BUS_REDIS_URL": url, "CHAOS_JOURNAL": str(tmp_path / "journal")}
    with redis.Redis.from_url(url) as store:
        running = Forked("worker", "tests.chaos.app:app", "--processes", "2", env=given, err=tmp_path / "log")
        until = time.monotonic() + PATIENT_S
        while store.zcard(keys.workers()) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENT_S) == 0
        assert store.zcard(keys.workers()) == 0


@pytest.mark.process
def test_a_killed_dev_takes_its_worker_along_and_the_next_one_finds_its_data(tmp_path: Path) -> None:
    port = free_port()
    dev = Dev(tmp_path, port)
    dev.until("/v1/functions", lambda found: found["data"])
    note = json.loads((tmp_path / ".bus" / "server.json").read_text())
    dev.process.kill()
    dev.process.wait()
    with redis.Redis(port=note["port"]) as store:
        until = time.monotonic() + PATIENT_S
        while store.zcard(keys.workers()):
            assert time.monotonic() < until, "the worker lives on without its parent"
            time.sleep(0.05)
        again = Dev(tmp_path, port)
        again.until("/v1/functions", lambda found: found["data"])
        again.publish("hello")
        again.until("/v1/runs", lambda found: found["data"] and found["data"][0]["status"] == "completed")
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(PATIENT_S) == 0
        with pytest.raises(redis.ConnectionError):  # what was left over is taken over, and ended
            store.ping()


@pytest.mark.process
def test_a_drain_that_leaves_work_is_told_by_the_exit_code(url: str, tmp_path: Path) -> None:
    """It was 0, as if all were finished: who deploys did not learn that BUS_DRAIN is too short for the work."""
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal"), "CHAOS_STEP": "30", "BUS_DRAIN": "0.2", "BUS_LEASE": "1"}
    with WorkerProcess("tests.chaos.app:app", url, log=tmp_path / "log", environ=environ) as worker:
        worker.wait_ready()
        bus("send", "chaos/five", url=url)
        until = time.monotonic() + PATIENT_S
        while not (tmp_path / "journal").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        worker.signal(signal.SIGTERM)
        assert worker.process.wait(PATIENT_S) == 3
    assert (
        "1 turn was not finished within BUS_DRAIN; another worker goes on from there" in (tmp_path / "log").read_text()
    )


def test_several_processes_are_as_strict_as_one(url: str) -> None:
    told = bus("worker", "tests.chaos.app:app", "--processes", "2", "--strict", url=url, code=1, BUS_LEESE="1")
    assert "BUS_LEESE is not a setting; did you mean BUS_LEASE?" in told


def test_a_command_waits_for_its_answer_but_not_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bus send --wait 5` and `bus invoke` hung for as long as Redis was away."""
    monkeypatch.setenv("BUS_REDIS_URL", f"redis://:zanzibar@127.0.0.1:{free_port()}")
    monkeypatch.setenv("BUS_TIMEOUT", "0.2")
    commands: list[Callable[[], None]] = [
        partial(send, "a", None, None, 5.0, False), partial(invoke, "shop-f", None, 5.0), check, runs, functions,
        partial(run, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 5.0), partial(cancel, "01ARZ3NDEKTSV4RRFFQ69G5FAV"), doctor,
    ]  # fmt: skip
    for command in commands:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no Redis at redis://:\*\*\*@127.0.0.1"):
            command()
        assert time.monotonic() - began < 5.0, command


@pytest.mark.process
def test_a_command_whose_redis_goes_away_while_it_waits_says_so(tmp_path: Path) -> None:
    with ValkeyProcess(tmp_path) as server:
        worker = WorkerProcess("tests.chaos.app:app", server.url, log=tmp_path / "log", environ={
            "CHAOS_JOURNAL": str(tmp_path / "journal"), "CHAOS_STEP": "30"})  # fmt: skip
        with worker:
            worker.wait_ready()
            environ = {**os.environ, "BUS_REDIS_URL": server.url, "BUS_TIMEOUT": "0.5"}
            waits = Forked("send", "chaos/five", "--wait", "60", env=environ, err=tmp_path / "told")
            until = time.monotonic() + PATIENT_S
            while not (tmp_path / "journal").exists():
                assert time.monotonic() < until
                time.sleep(0.02)
            server.kill()
            assert waits.wait(PATIENT_S) == 1
    assert "no Redis at redis://127.0.0.1" in (tmp_path / "told").read_text()


@pytest.mark.process
def test_a_worker_says_at_once_that_it_waits_for_redis_and_once_that_it_is_there(tmp_path: Path) -> None:
    """It was silent for as long as Redis was away."""
    server = ValkeyProcess(tmp_path, "--user", "app", "on", ">zanzibar", "~*", "+@all")
    url = server.url.replace("redis://", "redis://app:zanzibar@")
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal")}
    with WorkerProcess("tests.chaos.app:app", url, log=tmp_path / "log", environ=environ) as worker:
        until = time.monotonic() + PATIENT_S
        while b"needs it waits" not in worker.log.read_bytes():
            assert time.monotonic() < until, worker.log.read_text()
            time.sleep(0.02)
        time.sleep(1.0)
        server.start()
        try:
            worker.wait_ready()
            while b"Redis serves again" not in worker.log.read_bytes():
                assert time.monotonic() < until, worker.log.read_text()
                time.sleep(0.02)
            lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
            waited = [line for line in lines if "does not serve" in line["event"]]
            assert len(waited) == 1
            assert waited[0]["redis"] == f"redis://app:***@127.0.0.1:{server.port}/0"
            assert "no Redis at" in waited[0]["error"]
            assert "zanzibar" not in worker.log.read_text()
        finally:
            worker.kill()
            server.kill()


async def test_one_run_is_shown_with_its_event_and_with_what_its_steps_wait_for(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("approval", "b", match="data.order", timeout="1h")

    await lab.work()
    await lab.send("a", {"order": "o1", "text": "x" * 5_000})
    run = await lab.first()
    await lab.status(run, "waiting")
    shown = await asyncio.to_thread(bus, "run", run, url=lab.settings.redis_url)
    assert 'event  a  {"order":"o1","text":"xxx' in shown
    assert "characters: bus run ID --json" in shown
    assert "waits for b with the same data.order" in shown
    assert len(shown) < 1_500


async def test_who_gives_an_events_id_is_told_so_and_shown_its_runs(lab: Lab) -> None:
    """It said that the run never was, or was kept no more: of the id that `bus send` had just printed."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        pass

    await lab.work()
    await lab.send("a", id="given")
    await lab.send("unheard", id="alone")
    await lab.ended()
    run, url = await lab.first(), lab.settings.redis_url
    for words in (["run", "given"], ["run", "given", "--export"], ["cancel", "given"], ["rerun", "given"]):
        told = await asyncio.to_thread(bus, *words, url=url, code=1)
        assert f"the id of an event, a; its runs are {run} (test-f, completed)" in told
    assert "the id of an event, unheard; no function has made a run of it" in await asyncio.to_thread(
        bus, "run", "alone", url=url, code=1
    )
    assert "it never was" in await asyncio.to_thread(bus, "run", "neither", url=url, code=1)
