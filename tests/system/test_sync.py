"""Publishing from code without an event loop: threads, forks, scripts; and what is told while Redis is away."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import redis

import stepstream
from stepstream import Bus, ConfigError, EventInvalid, Harness, NewEvent, PublishFailed, StepstreamError, Unavailable
from stepstream.bus.errors import BusError, StoreUnavailable
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from tests.chaos.resp import RespProxy
from tests.patience import PATIENT_S
from tests.support import ROOT, free_port


@pytest.fixture
def app(in_environment: None) -> Bus:
    return Bus("shop")


def test_twenty_threads_send_over_one_connection(app: Bus, store: redis.Redis) -> None:
    app = Bus("threads")  # whose connection has a name of its own: those of other tests stay open until the exit
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda n: app.send_sync("a", {"n": n}), range(200)))
    assert len(set(ids)) == 200
    assert {fields["id"] for _, fields in store.xrange(keys.events("a"))} == set(ids)
    assert [one["name"] for one in store.client_list()].count("send:threads") == 1


def test_it_checks_and_answers_as_send_does(app: Bus, store: redis.Redis) -> None:
    assert app.send_sync("a", {"n": 1}, id="mine") == "mine"
    assert app.send_sync(NewEvent("a", {"n": 2}, "mine")) == "mine"
    assert app.send_sync([NewEvent("a", {}, "x"), NewEvent("b", {}, "y")]) == ["x", "y"]
    assert app.send_sync("later", {}, id="z", delay="1h") == "z"
    assert store.xlen(keys.events("a")) == 2
    assert store.zcard(keys.delayed("later")) == 1
    with pytest.raises(EventInvalid, match="reserved") as refused:
        app.send_sync([NewEvent("a"), NewEvent("bus/x")])
    assert refused.value.position == 1
    assert store.xlen(keys.events("a")) == 2


async def test_in_an_event_loop_it_says_what_to_write(app: Bus) -> None:
    with pytest.raises(ConfigError, match=r"await app\.send\(…\)"):
        app.send_sync("a", {})


async def test_a_thread_beside_a_worker_or_a_test_sends_to_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the server of BUS_REDIS_URL, which a test does not mean; and not as a part of the run that calls it."""
    monkeypatch.setenv("BUS_REDIS_URL", "redis://127.0.0.1:1")
    app = Bus("shop")

    @app.function("f", on="a")
    async def f(ctx, step):
        return await step.run("tell", lambda: app.send_sync("told", {"n": 1}))

    async with Harness(app) as bus:
        await bus.send("a")
        assert await bus.output() == (await bus.events("told"))[0].id
        await anyio.to_thread.run_sync(app.send_sync, "told", {"n": 2})
        assert [event.data["n"] for event in await bus.events("told")] == [1, 2]


FORKS = """
import logging, multiprocessing, os, sys
from concurrent.futures import ThreadPoolExecutor
from stepstream import Bus

app = Bus("forks")
logging.getLogger("asyncio").setLevel("ERROR")  # in dev mode it tells of each callback that was slow

def child(answers):
    answers.put(app.send_sync("a", {"who": "child"}))

app.send_sync("a", {"who": "parent"})
forks = multiprocessing.get_context("fork")
answers = forks.Queue()
children = [forks.Process(target=child, args=(answers,)) for _ in range(3)]
for one in children: one.start()
assert len({answers.get(timeout=60) for _ in children}) == 3
for one in children: one.join()
pid = os.fork()  # as gunicorn forks its workers: this child ends through the interpreter
if pid == 0:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: app.send_sync("a", {"who": "worker"}), range(4)))
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
app.send_sync("a", {"who": "parent"})
"""


@pytest.mark.process
def test_forked_children_open_connections_of_their_own_and_nothing_is_left_open(url: str, store: redis.Redis) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", FORKS],
        env={**os.environ, "BUS_REDIS_URL": url}, cwd=ROOT, capture_output=True, text=True, timeout=PATIENT_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    who = [fields["data"] for _, fields in store.xrange(keys.events("a"))]
    assert sorted(who) == sorted(['{"who":"parent"}'] * 2 + ['{"who":"child"}'] * 3 + ['{"who":"worker"}'] * 4)
    assert "send:forks" not in {one["name"] for one in store.client_list()}


