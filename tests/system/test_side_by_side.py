"""How our own tests run: in forks of the process that has collected them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.support import ROOT

CONFTEST = """
from tests.side_by_side import SideBySide

def pytest_configure(config):
    config.pluginmanager.register(SideBySide(2, lambda nodeid: "group" if "group" in nodeid else nodeid))
"""
TESTS = """
import atexit, os, signal, warnings
import pytest

def note(end):
    with open(end, "a") as ended:
        ended.write(f"{os.getpid()}\\n")

@pytest.fixture(scope="session")
def server():
    atexit.register(note, "left")
    yield os.getpid()
    note("ended")

@pytest.mark.parametrize("n", range(3))
def test_group(n, server):
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)

def test_fails(server):
    print("what it printed")
    assert server == 0

def test_warns(server):
    warnings.warn("a warning")

@pytest.fixture
def spoilt():
    yield
    raise ValueError("not taken down")

def test_leaves(spoilt):
    pass
"""


@pytest.mark.process
def test_a_fork_that_dies_fails_its_test_alone_and_each_other_one_takes_down_what_it_set_up(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_of_a_user.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENT_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 4 passed, 1 warning, 1 error" in done.stdout, done.stdout
    assert "the process that ran this test ended with -9" in done.stdout
    assert "what it printed" in done.stdout
    assert "ValueError: not taken down" in done.stdout
    assert "a warning" in done.stdout
    ended, left = ((tmp_path / end).read_text().split() for end in ("ended", "left"))
    assert ended
    assert sorted(ended) == sorted(left)
    assert len(ended) == len(set(ended))
