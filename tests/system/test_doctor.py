"""`bus doctor`: what makes a server unfit, what is advice, and what a worker does about it when it starts."""

import json
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from stepstream import Bus, Context, EventData, Step, Worker
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import doctor, keys
from stepstream.bus.wire.doctor import Finding, examine, refuse
from stepstream.bus.wire.wire import Wire
from tests import forks
from tests.scripts import all_scripts
from tests.support import Lab, ValkeyProcess, acl_rule, free_port


@pytest.fixture
def server(tmp_path: Path) -> Generator[ValkeyProcess]:
    """A server of its own: the tests change its settings."""
    with ValkeyProcess(tmp_path, appendonly="yes") as made:
        yield made


async def look(url: str) -> dict[str, Finding]:
    wire = Wire(Settings(redis_url=url), "doctor")
    try:
        return {finding.check: finding for finding in await examine(wire)}
    finally:
        await wire.close()


async def test_a_server_set_up_as_advised_is_fit_in_everything_and_nothing_is_left_on_it(server: ValkeyProcess) -> None:
    found = await look(server.url)
    assert {finding.verdict for finding in found.values()} == {"fit"}, found
    with redis.Redis.from_url(server.url) as store:
        assert store.keys("*") == []


@pytest.mark.parametrize(
    ("settings", "check", "verdict", "do"),
    [
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "eviction", "unfit", "noeviction"),
        ({"maxmemory-policy": "volatile-ttl"}, "eviction", "advice", "noeviction"),
        ({"maxmemory": "1mb"}, "memory", "advice", "BUS_KEEP"),
        ({"appendonly": "no"}, "persistence", "advice", "appendonly yes"),
        ({"appendfsync": "no"}, "persistence", "advice", "everysec"),
        ({"hash-max-listpack-value": "64"}, "hash-max-listpack-value", "advice", "1024"),
    ],
)
async def test_what_is_wrong_is_told_with_what_to_do(
    server: ValkeyProcess, settings: dict[str, str], check: str, verdict: str, do: str
) -> None:
    with redis.Redis.from_url(server.url) as store:
        for name, value in settings.items():
            store.config_set(name, value)
    found = (await look(server.url))[check]
    assert found.verdict == verdict
    assert do in found.do


async def test_a_replica_is_unfit(server: ValkeyProcess) -> None:
    with redis.Redis.from_url(server.url) as store:
        store.replicaof("127.0.0.1", "1")
    found = await look(server.url)
    assert found["role"].verdict == "unfit"
    assert refuse(list({"role": found["role"]}.values())) == [found["role"]], "a worker waits for its promotion"


async def test_a_right_that_is_missing_is_named_with_its_command(server: ValkeyProcess) -> None:
    with redis.Redis.from_url(server.url) as store:
        store.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["bus:*"],
                          categories=["+@all"], commands=["-del", "-xgroup"])  # fmt: skip
    found = await look(server.url.replace("redis://", "redis://app:pw@"))
    assert found["rights"].verdict == "unfit"
    assert "XGROUP" in found["rights"].found
    assert "DEL" in found["rights"].found
    assert "+xgroup +del:" in found["rights"].do
    assert "NOGROUP" not in found["rights"].found, "what follows from it is not told"


@pytest.mark.each_server
async def test_the_doctor_tries_every_command_that_workers_use(wire: Wire) -> None:
    """It tried one that nobody uses, and not those of the scripts; each is checked by the server's ACL."""
    scripts = all_scripts().values()
    used = {word for script in scripts for word in re.findall(r"redis\.p?call\(['\"]([A-Z]+)['\"]", script.text)}
    for folder in ("bus", "checkpoint", "consumers", "producers", "web"):
        for path in (Path(__file__).parent.parent.parent / folder).rglob("*.py"):
            if path.name != "harness.py":  # it empties its own database
                used |= set(re.findall(r"(?:call|load|tell)\(\s*\"([A-Z]+)\"", path.read_text()))
    optional = {"SCRIPT"}
    assert used - optional - {str(command[0]) for command in doctor._needed()} == set()


ANYBODY_MAY = {
    "asking", "auth", "client|id", "client|setname", "client|unblock", "echo", "hello", "info", "lolwut", "ping", "quit",
    "readonly", "readwrite", "reset", "script|exists", "script|load", "select", "time", "wait", "waitaof",
}  # fmt: skip
"""Commands about no key which the documented user may run, beside COMMAND, which tells of commands."""


