"""Workers of the official SDKs that connect: `connect({ apps })`, `inngest.connect`, as real processes."""

import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.sdks import HERE, NODE_SDKS, home
from tests.sdk.stack import WITHIN_S, Stack, until
from tests.support import journal

pytestmark = [pytest.mark.sdk, pytest.mark.keyless]  # with keys it is the same but for how a connection is asked for
APP = "wired"


class Worker:
    """A worker of one SDK that connects."""

    def __init__(self, stack: Stack, folder: Path, name: str) -> None:
        self.name = name
        self.journal = folder / "journal"
        self.log = folder / f"{name}.log"
        # Node.js 20 has WebSockets behind a flag; the SDK itself asks for 22.
        environ = {**os.environ, "INNGEST_DEV": stack.url, "NODE_OPTIONS": "--experimental-websocket"}
        environ["JOURNAL"] = str(self.journal)
        if stack.sdk in NODE_SDKS:
            command = ["node", str(HERE / "js" / "connect.mjs"), str(home(stack.sdk)), name, str(self.journal)]
        else:
            command = [str(home(stack.sdk) / "bin" / "python"), str(HERE / "py" / "connected.py"), name]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return any(line.get("up") and line["instance"] == self.name for line in journal(self.journal))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def connected(stack: Stack, tmp_path: Path) -> Generator[list[Worker]]:
    """Two workers, one after the other connected."""
    several: list[Worker] = []
    for name in ("one", "two"):
        several.append(Worker(stack, tmp_path, name))
        until(several[-1].is_up, f"worker {name} of {stack.sdk} is connected; its log: {several[-1].log}")
    yield several
    for worker in several:
        worker.end()


def test_runs_go_through_connected_workers(stack: Stack, connected: list[Worker], tmp_path: Path) -> None:
    data: dict[str, Any] = {"n": 4, "of": str(tmp_path)}
    stack.send("w/steps", data)
    assert stack.output("steps", data, APP) == {"a": 4, "b": 5, "c": 6}
    stack.send("w/refused", data)
    assert stack.ended("refused", data, app=APP)[0]["status"] == "failed"


def test_a_killed_worker_s_call_goes_on_elsewhere_and_steps_done_are_kept(
    stack: Stack, connected: list[Worker], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    data: dict[str, Any] = {"until": str(go)}
    stack.send("w/long", data)

    def having(step: str) -> list[dict[str, Any]]:
        return [line for line in journal(connected[0].journal) if line.get("step") == step]

    until(lambda: having("second"), "the second step has begun")
    owner = having("second")[0]["instance"]
    victim = next(one for one in connected if one.name == owner)
    victim.process.send_signal(signal.SIGKILL)
    until(lambda: len(having("second")) > 1, "the other worker has the call")
    assert having("second")[-1]["instance"] != owner
    go.touch()
    assert stack.output("long", data, APP)["second"] != owner
    assert len(having("first")) == 1, "what was done is not done again"


def test_a_worker_that_is_told_to_stop_ends_its_calls(stack: Stack, connected: list[Worker], tmp_path: Path) -> None:
    go = tmp_path / "go"
    data: dict[str, Any] = {"until": str(go)}
    stack.send("w/long", data)

    def second() -> list[dict[str, Any]]:
        return [line for line in journal(connected[0].journal) if line.get("step") == "second"]

    until(second, "the second step has begun")
    owner = next(one for one in connected if one.name == second()[0]["instance"])
    owner.process.send_signal(signal.SIGTERM)
    go.touch()
    assert stack.output("long", data, APP)["second"] == owner.name
    owner.process.wait(WITHIN_S)
    assert len(second()) == 1
