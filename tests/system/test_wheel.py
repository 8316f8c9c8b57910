"""The wheel in a project that is not like ours: its own packages are called as our folders are."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.chaos.storm import within
from tests.patience import PATIENT_S
from tests.support import ROOT, free_port

pytestmark = pytest.mark.check

PROJECT = {
    "web/__init__.py": "SHOP = 'web of mine'\n",
    "bus/__init__.py": "",
    "producers/__init__.py": "",
    "checkpoint/__init__.py": "",
    "consumers/__init__.py": "",
    "consumers/functions.py": """
from stepstream import Bus
from web import SHOP

app = Bus("shop")


@app.function("greet", on="hello")
async def greet(ctx, step):
    return await step.run("say", lambda: SHOP)
""",
    "tests/test_greet.py": """
from consumers.functions import app


async def test_greet(harness):
    async with harness(app) as bus:
        await bus.send("hello")
        assert await bus.output() == "web of mine"
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds what the wheel puts into site-packages, and nothing else."""
    target = tmp_path_factory.mktemp("site")
    tree = tmp_path_factory.mktemp("tree") / "stepstream"  # a build writes into its tree, which others read meanwhile
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(tree)]
    done = subprocess.run(command, timeout=PATIENT_S, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def project(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    return tmp_path


def test_the_wheel_adds_one_name_to_everybodys_site_packages(installed: Path) -> None:
    found = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} - {"bin"}
    assert found == {"stepstream"}


def test_a_project_with_folders_named_as_ours_works_under_bus_worker(url: str, project: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "BUS_REDIS_URL": url}
    command = [sys.executable, "-m", "stepstream", "worker", "consumers.functions:app"]
    with (tmp_path / "log").open("w") as log, redis.Redis.from_url(url) as store:
        worker = subprocess.Popen(command, cwd=project, env=environ, stderr=log)
        try:
            assert within(PATIENT_S, lambda: store.exists(keys.events("hello"))), (tmp_path / "log").read_text()
            command = [sys.executable, "-m", "stepstream", "send", "hello", "--wait", "20", "--json"]
            sent = subprocess.run(
                command, cwd=project, env=environ, capture_output=True, text=True, timeout=PATIENT_S, check=False
            )
            assert '"completed"' in sent.stdout, sent.stdout + sent.stderr
        finally:
            worker.kill()
            worker.wait()


@pytest.fixture
def dev(project: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "stepstream", "dev", "consumers.functions:app", "--port", str(port)]
    environ = {name: value for name, value in os.environ.items() if name != "BUS_REDIS_URL"}
    with (project / "dev.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, env=environ, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENT_S)


def test_a_project_with_folders_named_as_ours_works_under_bus_dev(dev: str) -> None:
    def listed(status: str) -> bool:
        try:
            with urllib.request.urlopen(f"{dev}/v1/{status}", timeout=PATIENT_S) as answer:
                return bool(json.load(answer)["data"])
        except OSError:
            return False

    assert within(PATIENT_S, lambda: listed("functions"))
    urllib.request.urlopen(f"{dev}/e/x", json.dumps({"name": "hello"}).encode(), timeout=PATIENT_S).close()
    assert within(PATIENT_S, lambda: listed("runs?status=completed"))


def test_a_project_with_folders_named_as_ours_works_under_pytest(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=PATIENT_S, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
