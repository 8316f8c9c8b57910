"""What a worker tells of itself at its metrics port: counters, /health from beside the loop, /ready."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from stepstream import Context, NonRetriable, Retry, Step
from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.signals import AttemptFailed, Signal, Signals
from stepstream.bus.process.ports import free_port
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.consumers import cli
from stepstream.consumers.following import RemoteWorkers
from stepstream.consumers.monitoring.counted import MOST_NAMES, Counted
from stepstream.consumers.monitoring.monitoring import Monitoring
from stepstream.consumers.standing import Standing
from stepstream.consumers.worker import Worker, running
from tests.forks import Forked
from tests.patience import FOR_EVER_S, PATIENT_S
from tests.promtool import MISSING, PROMTOOL, promtool
from tests.support import Lab, ValkeyProcess, WorkerProcess, eventually, until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def ask(url: str, accept: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=PATIENT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


async def asked(url: str, accept: str = "") -> tuple[int, str]:
    return await asyncio.to_thread(ask, url, accept)


def samples(text: str) -> Samples:
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families(text) for one in each.samples}


class Watched:
    """A worker with a metrics port."""

    def __init__(self, worker: Worker, monitoring: Monitoring) -> None:
        self.worker = worker
        self.url = monitoring.url

    async def told(self) -> Samples:
        status, text = await asked(f"{self.url}/metrics")
        assert status == 200
        return samples(text)

    async def value(self, name: str, **labels: str) -> float:
        return (await self.told()).get((f"stepstream_worker_{name}", tuple(sorted(labels.items()))), 0)


@contextlib.asynccontextmanager
async def watched(lab: Lab, settings: Settings | None = None, concurrency: int = 20) -> AsyncGenerator[Watched]:
    settings, signals = settings or lab.settings, Signals()
    worker = Worker(lab.app, settings=settings, concurrency=concurrency, signals=signals)
    monitoring = Monitoring(settings, 0, signals, worker.stands)
    try:
        async with running(worker):
            lab.app.connect(lab.wire)
            yield Watched(worker, monitoring)
    finally:
        await asyncio.to_thread(monitoring.close)


async def test_a_run_that_waits_is_counted_once_and_each_of_its_turns(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> str:
        await step.run("one", lambda: 1)
        await step.wait_for_event("back", "b", timeout="1h")
        return "done"

    async with watched(lab) as seen:
        await lab.send("a")
        run = (await lab.some())[0]
        await lab.status(run.id, "waiting")
        await lab.send("b")
        await lab.one()
        f_only = {"function": "test-f"}
        await eventually(lambda: seen.value("runs_ended_total", status="completed", **f_only), "its end is told")
        assert await seen.value("runs_started_total", **f_only) == 1
        assert await seen.value("turns_started_total", **f_only) == 2
        assert await seen.value("runs_suspended_total", **f_only) == 1
        assert await seen.value("queue_wait_seconds_count", **f_only) == 1
        assert await seen.value("run_seconds_count", **f_only) == 1
        assert await seen.value("run_seconds_sum", **f_only) >= await seen.value("step_seconds_sum", **f_only)
        assert await seen.value("steps_total", kind="run", outcome="completed", **f_only) == 1


async def test_attempts_that_fail_are_counted_by_their_error_whether_another_follows_or_not(lab: Lab) -> None:
    tries: list[int] = []

    def shaky() -> None:
        tries.append(1)
        raise ValueError("secret" if len(tries) == 1 else "again") if len(tries) < 3 else NonRetriable("no more")

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("shaky", shaky, retries=Retry(5, backoff=0.01))

    async with watched(lab) as seen:
        await lab.send("a", {"mark": "kept-from-metrics"})
        run = await lab.one()
        assert run.status == "failed"
        f_only = {"function": "test-f"}
        await eventually(lambda: seen.value("runs_ended_total", status="failed", **f_only), "its end is told")
        assert await seen.value("attempts_failed_total", part="step", retried="yes", error="ValueError", **f_only) == 2
        assert await seen.value("attempts_failed_total", part="step", retried="no", error="NonRetriable", **f_only) == 1
        assert await seen.value("steps_total", kind="run", outcome="failed", **f_only) == 1
        _, text = await asked(f"{seen.url}/metrics")
        for kept in ("kept-from-metrics", "secret", run.id, "shaky"):
            assert kept not in text, "labels are of what the code declares, not of what comes in"


async def test_both_formats_are_read_by_the_library_s_own_parsers(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        pass

    async with watched(lab) as seen:
        await lab.send("a")
        await lab.one()
        _, text = await asked(f"{seen.url}/metrics")
        _, open_text = await asked(f"{seen.url}/metrics", "application/openmetrics-text; version=1.0.0")
        assert {one.name for one in families(text)} >= {"stepstream_worker_runs_started", "stepstream_worker_slots"}
        assert open_text.endswith("# EOF\n")
        assert {one.name for one in openmetrics(open_text)} >= {"stepstream_worker_runs_started"}
        assert (await asked(f"{seen.url}/nothing"))[0] == 404


async def test_more_names_than_there_is_room_for_are_counted_together(settings: Settings) -> None:
    signals = Signals()
    counted = Counted(signals, lambda: Standing(1, 0, 0, ""))
    for n in range(MOST_NAMES + 7):
        signals.attempt_failed.send(AttemptFailed("f", "r", "s", 0, "", None, name=f"Error{n}"))
    found = [one for each in counted.collect() for one in each.samples if one.name.endswith("attempts_failed_total")]
    assert len(found) == MOST_NAMES + 1
    assert [one.value for one in found if one.labels["error"] == "other"] == [7]


async def test_a_blocked_loop_is_told_from_beside_it(lab: Lab) -> None:
    begun, release = threading.Event(), threading.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        begun.set()
        release.wait(FOR_EVER_S)  # blocks the loop

    lab.settings = Settings(redis_url=lab.settings.redis_url, lease_ms=1_000, drain_ms=3_000, stall_ms=100)
    async with watched(lab) as seen:
        answers: list[tuple[int, str]] = []

        def look() -> None:
            try:
                assert begun.wait(PATIENT_S)
                answers.extend(until(lambda path=path: said(seen.url, path, 503), path) for path in ("health", "ready"))
            finally:
                release.set()

        assert (await asked(f"{seen.url}/health"))[0] == 200
        looking = asyncio.ensure_future(asyncio.to_thread(look))
        await lab.send("a")
        await looking
        assert all("its event loop has been blocked for" in json.loads(text)["error"] for _, text in answers)
        await lab.one()
        await eventually(lambda: is_status(seen, "health", 200), "it turns again")


def said(url: str, path: str, status: int) -> tuple[int, str]:
    """Return what is answered, once it has that status; else what is nothing to `until`."""
    found = ask(f"{url}/{path}")
    return found if found[0] == status else cast("tuple[int, str]", ())


async def is_status(seen: Watched, path: str, status: int) -> tuple[int, str]:
    return await asyncio.to_thread(said, seen.url, path, status)


async def test_ready_says_why_not_before_it_has_begun_while_it_drains_and_without_redis(
    lab: Lab, settings: Settings, tmp_path: Path
) -> None:
    release = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await release.wait()

    signals = Signals()
    with ValkeyProcess(tmp_path) as valkey:
        own = Settings(redis_url=valkey.url, lease_ms=600, drain_ms=1_000, timeout_ms=500)
        worker = Worker(lab.app, settings=own, signals=signals)
        monitoring = Monitoring(own, 0, signals, worker.stands)
        seen = Watched(worker, monitoring)
        try:
            status, text = await asked(f"{seen.url}/ready")
            assert (status, json.loads(text)["status"]) == (503, "unavailable")
            assert "it has not begun" in text
            async with running(worker):
                await eventually(lambda: is_status(seen, "ready", 200), "it reads")
                assert await seen.value("ready") == 1
                valkey.kill()
                found = await eventually(lambda: is_status(seen, "ready", 503), "Redis is away")
                assert "Redis does not serve it now" in found[1]
                assert (await asked(f"{seen.url}/health"))[0] == 200, "the process is well"
                assert await eventually(lambda: told_errors(seen), "errors are counted")
                valkey.start()
                await eventually(lambda: is_status(seen, "ready", 200), "it reads again")
                worker.stop()
                assert "it drains" in (await asked(f"{seen.url}/ready"))[1]
        finally:
            await asyncio.to_thread(monitoring.close)


async def told_errors(seen: Watched) -> float:
    return sum(
        value for (name, _), value in (await seen.told()).items() if name == "stepstream_worker_redis_errors_total"
    )


async def test_leases_chores_and_connections_are_counted(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        pass

    async with watched(lab) as seen:
        await eventually(lambda: seen.value("lease_renewals_total"), "leases are renewed")
        await eventually(lambda: seen.value("chore_seconds_count", chore="timers"), "chores are done")
        assert await seen.value("redis_connections_opened_total") >= 3
        assert await seen.value("lease_lateness_seconds_count") > 0
        assert await seen.value("slots") == 20
        assert await seen.value("slots_busy") == 0


@pytest.mark.leaves_behind("the first worker is cut off, as if it had died")
async def test_what_a_dead_worker_had_in_hand_is_counted_as_reclaimed(lab: Lab) -> None:
    release = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await release.wait()

    dying = Worker(lab.app, settings=lab.settings)
    first = asyncio.ensure_future(dying.run())
    await dying.ready.wait()
    lab.app.connect(lab.wire)
    await lab.send("a")
    await lab.status((await lab.some())[0].id, "running")
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    async with watched(lab) as seen:
        await eventually(lambda: told_sum(seen, "reclaimed_entries_total"), "another worker takes it over")
        assert await seen.value("runs_started_total", function="test-f") == 0, "it had started before"
        release.set()
        await lab.one()


async def told_sum(seen: Watched, name: str) -> float:
    return sum(value for (found, _), value in (await seen.told()).items() if found == f"stepstream_worker_{name}")


async def test_no_signal_is_made_that_nobody_hears(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def send(self: Signal[Any], told: object) -> None:
        if not self:
            made.append(told)

    monkeypatch.setattr(Signal, "send", send)
    tries: list[int] = []

    def shaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("shaky", shaky, retries=Retry(2, backoff=0.01))
        await step.sleep("nap", 0.01)

    worker = Worker(lab.app, settings=lab.settings)
    async with running(worker):
        lab.app.connect(lab.wire)
        await lab.send("a")
        assert (await lab.one()).status == "completed"
    assert [one for one in made if type(one).__name__ != "Noticed"] == []


def test_a_port_that_is_taken_is_an_error_that_names_the_option(settings: Settings) -> None:
    async def begin() -> None:
        first = Monitoring(settings, 0, Signals(), lambda: pytest.fail("nobody asks"))
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"--metrics-port \(BUS_METRICS_PORT\) {port}: something listens there"):
            Monitoring(settings, port, Signals(), lambda: pytest.fail("nobody asks"))
        first.close()
        with pytest.raises(ConfigError, match=r"--metrics-host \(BUS_METRICS_HOST\) 'no such host' is no address"):
            Monitoring(
                Settings(redis_url=settings.redis_url, metrics_host="no such host"),
                0,
                Signals(),
                lambda: pytest.fail("nobody asks"),
            )

    asyncio.run(begin())


@pytest.mark.process
def test_a_worker_process_that_drains_is_alive_and_not_ready(url: str, tmp_path: Path) -> None:
    port = free_port()
    environ = {"BUS_METRICS_PORT": str(port), "BUS_DRAIN": "20", "BEGUN": str(tmp_path / "begun")}
    with (
        WorkerProcess("tests.system.process_app:app", url, log=tmp_path / "log", environ=environ) as worker,
        redis.Redis.from_url(url) as store,
    ):
        worker.wait_ready()
        at = f"http://127.0.0.1:{port}"
        assert until(lambda: ask(f"{at}/ready")[0] == 200, "it reads")
        store.xadd(keys.events("sync"), {"data": "{}"})
        until(lambda: samples(ask(f"{at}/metrics")[1])["stepstream_worker_slots_busy", ()] == 1, "it works")
        worker.signal(signal.SIGTERM)
        assert "it drains" in until(lambda: said(at, "ready", 503), "it drains")[1]
        assert ask(f"{at}/health")[0] == 200


@pytest.mark.process
def test_each_of_several_processes_has_the_next_port(url: str, tmp_path: Path) -> None:
    first = free_port()
    log = tmp_path / "log"
    words = ("worker", "tests.system.process_app:app", "--processes", "2", "--metrics-port", str(first))
    process = Forked(*words, env={**os.environ, "BUS_REDIS_URL": url, "BUS_LOG_FORMAT": "json"}, err=log)
    try:
        for port in (first, first + 1):
            until(lambda port=port: answers(port), f"a process answers at {port}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENT_S)


def answers(port: int) -> bool:
    try:
        return ask(f"http://127.0.0.1:{port}/ready")[0] == 200
    except urllib.error.URLError:
        return False


def test_ports_of_several_processes_are_looked_at_before_any_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"\(BUS_METRICS_PORT\) {port}: something listens there already"):
            cli.ports_of(Settings(metrics_port=port), 2)
    with pytest.raises(ConfigError, match="9 processes take the ports up to 65538, and there are 65535"):
        cli.ports_of(Settings(metrics_port=65_530), 9)
    assert cli.ports_of(Settings(), 2) == [None, None]
    assert cli.ports_of(Settings(metrics_port=0), 2) == [0, 0]
    with pytest.raises(ConfigError, match="BUS_METRICS_PORT must be a port, 0 to 65535, got 70000"):
        Settings(metrics_port=70_000)


async def test_a_write_of_a_turn_that_lost_its_fence_is_counted(lab: Lab, store: redis.Redis) -> None:
    bodies: list[int] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        def body() -> None:
            bodies.append(1)
            if len(bodies) == 1:
                store.hset(keys.run("test-f", ctx.run_id), "fence", "another's")

        await step.run("body", body)

    async with watched(lab) as seen:
        await lab.send("a")
        assert (await lab.one()).status == "completed"
        assert await seen.value("fenced_writes_total", function="test-f", word="lost") == 1
        assert await seen.value("runs_started_total", function="test-f") == 1, "to begin the turn again is no start"


async def test_an_entry_of_a_run_that_has_ended_is_counted_as_not_started(lab: Lab, store: redis.Redis) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        pass

    async with watched(lab) as seen:
        await lab.send("a")
        run = await lab.one()
        store.xadd(keys.queue("test-f"), {"run": run.id, "turn": "1"})
        asked_for = {"function": "test-f", "why": "ended"}
        await eventually(lambda: seen.value("entries_not_started_total", **asked_for), "it is passed over")
        assert await seen.value("runs_ended_total", function="test-f", status="completed") == 1


async def test_leases_that_are_lost_are_counted(lab: Lab, store: redis.Redis) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        pass

    async with watched(lab) as seen:
        await eventually(lambda: is_status(seen, "ready", 200), "it reads")
        store.delete(keys.function_workers("test-f"))
        await eventually(lambda: seen.value("leases_lost_total"), "it has lost one")
        await eventually(lambda: is_status(seen, "ready", 200), "it goes on under another name")
        await lab.send("a")
        assert (await lab.one()).status == "completed"


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
async def test_promtool_finds_nothing_wrong_in_it(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("one", lambda: 1)

    async with watched(lab) as seen:
        await lab.send("a")
        await lab.one()
        text = (await asked(f"{seen.url}/metrics"))[1]
        assert await asyncio.to_thread(promtool, "check", "metrics", given=text) == ""


async def test_a_worker_of_apps_behind_http_is_ready_when_it_has_looked_for_them(settings: Settings) -> None:
    remote = RemoteWorkers(settings)
    assert "it has not begun" in remote.stands().not_ready
    working = asyncio.ensure_future(remote.run())
    await remote.ready.wait()
    assert not remote.stands().not_ready
    remote.stop()
    assert "it drains" in remote.stands().not_ready
    await working
