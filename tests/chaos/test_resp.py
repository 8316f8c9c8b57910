"""The proxy that knows commands does what it is told, and nothing else."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.resp import RespProxy
from tests.scripts import all_scripts
from tests.support import ValkeyProcess

pytestmark = pytest.mark.chaos


@pytest.fixture
def server(tmp_path: Path) -> Generator[ValkeyProcess]:
    with ValkeyProcess(tmp_path) as started:
        yield started


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), decode_responses=True)


def test_answers_stay_in_the_order_of_their_commands(server: ValkeyProcess) -> None:
    with RespProxy(server.port, seed=7) as proxy, client(proxy.url) as through:
        through.ping()
        proxy.refuse("NOTNOW wait", share=0.5, name="SET")
        pipe = through.pipeline(transaction=False)
        for n in range(200):
            pipe.set(f"k{n}", "x" * n * 50)
            pipe.echo(str(n))
            pipe.hmget("none", "a", "b")
            pipe.lrange("none", 0, -1)
        replies = pipe.execute(raise_on_error=False)
        proxy.mend()
        refused = [n for n in range(200) if isinstance(replies[4 * n], redis.ResponseError)]
        assert [replies[4 * n + 1] for n in range(200)] == [str(n) for n in range(200)]
        assert 60 < len(refused) < 140
        assert proxy.told() == {"NOTNOW wait": len(refused)}
        assert [n for n in range(200) if through.get(f"k{n}") is None] == refused


def test_a_connection_breaks_at_the_reply_of_the_nth_command_of_a_name(server: ValkeyProcess) -> None:
    with RespProxy(server.port) as proxy, client(proxy.url) as through:
        proxy.cut("INCRBY", nth=2, holding="mine")
        through.incr("mine")
        through.incr("other")
        through.incr("other")
        with pytest.raises(redis.ConnectionError):
            through.incr("mine")
        assert through.get("mine") == "2", "it was done before the connection broke"
        proxy.cut("INCRBY", at="request")
        with pytest.raises(redis.ConnectionError):
            through.incr("mine")
        assert through.get("mine") == "2"
        assert proxy.told() == {"cut": 2}


def test_scripts_have_their_names(server: ValkeyProcess) -> None:
    script = all_scripts()["lease_renew"]
    with RespProxy(server.port) as proxy, client(proxy.url) as through:
        proxy.answer("NOTNOW wait", "lease_renew", times=2)
        for command in (("EVALSHA", script.sha), ("EVAL", script.text)):
            with pytest.raises(redis.ResponseError, match="NOTNOW"):
                through.execute_command(*command, 1, "leases", "", "me", 1000, 1)
        assert through.execute_command("EVAL", script.text, 1, "leases", "", "me", 1000, 1)


def test_new_connections_are_led_elsewhere_while_old_ones_stay(server: ValkeyProcess, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        ValkeyProcess(tmp_path / "other") as other,
        RespProxy(server.port) as proxy,
        client(proxy.url) as old,
        client(proxy.url) as new,
    ):
        old.set("where", "first")
        proxy.point(other.port)
        new.set("where", "second")
        assert old.get("where") == "first"
        assert new.get("where") == "second"
        proxy.point(other.port, keep_open=False)
        with contextlib.suppress(redis.ConnectionError):  # redis-py may see before that its connection has ended
            old.get("where")
        assert old.get("where") == "second"