def every_command(store: "redis.Redis") -> Iterator[tuple[list[str], bool]]:
    """Yield the server's commands as words that its ACL can be asked for, and whether they are about keys."""

    def leaves(rows: Any) -> Iterator[Any]:
        for row in rows:
            yield from leaves(row[9]) if row[9] else (row,)

    with redis.Redis(connection_pool=store.connection_pool) as raw:
        raw.response_callbacks.clear()
        for row in leaves(raw.execute_command("COMMAND")):
            words = row[0].split("|")
            yield [*words, *["x"] * (abs(row[1]) - len(words))], bool(row[8]) or "movablekeys" in row[2]


@pytest.mark.each_server
def test_the_documented_user_may_run_nothing_that_tells_of_what_is_not_its_own(url: str, store: "redis.Redis") -> None:
    """It could SCAN the names of all keys; newer servers have more such commands: CLUSTERSCAN, CLIENT TRACKING."""
    may = set[str]()
    for words, is_about_keys in every_command(store):
        if not is_about_keys and str(store.execute_command("ACL", "DRYRUN", "stepstream", *words)) in {"OK", "True"}:
            may.add("|".join(word for word in words if word != "x"))
    assert {name for name in may if not name.startswith("command")} <= ANYBODY_MAY
    store.set("other:secret", "1")
    store.set("bus:functions", "1")
    with redis.Redis.from_url(url) as own:
        for refused in (
            "CONFIG GET requirepass", "CONFIG SET requirepass x", "FUNCTION FLUSH", "FUNCTION LIST", "SCRIPT FLUSH",
            "SCRIPT KILL", "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "SCAN 0 MATCH bus:*", "RANDOMKEY", "DBSIZE",
            "SORT bus:functions BY other:*", "SORT_RO bus:functions GET other:*", "CLIENT TRACKING ON BCAST",
            "CLIENT LIST", "CLIENT KILL TYPE normal", "ACL LIST", "GET other:secret", "COPY bus:functions other:x",
            "MOVE bus:functions 3", "RENAME bus:functions other:x", "PUBLISH c m", "SHUTDOWN", "SAVE", "MONITOR",
            "SWAPDB 0 1", "REPLICAOF NO ONE", "SLOWLOG GET",
        ):  # fmt: skip
            with pytest.raises(redis.ResponseError, match=r"(?i)permissions"):
                own.execute_command(*refused.split(" "))
        for text in ("redis.call('FLUSHALL')", "redis.call('GET', 'other:secret')", "redis.call('SCAN', '0')"):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't (run|access)"):
                own.eval(f"return {text}", 0)
        assert own.get("bus:functions") == b"1"


async def test_bus_doctor_and_bus_check_tell_the_documented_user_of_scan_and_of_the_user_that_has_it(lab: Lab) -> None:
    found = {finding.check: finding for finding in await examine(lab.wire)}
    assert found["rights"].verdict == "fit", found["rights"].found
    assert [one.check for one in found.values() if "NOPERM" in one.found] == ["CONFIG GET", "SCAN"]
    assert found["SCAN"].verdict == "advice"
    assert "a user of its own" in found["SCAN"].do
    environ = {"PATH": "/usr/bin:/bin", "BUS_LEASE": "1"}
    refused = forks.bus("check", env={**environ, "BUS_REDIS_URL": lab.wire.settings.redis_url})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "this user may not look at every key" in refused.stderr
    assert "docs/operations.md" in refused.stderr
    checked = forks.bus("check", env={**environ, "BUS_REDIS_URL": lab.checker.settings.redis_url})
    assert (checked.returncode, checked.stderr) == (0, "")
    assert acl_rule("stepstream-check")[3:] == [*acl_rule("stepstream")[3:], "+scan"]


