"""The limits of the machine: a worker has all the connections it needs, or waits and says so; it serves no half."""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import redis

from stepstream import Bus
from stepstream.bus.errors import ConfigError, StoreUnavailable
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.worker import Worker, running
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess, eventually

FUNCTIONS = 30
NEEDED = 3 * FUNCTIONS + 3


def many(functions: int = FUNCTIONS) -> tuple[Bus, list[str]]:
    app, ran = Bus("many"), list[str]()

    async def body(ctx, step):
        ran.append(ctx.function)

    for n in range(functions):
        app.function(f"f{n}", on=f"a{n}")(body)
    return app, ran


def worker_of(app: Bus, url: str) -> tuple[Worker, list[Noticed]]:
    signals, said = Signals(), list[Noticed]()
    signals.noticed.listen(said.append)
    return Worker(app, settings=Settings(redis_url=url, lease_ms=1_000), signals=signals), said


def about(said: list[Noticed], words: str) -> list[Noticed]:
    return [notice for notice in said if words in f"{notice.event} {notice.fields}"]


async def test_a_server_that_never_takes_as_many_connections_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """With `maxclients 500` a worker of 300 functions said "works on", and ran some of them."""
    with ValkeyProcess(tmp_path, "--maxclients", "60") as server:
        worker, _ = worker_of(many()[0], server.url)
        with pytest.raises(ConfigError) as caught:
            await worker.run()
    told = str(caught.value)
    assert f"{FUNCTIONS} functions need {NEEDED} connections (one for each of {FUNCTIONS * 3} streams, and 3)" in told
    assert "this Redis takes 60: CONFIG SET maxclients" in told


@pytest.mark.parametrize("with_info", [True, False])
async def test_a_worker_waits_while_others_have_the_room_and_then_serves_all(tmp_path: Path, with_info: bool) -> None:
    gone = () if with_info else ("--rename-command", "INFO", "")
    most = NEEDED + 30
    with ValkeyProcess(tmp_path, "--maxclients", str(most), *gone) as server:
        others = [redis.Redis.from_url(server.url, protocol=2, single_connection_client=True) for _ in range(35)]
        for other in others:
            other.ping()
        app, ran = many()
        worker, said = worker_of(app, server.url)
        working = asyncio.ensure_future(worker.run())

        async def told() -> bool:
            return bool(about(said, "waiting for room" if with_info else "takes no more connections"))

        await eventually(told, "that it waits")
        await asyncio.sleep(1.0)
        assert len(about(said, "waiting for room" if with_info else "takes no more connections")) == 1
        assert not worker.ready.is_set()
        listed = [row["cmd"] for row in others[0].client_list()]
        assert not [cmd for cmd in listed if "xreadgroup" in cmd], "it serves no half"
        for other in others[1:]:
            other.close()
        await worker.ready.wait()
        for n in range(FUNCTIONS):
            await app.send(f"a{n}", {})

        async def all_ran() -> bool:
            return len(set(ran)) == FUNCTIONS

        await eventually(all_ran, "a run of each function")
        assert about(said, "no Redis at") == []
        worker.stop()
        await working


async def test_a_full_server_is_not_no_redis(tmp_path: Path) -> None:
    with ValkeyProcess(tmp_path, "--maxclients", "20") as server:
        others = [redis.Redis.from_url(server.url, single_connection_client=True) for _ in range(20)]
        wire = Wire(Settings(redis_url=server.url), "late")
        with pytest.raises(StoreUnavailable, match=r"takes no more connections .*raise maxclients") as caught:
            await wire.call("PING")
        assert caught.value.state == "maxclients"
        await wire.close()
        for other in others:
            other.close()


APP = """
from stepstream import Bus
app = Bus("files")
for n in range(40):
    async def body(ctx, step): ...
    app.function(f"f{n}", on=f"a{n}")(body)
"""


def run_worker(folder: Path, url: str, soft: int, hard: int) -> subprocess.Popen[bytes]:
    (folder / "manyfiles.py").write_text(APP)
    (folder / "log").touch()
    return subprocess.Popen(
        ["sh", "-c", f"exec {sys.executable} -m stepstream worker manyfiles:app 2>log"], cwd=folder,
        env={**os.environ, "BUS_REDIS_URL": url, "PYTHONPATH": f"{Path(__file__).parent.parent.parent}:{folder}"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )  # fmt: skip


@pytest.mark.process
async def test_too_few_open_files_are_told_and_the_worker_does_not_start(tmp_path: Path) -> None:
    """With 100 files, 60 of 120 streams were read and the rest was silent."""
    with ValkeyProcess(tmp_path) as server:
        worker = run_worker(tmp_path, server.url, 100, 100)
        try:
            assert await anyio.to_thread.run_sync(worker.wait, PATIENT_S) == 1
        finally:
            worker.kill()
            worker.wait()
    log = (tmp_path / "log").read_text()
    assert "40 functions need 123 connections" in log
    assert "this process may have 100: raise the limit (ulimit -n " in log
    assert "Traceback" not in log


@pytest.mark.process
async def test_the_soft_limit_of_files_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    with ValkeyProcess(tmp_path) as server:
        worker = run_worker(tmp_path, server.url, 100, 1_000)
        try:

            async def works() -> bool:
                assert worker.poll() is None, (tmp_path / "log").read_text()
                return b" works on " in (tmp_path / "log").read_bytes()

            await eventually(works, "a worker at work")
            limits = Path(f"/proc/{worker.pid}/limits").read_text()
            assert next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")) == "1000"
        finally:
            worker.terminate()
            worker.wait(PATIENT_S)


async def test_a_process_without_a_file_to_spare_is_not_no_redis(tmp_path: Path) -> None:
    with ValkeyProcess(tmp_path) as server:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wire = Wire(Settings(redis_url=server.url), "full")
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            while True:
                try:
                    held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            with pytest.raises(StoreUnavailable, match="may open no more files") as caught:
                await wire.call("PING")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for handle in held:
                os.close(handle)
        assert caught.value.state == "files"
        assert await wire.call("PING") == b"PONG"
        await wire.close()


async def test_one_function_works_where_there_is_room(tmp_path: Path) -> None:
    with ValkeyProcess(tmp_path, "--maxclients", "17") as server:
        app, ran = many(1)
        worker, said = worker_of(app, server.url)
        async with running(worker):
            await app.send("a0", {})

            async def done() -> bool:
                with redis.Redis.from_url(server.url) as store:
                    return store.zcard(keys.runs("many-f0", "completed")) == 1

            await eventually(done, "its run")
        assert ran == ["many-f0"]
        assert about(said, "room") == []
