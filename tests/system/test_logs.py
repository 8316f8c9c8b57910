"""What a run logs and prints: it says which run and step it belongs to, is kept with it, and is written once."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from stepstream import Context, NonRetriable, Retry, Step, StepFailed
from stepstream.bus.observe import log as observed
from stepstream.bus.observe.signals import AttemptFailed, RunEnded, Signals
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.run.log import Line
from stepstream.consumers.worker import Worker, running
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import Lab, free_port, logged_in, until
from tests.system.test_commands import bus

HERE = "tests/system/test_logs.py"
log = logging.getLogger("shop.orders")


async def kept(lab: Lab) -> list[Line]:
    run = await lab.one()
    assert run.status == "completed", run.error
    return (await log_of(lab.wire, run.function, run.id)).lines


async def test_a_run_keeps_what_it_logs_once_however_often_it_is_replayed(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Between steps a line is written when it is passed for the first time; in a body, whenever that runs."""
    caplog.set_level(logging.INFO)

    def in_thread() -> None:
        log.warning("low on %s", "paper")

    async def on_loop(attempts: list[int]) -> None:
        structlog.get_logger().info("printing", copies=2)  # not set up by us: its own affair
        log.info("attempt")
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("jam")

    attempts: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx: Context[dict], step: Step) -> None:
        log.info("begins")
        await step.run("thread", in_thread)
        ctx.logger.info("between", n=1)
        await step.sleep("nap", 0.01)
        log.info("behind the nap")
        await step.run("loop", on_loop, attempts)
        try:
            raise KeyError("x")
        except KeyError:
            log.exception("caught")

    await lab.work()
    await lab.send("a")
    lines = await kept(lab)
    assert [(line.step, line.level, line.text) for line in lines if line.source == "log" and "File" not in line.text][:6] == [
        ("", "info", "begins"), ("thread", "warning", "low on paper"), ("", "info", "between n=1"),
        ("", "info", "behind the nap"), ("loop", "info", "attempt"), ("loop", "info", "attempt"),
    ]  # fmt: skip
    assert next(line.text for line in lines if line.level == "error") == "caught"
    assert "KeyError: 'x'" in [line.text for line in lines]
    of_shop = [record for record in caplog.records if record.name == "shop.orders"]
    assert [record.getMessage() for record in of_shop] == [
        "begins", "low on paper", "behind the nap", "attempt", "attempt", "caught",
    ]  # fmt: skip
    run = await lab.one()
    tags: list[Any] = [(record.bus_function, record.bus_run, record.bus_step) for record in of_shop]  # type: ignore[attr-defined]
    assert tags[1] == ("test-f", run.id, "thread")
    assert {tag[:2] for tag in tags} == {("test-f", run.id)}
    outside = logging.getLogRecordFactory()("x", 20, "", 0, "m", (), None)
    assert (outside.bus_run, outside.bus_step) == ("", "")  # type: ignore[attr-defined]


async def test_a_run_that_completes_after_all_says_which_attempts_have_failed(lab: Lab) -> None:
    """They were on no page and in no log of the run, once it had completed."""
    tried: list[str] = []

    def once_more(name: str) -> None:
        tried.append(name)
        if tried.count(name) == 1:
            raise ConnectionError(f"no {name}")

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("print", once_more, "printer")
        once_more("paper")

    await lab.work()
    await lab.send("a")
    lines = await kept(lab)
    assert [(line.source, line.step, line.level, line.text.partition(";")[0]) for line in lines] == [
        ("bus", "print", "warning", "attempt 1 failed: ConnectionError: no printer"),
        ("bus", "", "warning", "attempt 1 failed: ConnectionError: no paper"),
    ]


