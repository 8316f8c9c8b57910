"""The first test of a reader of docs/testing.md: its files in an empty folder, beside other plugins, run as they stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.support import ROOT

PAGE = ROOT / "docs/testing.md"
BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)
FIRST = ("functions.py", "test_ship.py")
OTHER_WAYS = """
import asyncio

import pytest
from functions import OrderPaid, app, ship
from stepstream.testing import Harness


@pytest.fixture
async def bus(harness):
    async with harness(app) as bus:
        bus.stub("charge", "receipt 7")
        yield bus


class TestShip:
    @pytest.mark.parametrize("order", ["o1", "o2"])
    async def test_in_a_class_with_an_async_fixture(self, bus, order):
        await bus.send(OrderPaid(order, 995))
        await bus.finish()
        assert await bus.output() == "shipped, paid with receipt 7"


def test_that_is_not_async():
    async def scenario():
        async with Harness(app) as bus:
            assert await bus.runs() == []

    asyncio.run(scenario())
"""
WAITING = {
    "run": "01KWEKN600SHPSH0000000000A",
    "function": "shop-ship",
    "status": "waiting",
    "event": {"id": "e1", "name": "order/paid", "data": {"order_id": "o1", "cents": 995}, "ts": 1_782_900_000_000},
    "exported": 1_782_900_000_000,
    "steps": {"charge": {"n": 1, "kind": "run", "data": "receipt 7"}},
    "open": {"cool-down": {"since": 1_782_900_000_000, "kind": "sleep", "due": 1_783_504_800_000}},
}
ASYNCIO_MARKED = """
import pytest
from functions import OrderPaid, app, ship
from stepstream.testing import Harness


@pytest.mark.asyncio
async def test_marked_for_another_plugin(harness):
    async with harness(app) as bus:
        bus.stub("charge", "receipt 7")
        await bus.send(OrderPaid("o1", 995))
        await bus.finish()
        assert await bus.output() == "shipped, paid with receipt 7"
"""


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENT_S, check=False)
    return done.stdout + done.stderr


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall(PAGE.read_text()))


@pytest.mark.process
def test_every_file_of_the_page_runs_in_an_empty_folder_with_xdist_and_warnings_as_errors(tmp_path: Path) -> None:
    for name, text in blocks().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "test_other_ways.py").write_text(OTHER_WAYS)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/waiting.json").write_text(json.dumps(WAITING))
    told = run(tmp_path, "-n", "2", "-p", "no:asyncio")
    tests = sum(text.count("def test_") for text in blocks().values())
    assert f"{tests + 3} passed" in told, told
    assert "failed" not in told


@pytest.mark.process
@pytest.mark.parametrize("mode", ["asyncio_mode=strict", "asyncio_mode=auto", "anyio_mode=auto"])
def test_the_first_test_runs_beside_other_plugins(tmp_path: Path, mode: str) -> None:
    for name in FIRST:
        (tmp_path / name).write_text(blocks()[name])
    (tmp_path / "test_marked.py").write_text(ASYNCIO_MARKED)
    strict = ["--deselect", "test_marked.py"] if mode.startswith("anyio") else []
    told = run(tmp_path, "-o", mode, "-o", "asyncio_default_fixture_loop_scope=function", *strict)
    assert f"{1 if strict else 2} passed" in told, told