def test_bus_doctor_prints_the_rule_of_its_user_for_the_prefix_and_asks_no_server(server: ValkeyProcess) -> None:
    """The rule was in a page of ours, which an installed package does not have."""
    environ = {"PATH": os.environ["PATH"], "BUS_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    told = forks.bus("doctor", "--acl", env=environ)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.replace("<password>", "pw").split() == ["user", *acl_rule("stepstream")[2:]]
    of_shop = json.loads(forks.bus("doctor", "--acl", "--json", env={**environ, "BUS_PREFIX": "shop"}).stdout)["rule"]
    with redis.Redis.from_url(server.url) as store:
        store.execute_command("ACL", "SETUSER", *of_shop.replace("<password>", "pw").split()[1:])
    theirs = {**environ, "BUS_PREFIX": "shop", "BUS_REDIS_URL": server.url.replace("//", "//stepstream:pw@")}
    assert forks.bus("doctor", env=theirs).returncode == 0
    refused = forks.bus("doctor", env={**theirs, "BUS_PREFIX": "shop2"})
    assert refused.returncode == 1
    assert "keys begin with shop2: here (BUS_PREFIX)" in refused.stdout + refused.stderr


async def test_the_rights_that_operations_md_gives_publishers_are_enough(
    server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They left out the types, which were then not checked, and events for later, which were refused."""
    page = (Path(__file__).parent.parent.parent / "docs/operations.md").read_text()
    lines = page[page.index("ACL SETUSER shop-web") :].partition("```")[0].splitlines()
    rule = " ".join(line.partition("#")[0] for line in lines).replace("<password>", "pw")
    monkeypatch.setenv("BUS_REDIS_URL", server.url.replace("redis://", "redis://shop-web:pw@"))
    app = Bus("rights")

    class Paid(EventData, name="order/paid"):
        cents: int

    @app.function("f", on=Paid)
    async def f(ctx: Context[Paid], step: Step) -> None: ...

    with redis.Redis.from_url(server.url) as store:
        store.execute_command(*rule.split())
        assert (await app.send(Paid(1), id="o1")).functions == 1
        await app.send(Paid(1), delay="1h", id="o2")
        await app.send("other/thing", {})
        await app.close()
        assert store.zcard(keys.delayed("order/paid")) == 1
        assert store.hexists(keys.types(), "order/paid")
    refused = {
        line.getMessage().partition(" is refused")[0] for line in caplog.records if "NOPERM" in line.getMessage()
    }
    assert refused == {"CLIENT SETNAME", "SCRIPT LOAD"}


async def test_a_worker_refuses_a_server_that_evicts(server: ValkeyProcess) -> None:
    with redis.Redis.from_url(server.url) as store:
        store.config_set("maxmemory", "100mb")
        store.config_set("maxmemory-policy", "allkeys-lru")
    app = Bus("evicted")

    @app.function("f", on="a")
    async def f(ctx, step):
        return None

    with pytest.raises(ConfigError, match="noeviction"):
        await Worker(app, settings=Settings(redis_url=server.url)).run()


def test_the_command_prints_a_table_or_json_and_its_exit_code_tells(server: ValkeyProcess) -> None:
    environ = {"BUS_REDIS_URL": server.url, "PATH": "/usr/bin:/bin"}
    table = forks.bus("doctor", env=environ)
    assert table.returncode == 0, table.stderr
    assert "eviction" in table.stdout
    with redis.Redis.from_url(server.url) as store:
        store.config_set("maxmemory", "100mb")
        store.config_set("maxmemory-policy", "allkeys-lru")
    told = forks.bus("doctor", "--json", env=environ)
    assert told.returncode == 1
    assert {one["check"]: one["verdict"] for one in json.loads(told.stdout)}["eviction"] == "unfit"


def test_bus_doctor_prints_what_a_missing_right_costs_and_how_it_is_given(server: ValkeyProcess) -> None:
    with redis.Redis.from_url(server.url) as store:
        store.execute_command(*["ACL", "SETUSER", "app", "on", ">pw", "~bus:*", "+@all", "-info", "-client|unblock"])
    environ = {"BUS_REDIS_URL": server.url.replace("redis://", "redis://app:pw@"), "PATH": "/usr/bin:/bin"}
    done = forks.bus("doctor", "--json", env=environ)
    assert done.returncode == 0, done.stderr
    told = {one["check"]: one for one in json.loads(done.stdout)}
    assert "+info gives it" in told["INFO"]["do"]
    assert "+client|unblock gives it" in told["CLIENT UNBLOCK"]["do"]


def test_bus_doctor_tells_that_a_site_may_not_open_as_many_files_as_connections_are_wished_for(
    server: ValkeyProcess,
) -> None:
    for wished, verdict in ("16", "fit"), ("100000000", "advice"):
        environ = {"BUS_REDIS_URL": server.url, "PATH": "/usr/bin:/bin", "BUS_MAX_CONNECTIONS": wished}
        told = {one["check"]: one for one in json.loads(forks.bus("doctor", "--json", env=environ).stdout)}
        assert told["open files"]["verdict"] == verdict
    assert "ulimit -Hn 100000256" in told["open files"]["do"]


def test_bus_doctor_tries_the_store_of_large_results(server: ValkeyProcess, tmp_path: Path) -> None:
    for folder, verdict, code in (tmp_path / "blobs", "fit", 0), (Path("/etc/hostname/blobs"), "unfit", 1):
        environ = {"BUS_REDIS_URL": server.url, "PATH": "/usr/bin:/bin", "BUS_BLOBS_URL": folder.as_uri()}
        done = forks.bus("doctor", "--json", env=environ)
        told = {one["check"]: one for one in json.loads(done.stdout)}["blobs"]
        assert (told["verdict"], done.returncode) == (verdict, code), told
        assert folder.as_uri() in told["found"]
    assert "File exists" in told["found"]
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [".unfinished"], "the probe is gone"
