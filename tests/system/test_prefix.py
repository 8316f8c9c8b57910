"""BUS_PREFIX: installations that share a Redis see nothing of each other, and no key is without its prefix."""

import json
import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings, read
from stepstream.bus.wire import keys, kinds
from stepstream.bus.wire.keys import prefixed
from stepstream.bus.wire.wire import Wire
from tests import forks
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess, WorkerProcess, acl_rule

ROOT = Path(__file__).parents[2]
PREFIXES = ("one", "two.eu:shop-2")
APP = """
import os
from stepstream import Bus, Concurrency, Debounce

app = Bus("shop")
OWN = os.environ["BUS_PREFIX"]

@app.function("g", on="b", concurrency=Concurrency(1, shared="gpu"))
async def g(ctx, step):
    return OWN

@app.function("f", on="a", concurrency=1)
async def f(ctx, step):
    await step.run("x", lambda: 1)
    await step.sleep("nap", 0.05)
    await step.send_event("told", "b")
    await step.wait_for_event("other", "c", timeout=0.05)
    await step.wait_for_signal("sign", "s", timeout=0.05)
    return await step.invoke("call", "shop-g")

@app.function("h", on="a", debounce=Debounce(1), cancel_on="d")
async def h(ctx, step):
    return OWN
"""


@pytest.mark.process
def test_two_installations_on_one_redis_see_nothing_of_each_other(tmp_path: Path) -> None:
    """Each may touch nothing but its own keys: the server refuses the rest."""
    (tmp_path / "shop.py").write_text(APP)
    with ValkeyProcess(tmp_path) as server, redis.Redis.from_url(server.url) as store, ExitStack() as stack:
        url = {}
        for n, prefix in enumerate(PREFIXES):
            rule = [word.replace("~bus:", f"~{prefix}:") for word in acl_rule("stepstream-check")[3:]]
            store.execute_command("ACL", "SETUSER", f"u{n}", *rule)
            url[prefix] = server.url.replace("//", f"//u{n}:pw@")

        def bus(prefix: str, *words: str) -> str:
            environ = {**os.environ, "BUS_PREFIX": prefix, "BUS_REDIS_URL": url[prefix], "BUS_LEASE": "1"}
            done = forks.bus(*words, env=environ)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        started = []
        for prefix in PREFIXES:
            worker = WorkerProcess(
                "shop:app", url[prefix], log=tmp_path / prefix, environ={"BUS_PREFIX": prefix, "BUS_LEASE": "1"},
                cwd=tmp_path,
            )  # fmt: skip
            started.append(stack.enter_context(worker))
            worker.wait_ready()
        first, second = PREFIXES
        sent = json.loads(bus(first, "send", "a", "--wait", "30", "--json"))
        assert [run["status"] for run in sent["runs"]] == ["completed", "skipped"]
        assert json.loads(bus(second, "runs", "--json")) == []
        assert {run["function"] for run in json.loads(bus(first, "runs", "--json"))} >= {"shop-f", "shop-g"}
        sent = json.loads(bus(second, "send", "b", "--wait", "30", "--json"))
        assert json.loads(bus(second, "run", sent["runs"][0]["run"], "--json"))["run"]["output"] == second
        for prefix in PREFIXES:
            assert f"{prefix}:*" in bus(prefix, "doctor")
            assert "0 of them have no holder; 0 keys are not right" in bus(prefix, "check")
        for worker in started:
            worker.signal(signal.SIGTERM)
            assert worker.process.wait(PATIENT_S) == 0
        found = {key.decode() for key in store.scan_iter(count=1_000)}
        assert not {key for key in found if not key.startswith(tuple(f"{prefix}:" for prefix in PREFIXES))}
        assert {f"{prefix}:functions" for prefix in PREFIXES} < found


@pytest.mark.parametrize("prefix", ["a", "0", "shop", "shop.eu:v2_x-1", "x" * 64])
def test_letters_digits_and_four_signs_make_a_prefix(prefix: str) -> None:
    assert read({"BUS_PREFIX": prefix})[0].prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["", ":", "a:", ":a", "-a", "a.", "a{b}", "a b", "a*", "a?b", "[a]", "ü", "a\n", "x" * 65]
)
def test_what_is_no_prefix_is_refused_with_what_would_do(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"BUS_PREFIX .* up to 64 ASCII letters, digits and"):
        read({"BUS_PREFIX": prefix})


async def test_a_process_has_one_prefix(wire: Wire, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="begin with 'bus', and is told to use 'other': BUS_PREFIX is one"):
        Wire(Settings(redis_url=settings.redis_url, prefix="other"), "test")
    assert keys.functions() == "bus:functions"


def test_every_key_begins_with_the_prefix_and_is_known_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [make(*stand_ins) for make, stand_ins in keys.ALL]
    monkeypatch.setattr(prefixed, "_prefix", "shop:eu")
    for (make, stand_ins), old in zip(keys.ALL, before, strict=True):
        key = make(*stand_ins)
        assert key == old.replace("bus:", "shop:eu:", 1)
        found = kinds.kind_of(key)
        assert found is not None
        assert found[0] == make.__name__
        assert kinds.kind_of(old) is None
    assert (keys.pattern(), keys.function("f")) == ("shop:eu:*", "shop:eu:fn:{f}:")


def test_no_script_makes_a_key_of_its_own() -> None:
    """What a script touches is given to it, or begins with what is given to it; headers tell of today's names."""
    texts = [
        path for folder in ("bus", "checkpoint", "producers", "consumers") for path in (ROOT / folder).rglob("*.lua")
    ]
    assert len(texts) > 40
    for path in texts:
        code = re.sub(r"--\[\[.*?\]\]|--[^\n]*", "", path.read_text(), flags=re.DOTALL)
        assert "bus:" not in code, path
