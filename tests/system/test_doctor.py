"""`bus doctor`: what makes a server unfit, what is advice, and what a worker does about it when it starts."""

import asyncio
import json
import re
from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from stepstream import Bus, Concurrency, Context, Debounce, EventData, Step, Worker
from stepstream.bus.bus import NewEvent
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import doctor, keys
from stepstream.bus.wire.doctor import Finding, examine, refuse
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.worker import running
from tests import forks
from tests.scripts import all_scripts
from tests.support import ValkeyProcess, eventually


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


async def test_the_rights_that_operations_md_gives_are_enough_and_give_no_more(server: ValkeyProcess) -> None:
    """They gave CONFIG GET, which shows requirepass, and FUNCTION FLUSH (it is a write)."""
    page = (Path(__file__).parent.parent.parent / "docs/operations.md").read_text()
    rule = next(line for line in page.splitlines() if line.startswith("ACL SETUSER stepstream"))
    with redis.Redis.from_url(server.url) as store:
        store.execute_command(*rule.replace("<password>", "pw").split())
    url = server.url.replace("redis://", "redis://stepstream:pw@")
    found = await look(url)
    assert found["rights"].verdict == "fit", found["rights"].found
    assert [one.check for one in found.values() if "NOPERM" in one.found] == ["CONFIG GET"]
    with redis.Redis.from_url(url) as store:
        for refused in ("CONFIG GET requirepass", "FUNCTION FLUSH", "FUNCTION LIST", "SCRIPT FLUSH", "FLUSHALL", "KEYS *",
                        "ACL LIST", "GET other", "PUBLISH c m", "SHUTDOWN", "SAVE", "CLIENT KILL TYPE normal",
                        "CLIENT LIST", "MONITOR", "SWAPDB 0 1"):  # fmt: skip
            with pytest.raises(redis.ResponseError, match=r"(?i)permissions"):
                store.execute_command(*refused.split(" "))
        with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
            store.eval("return redis.call('FLUSHALL')", 0)

    app = Bus("rights")

    @app.function("f", on="a", concurrency=Concurrency(1, shared="all"), retries=0)
    async def f(ctx, step):
        await step.sleep("nap", 0.01)
        told, _ = await asyncio.gather(
            step.wait_for_event("told", "b", timeout="10s"), step.send_event("tell", [NewEvent("b", {})])
        )
        assert told is not None
        return await step.invoke("ask", "rights-g", {})

    @app.function("g", on="c", debounce=Debounce("1s"))
    async def g(ctx, step):
        return 1

    async with running(Worker(app, settings=Settings(redis_url=url))):
        await app.send("a", {})
        with redis.Redis.from_url(server.url) as store:

            async def ended() -> bool:
                assert store.zcard(keys.runs("rights-f", "failed")) == 0
                return store.zcard(keys.runs("rights-f", "completed")) == 1

            await eventually(ended, "a run of a user with these rights alone")


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