INTERRUPTED = """
import logging, threading
from stepstream import Bus, ConfigError

logging.getLogger("asyncio").setLevel("ERROR")  # in dev mode it tells of each callback that was slow
app, start = Bus("interrupted"), threading.Thread.start

def interrupted(thread):  # as by a signal, or by a collection of garbage
    threading.Thread.start = start
    app.send_sync("a", {"by": "handler"})
    start(thread)

class Last:
    def __del__(self, ConfigError=ConfigError):
        try:
            app.send_sync("a", {})
        except ConfigError as error:
            print(error, flush=True)

threading.Thread.start = interrupted
app.send_sync("a", {"by": "code"})
last = Last()
"""


@pytest.mark.process
def test_a_signal_handler_or_a_late_del_that_sends_does_not_hang(url: str, store: redis.Redis) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", INTERRUPTED],
        env={**os.environ, "BUS_REDIS_URL": url}, cwd=ROOT, capture_output=True, text=True, timeout=PATIENT_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "this process is ending" in done.stdout
    who = [fields["data"] for _, fields in store.xrange(keys.events("a"))]
    assert who == ['{"by":"handler"}', '{"by":"code"}']


@pytest.mark.parametrize(
    ("event", "field"),
    [(NewEvent("a\ud800"), "name"), (NewEvent("a", id="a\ud800"), "id"), (NewEvent("a", v="\udfff"), "v")],
)
def test_half_a_surrogate_pair_is_refused_with_its_field(app: Bus, event: NewEvent, field: str) -> None:
    """Words of a command line that are no UTF-8 have them."""
    with pytest.raises(EventInvalid, match="half of a surrogate pair") as refused:
        app.send_sync(event)
    assert refused.value.field == field


# -- Redis is away ------------------------------------------------------------------------------------------------


def away(app: Bus, within: float) -> PublishFailed:
    began = time.monotonic()
    with pytest.raises(PublishFailed) as failed:
        app.send_sync("a", {}, id="mine")
    assert time.monotonic() - began < within
    return failed.value


def test_nobody_there_is_answered_within_the_timeout_of_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    failed = away(Bus("shop"), 9.0)
    assert "nothing was stored" in str(failed)
    assert (failed.stored, failed.unknown) == ([], ())
    monkeypatch.setenv("BUS_TIMEOUT", "0.2")
    away(Bus("shop"), 2.9)


@pytest.mark.parametrize("at", ["reply", "request"])
def test_a_connection_that_breaks_with_the_event_leaves_its_outcome_unknown(
    url: str, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """It was told "not stored" of an event that was; the same id may be sent again, and is stored once."""
    monkeypatch.setenv("BUS_TIMEOUT", "0.3")
    with RespProxy(int(url.rpartition(":")[2].partition("/")[0])) as proxy:
        monkeypatch.setenv("BUS_REDIS_URL", proxy.url)
        app = Bus("shop")
        app.send_sync("a", {}, id="first")
        proxy.cut("event_publish", times=100, at=at)
        failed = away(app, 9.0)
        assert failed.unknown == ("mine",)
        assert "not known of mine" in str(failed)
        proxy.mend()
        assert app.send_sync("a", {}, id="mine") == "mine"
    assert [fields["id"] for _, fields in store.xrange(keys.events("a"))] == ["first", "mine"]


def test_errors_have_one_base_that_can_be_imported() -> None:
    assert StepstreamError is BusError
    assert Unavailable is StoreUnavailable
    assert issubclass(PublishFailed, Unavailable)
    errors = [one for name in stepstream.__all__ if isinstance(one := getattr(stepstream, name), type)]
    assert all(issubclass(one, StepstreamError) for one in errors if issubclass(one, Exception))


async def test_a_worker_keeps_its_patience(settings: Settings) -> None:
    """It is the publisher who is answered soon; what a run sends waits for Redis."""
    app = Bus("shop")
    wire = Wire(settings, "test")
    app.connect(wire)
    assert app._wires.publisher._patience is None
    await wire.close()
