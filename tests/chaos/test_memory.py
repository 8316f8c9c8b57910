"""What a worker process keeps, seen from outside."""

import time
from pathlib import Path

import pytest
import redis

from stepstream.bus.wire import keys
from tests.support import ValkeyProcess, WorkerProcess

pytestmark = pytest.mark.chaos


def _megabytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) // 1_024


def test_150_turns_with_10_mb_of_memos_leave_a_worker_as_it_was(folder: Path) -> None:
    """It went from 74 to 1,220 MB for good."""
    with (
        ValkeyProcess(folder) as server,
        WorkerProcess("tests.chaos.memory_app:app", server.url, log=folder / "log") as worker,
        redis.Redis.from_url(server.url) as client,
    ):
        worker.wait_ready()
        before = _megabytes(worker.process.pid, "VmRSS")
        client.xadd(keys.events("a"), {"data": "{}"})
        until = time.monotonic() + 120
        while not client.zcard(keys.runs("memory-long", "completed")):
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        assert _megabytes(worker.process.pid, "VmHWM") < before + 80
        assert _megabytes(worker.process.pid, "VmRSS") < before + 40
