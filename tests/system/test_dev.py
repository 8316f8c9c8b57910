"""`bus dev` as a person meets it: what it says at each moment, and what it does when the worker cannot be."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from stepstream import Bus
from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.dev_server import held
from stepstream.consumers.worker import Worker, running
from stepstream.web.cli import dev
from tests.patience import PATIENT_S
from tests.support import Lab, free_port, until

SHOP = """
from stepstream import Bus, EventData

app = Bus("shop")


class Paid(EventData, name="order/paid", rename="camel"):
    order_id: str
    cents: int


@app.function("ship", on=Paid)
async def ship(ctx, step):
    return ctx.event.data.cents
"""


def ask(url: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, body, timeout=PATIENT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


def start(folder: Path, app: str, port: int) -> "subprocess.Popen[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BUS_")}
    environ["BUS_LOG_FORMAT"] = "text"  # as on a terminal, which a file is not
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "stepstream", "dev", app, "--port", str(port)]
        return subprocess.Popen(command, cwd=folder, env=environ, stderr=log, text=True)


@pytest.mark.process
def test_a_name_that_is_mistyped_ends_it_with_the_way_out(tmp_path: Path) -> None:
    """It stayed up, silently."""
    dev = start(tmp_path, "shap:app", free_port())
    assert dev.wait(PATIENT_S) == 1
    told = (tmp_path / "log").read_text()
    assert told.count("there is no module 'shap'") == 1
    assert "Traceback" not in told


@pytest.mark.process
def test_the_first_minutes_with_bus_dev(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shop, log = tmp_path / "shop.py", tmp_path / "log"
    shop.write_text(SHOP + "def (\n")
    dev = start(tmp_path, "shop:app", port)
    try:
        # A worker that cannot start: it is said at once, in the log, on the page, and to who publishes.
        status, answer = until(lambda: (found := ask(f"{url}/e/dev", b'{"name": "order/paid"}'))[0] and found, "up")
        assert (status, json.loads(answer)["code"]) == (503, "no_worker")
        assert "SyntaxError" in ask(url)[1]
        assert ask(f"{url}/ready")[0] == 503
        assert "Traceback" not in log.read_text()
        # Mended: the event is answered once the function is registered, so it is not lost.
        shop.write_text(SHOP)
        hint = until(lambda: re.search(r"publish +(curl .*)", log.read_text()), "the hint")[1]
        command = shlex.split(hint)
        status, answer = ask(command[1], command[3].encode())
        assert (status, json.loads(answer)["functions"]) == (200, 1)
        until(lambda: '"completed"' in ask(f"{url}/v1/runs")[1], "the hint's event has run")
        assert ask(f"{url}/ready")[0] == 200
        assert "SyntaxError" not in ask(url)[1]
        # Killed: another one is started, and that none is up is told meanwhile.
        children = Path(f"/proc/{dev.pid}/task/{dev.pid}/children").read_text().split()
        worker = next(int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        until(lambda: "killed by SIGKILL; another is started" in ask(f"{url}/ready")[1], "told that it is down")
        until(lambda: ask(f"{url}/ready")[0] == 200, "another one is up")
        # Its Redis server killed: another is started with the same data, at the same address.
        server = next(int(pid) for pid in children if b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(server, signal.SIGKILL)
        until(lambda: "another was started with its data" in log.read_text(), "told that it has died")
        until(lambda: '"completed"' in ask(f"{url}/v1/runs")[1], "the run is still there")
        until(lambda: '"status":200' in ask(command[1], command[3].encode())[1].replace(" ", ""), "published")
        until(lambda: ask(f"{url}/v1/runs")[1].count('"completed"') == 2, "the worker works on")
        dev.send_signal(signal.SIGINT)
        assert dev.wait(PATIENT_S) == 0
        assert "Traceback" not in log.read_text()
    finally:
        dev.kill()
        dev.wait()


def test_a_second_one_in_a_folder_is_told_of_the_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It complained of the port, and with another port of the folder."""
    monkeypatch.delenv("BUS_REDIS_URL", raising=False)
    with socket.socket() as taken, held(tmp_path):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"runs on .* already.*--folder \.bus-2 --port 8289"):
            dev(folder=tmp_path, port=taken.getsockname()[1])


async def test_a_bus_without_functions_beside_others_is_told_of(lab: Lab) -> None:
    """`bus dev mine:app naked:app` did not say a word of it; `@app.function` without parentheses leaves such a bus."""

    @lab.app.function("f", on="a")
    async def f(ctx, step) -> None: ...

    signals, told = Signals(), []
    signals.noticed.listen(told.append)
    async with running(Worker(lab.app, Bus("naked"), settings=lab.settings, signals=signals)):
        pass
    [notice] = [one for one in told if "has no function" in one.event]
    assert notice.fields == {"bus": "naked"}
