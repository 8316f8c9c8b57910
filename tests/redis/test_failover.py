"""A primary becomes a replica and keeps its connections: nothing that it says from then on is taken for true."""

from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from tests.chaos.resp import RespProxy
from tests.support import ValkeyProcess


@pytest.fixture
def servers(tmp_path: Path) -> Generator[tuple[ValkeyProcess, ValkeyProcess]]:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with ValkeyProcess(tmp_path / "old") as old, ValkeyProcess(tmp_path / "new") as new:
        yield old, new


async def test_reads_do_not_stay_with_a_replica_that_serves_them_without_a_word(
    servers: tuple[ValkeyProcess, ValkeyProcess],
) -> None:
    """The courier read `running` there of a run that had ended, and told its caller so."""
    old, new = servers
    with RespProxy(old.port) as proxy:
        through = Wire(Settings(redis_url=proxy.url), "test")
        with redis.Redis.from_url(old.url) as at_old, redis.Redis.from_url(new.url) as at_new:
            at_old.set("run", "running")
            at_new.set("run", "ended")
            first = await through.load("GET", "run")
            at_old.replicaof("127.0.0.1", "1")  # it hears nothing of the new one's writes
            proxy.point(new.port)
            then = await through.load("GET", "run")
        await through.close()
    assert (first, then) == (b"running", b"ended")


async def test_reads_go_on_when_a_primary_refuses_writes_for_another_reason(
    servers: tuple[ValkeyProcess, ValkeyProcess],
) -> None:
    """Its disk is full: runs can still be looked at."""
    wire = Wire(Settings(redis_url=servers[0].url), "test")
    await wire.call("SET", "run", "ended")
    await wire.call("CONFIG", "SET", "min-replicas-to-write", "1")
    seen = [await wire.load("GET", "run", patience=0.5), *await wire.loads(("GET", "run"))]
    is_in_trouble = wire.is_in_trouble
    await wire.close()
    assert (seen, is_in_trouble) == ([b"ended", b"ended"], False)