async def test_what_a_users_records_carry_is_theirs(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """`extra={"run": …}` is refused by logging when a record has that name already."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        log.warning("mine", extra={"run": 7, "step": 8, "function": 9})

    caplog.set_level(logging.WARNING)
    await lab.work()
    await lab.send("a")
    assert [line.text for line in await kept(lab)] == ["mine"]
    assert caplog.records[0].run == 7  # type: ignore[attr-defined]


async def test_a_run_that_writes_nothing_has_no_log(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("s", len, "x")

    await lab.work()
    await lab.send("a")
    assert await kept(lab) == []
    assert b"logged" not in await lab.wire.call("HKEYS", f"bus:fn:{{test-f}}:run:{(await lab.one()).id}")


async def told(lab: Lab) -> tuple[list[AttemptFailed], list[RunEnded]]:
    """Run the application with ears on what the worker tells, and return that."""
    signals = Signals()
    attempts: list[AttemptFailed] = []
    ends: list[RunEnded] = []
    signals.attempt_failed.listen(attempts.append)
    signals.run_ended.listen(ends.append)
    async with running(Worker(lab.app, settings=lab.settings, signals=signals)):
        await lab.send("a")
        await lab.one()
    return attempts, ends


async def test_each_failed_attempt_is_told_of_once_with_the_authors_line(lab: Lab) -> None:
    def body() -> None:
        raise ValueError("jam")

    @lab.app.function("f", on="a", retries=Retry(1, backoff=0.01))
    async def f(ctx: Context[dict], step: Step) -> None:
        try:
            await step.run("s", body)
        except StepFailed:
            raise KeyError("between") from None

    attempts, ends = await told(lab)
    assert [(one.step, one.attempt, one.error, one.delay_ms) for one in attempts] == [
        ("s", 0, "ValueError: jam", 10), ("s", 1, "ValueError: jam", None),
        ("", 0, "KeyError: 'between'", 10), ("", 1, "KeyError: 'between'", None),
    ]  # fmt: skip
    assert len(ends) == 1
    for one in attempts:
        assert "consumers" not in one.stack
        assert 'raise ValueError("jam")' in one.stack or 'raise KeyError("between")' in one.stack
        assert observed._authors_line(one.stack).startswith(f"{HERE}:")


async def test_the_failure_of_a_step_that_fails_the_run_is_told_of_once(lab: Lab) -> None:
    def body() -> None:
        raise NonRetriable("no paper")

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await asyncio.gather(step.run("s", body))

    attempts, ends = await told(lab)
    assert [(one.step, one.delay_ms) for one in attempts] == [("s", None)]
    assert [end.status for end in ends] == ["failed"]


def test_an_error_in_a_library_names_the_line_that_called_it() -> None:
    stack = (
        f'Traceback (most recent call last):\n  File "{Path.cwd()}/shop/orders.py", line 12, in f\n    json.loads("x")\n'
        f'  File "{Path(json.__file__).parent}/decoder.py", line 355, in raw_decode\n    raise\nValueError: x\n'
    )
    assert observed._authors_line(stack) == "shop/orders.py:12"


# -- in a worker of its own ---------------------------------------------------------------------------------------------

APP = """
import logging, sys
from stepstream import Bus, Context, Step
{config}
app = Bus("shop")
log = logging.getLogger("shop")

def body():
    print("in a thread")
    print("to standard error", file=sys.stderr)
    log.info("by a logger")

@app.function("f", on="a", retries=0)
async def f(ctx: Context, step: Step) -> str:
    print("begins")
    await step.run("s", body)
    await step.sleep("nap", 0.01)
    print("no end of line", end="")
    ctx.logger.info("by the context")
    return "done"

@app.function("g", on="b", retries=0)
async def g(ctx: Context, step: Step) -> None:
    await step.run("s", broken)

def broken():
    raise ValueError("jam")
"""


def run_app(url: str, folder: Path, config: str = "") -> tuple[list[str], list[str], list[str], str]:
    """Run an application in a worker process; return what it says on its outputs, a run's log, and the run's id."""
    (folder / "app.py").write_text(APP.format(config=config))
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        worker = subprocess.Popen(
            [sys.executable, "-m", "stepstream", "worker", "app:app"], stdout=out, stderr=err, cwd=folder,
            env={"PATH": "/usr/bin:/bin", "BUS_REDIS_URL": url, "BUS_LOG_FORMAT": "json"},
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENT_S
            while b" works on " not in (folder / "err").read_bytes():
                assert time.monotonic() < until, (folder / "err").read_text()
                time.sleep(0.02)
            for name in ("a", "b"):
                told = bus("send", name, "--wait", "10", url=url, code=0 if name == "a" else 1)
                assert ("shop-g  failed: " in told and "jam" in told) == (name == "b"), told  # why it failed, too
        finally:
            worker.terminate()
            worker.wait(PATIENT_S)
    with redis.Redis.from_url(logged_in(url, "stepstream-check")) as store:
        [key] = [key.decode() for key in store.scan_iter("bus:fn:{shop-f}:log:*")]
        lines = [json.loads(line)["text"] for line in store.lrange(key, 0, -1)]
    return (folder / "out").read_text().splitlines(), (folder / "err").read_text().splitlines(), lines, key[-26:]


LOGGED = ["begins", "in a thread", "to standard error", "by a logger", "by the context", "no end of line"]


@pytest.mark.process
def test_a_worker_says_of_all_that_a_run_writes_which_run_it_is(url: str, tmp_path: Path) -> None:
    out, err, lines, run = run_app(url, tmp_path)
    assert [one["event"] for one in map(json.loads, err) if "works on" in one["event"] or "drain" in one["event"]], err
    assert lines == LOGGED
    printed = [json.loads(line) for line in out]
    assert [(one["event"], one.get("step")) for one in printed] == [
        ("begins", None), ("in a thread", "s"), ("no end of line", None),
    ]  # fmt: skip
    told = [json.loads(line) for line in err if line.startswith("{")]
    logged = [one for one in told if one["event"].startswith(("by ", "to "))]
    assert [(one["event"], one["level"], one.get("step")) for one in logged] == [
        ("to standard error", "info", "s"), ("by a logger", "info", "s"), ("by the context", "info", None),
    ]  # fmt: skip
    assert {(one["function"], one["run"]) for one in [*printed, *logged]} == {("shop-f", run)}
    [failed] = [one for one in told if one["event"] == "attempt failed"]
    place = (tmp_path / "app.py").read_text().splitlines().index('    raise ValueError("jam")') + 1
    assert failed["at"] == f"app.py:{place}"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: jam")
    assert "consumers" not in failed["exception"]
    assert failed["again_in"] is None
    assert (failed["step"], failed["attempt"], failed["error"]) == ("s", 1, "ValueError: jam")
    assert [one["event"] for one in told if one["level"] == "error"] == ["attempt failed", "run ended"]


@pytest.mark.process
def test_a_users_own_configuration_of_logging_stays_as_it_is(url: str, tmp_path: Path) -> None:
    config = 'logging.basicConfig(level="INFO", stream=sys.stdout, format="MINE %(message)s %(bus_step)s")'
    out, err, lines, _ = run_app(url, tmp_path, config)
    assert lines == LOGGED
    assert [line for line in out if line.startswith("MINE") and "logger" in line] == ["MINE by a logger s"]
    assert not [line for line in err if "by a logger" in line]


@pytest.mark.process
def test_all_that_a_site_says_is_json_also_of_what_is_no_request(url: str, tmp_path: Path) -> None:
    port = free_port()
    environ = {**os.environ, "BUS_REDIS_URL": url, "BUS_LOG_FORMAT": "json"}
    process = Forked("serve", "--port", str(port), env=environ, err=tmp_path / "err")
    try:

        def answered() -> bytes:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENT_S) as connected:
                connected.sendall(b"\x16\x03\n\n")
                return connected.recv(100)
            return b""

        assert until(answered, "it listens").startswith(b"HTTP/1.1 400 ")
    finally:
        process.terminate()
        assert process.wait(PATIENT_S) == 0
    told = [json.loads(line) for line in (tmp_path / "err").read_text().splitlines()]
    [warned] = [one for one in told if one.get("logger", "").startswith("uvicorn")]
    assert (warned["event"], warned["level"]) == ("Invalid HTTP request received.", "warning")
