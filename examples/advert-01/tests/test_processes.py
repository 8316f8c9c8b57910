"""The application as processes: started by its Procfile, and killed in the middle of a step."""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest
from advert_01.functions import app
from stand_ins import CRASHED, Supervised, calls, scratch_redis, tell
from starlette.testclient import TestClient

from stepstream import create_app

PROJECT = Path(__file__).parent.parent


class Run(msgspec.Struct):
    """A run as the API shows it."""

    id: str
    function: str
    status: str


class Runs(msgspec.Struct):
    """A list of runs."""

    data: list[Run]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dev(folder: Path, **environ: str) -> Generator[httpx2.Client]:
    """Run the line of the Procfile, at another port and in a folder of its own; yield a client of the dashboard."""
    line = (PROJECT / "Procfile").read_text().partition(": ")[2].strip()
    assert line.endswith("--port 8288"), "the dashboard is at http://localhost:8288"
    port = free_port()
    bus, *words = shlex.split(line.replace("8288", str(port)))
    assert bus == "bus"  # the same, wherever the environment is: python -m stepstream
    command = [sys.executable, "-m", "stepstream", *words, "--folder", str(folder / "data")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("BUS_")} | environ
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=env, stderr=log, stdout=log)
    try:
        with httpx2.Client(base_url=f"http://localhost:{port}", timeout=10) as http:
            until = time.monotonic() + 30
            while "works on" not in (folder / "dev.log").read_text():
                assert process.poll() is None, (folder / "dev.log").read_text()
                assert time.monotonic() < until, (folder / "dev.log").read_text()
                time.sleep(0.05)
            yield http
    finally:
        process.terminate()
        process.wait(30)


def ended(http: httpx2.Client, function: str) -> Run:
    """Return the one run of a function, once it has ended."""
    until = time.monotonic() + 30
    while True:
        runs = msgspec.json.decode(http.get("/v1/runs", params={"function": function}).content, type=Runs).data
        if len(runs) == 1 and runs[0].status in {"completed", "failed"}:
            return runs[0]
        assert time.monotonic() < until, runs
        time.sleep(0.05)


@pytest.mark.criterion("dev", "no-keys", "event-key")
def test_the_dev_command_starts_everything_and_a_dashboard(tmp_path: Path) -> None:
    with dev(tmp_path, BUS_EVENT_KEYS="ours") as http:
        event = {"name": "test/hello.world", "data": {"message": "Ada"}}
        assert http.post("/e/theirs", json=event).status_code == 401
        assert http.post("/e/ours", json=event).status_code == 200
        run = ended(http, "advert-01-hello-world")
        assert run.status == "completed"
        page = http.get("/", headers={"accept": "text/html"}).text
        assert "hello-world" in page
        assert run.id in http.get("/runs", headers={"accept": "text/html"}).text
        assert "Hello, Ada!" in http.get(f"/runs/{run.id}").text
        refused = http.post("/e/ours", json={"name": "email/send", "data": {"to": 5, "subject": "s", "body": "b"}})
        assert (refused.status_code, refused.json()["field"]) == (400, "data.to")


@pytest.mark.criterion("crashes", "refused")
def test_a_worker_that_dies_in_a_step_is_followed_by_one_that_goes_on_there(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paragraph = "model/write/How, for 500.00"
    tell(told, {paragraph: {"crash": 1}})
    with scratch_redis() as url:
        monkeypatch.setenv("BUS_REDIS_URL", url)
        with (
            Supervised("advert_01.functions:app", url, tmp_path) as worker,
            TestClient(create_app(app), base_url="http://localhost") as http,
        ):
            data = {"clientId": "c1", "goal": "more", "budgetCents": "much"}
            refused = http.post("/e/dev", json={"name": "strategy/generate", "data": data})
            assert (refused.status_code, refused.json()["field"]) == (400, "data.budgetCents")
            http.post("/e/dev", json={"name": "strategy/generate", "data": {**data, "budgetCents": 50_000}})
            run = ended(http, "advert-01-generate-strategy")
        assert (run.status, worker.exit_codes) == ("completed", [CRASHED])
    assert dict(calls(told)) == {
        "model/outline": 1, "model/write/Why more": 1, paragraph: 2, "model/write/By when": 1,
    }  # fmt: skip
