"""Each rule of alerts fires when it should, on a real server, and is over when it should."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stepstream import Context, Cron, Step
from stepstream.bus.alerts.rules import RULES
from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys
from stepstream.bus.wire.doctor import server as info
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.facts.errors import errors_of, set_error_state
from stepstream.consumers.alerts.turning import CALM_ROUNDS
from stepstream.consumers.worker import Worker, running
from tests.hook import Hook, Looking
from tests.support import Lab, ValkeyProcess, eventually

OFF = [f"{name}=off" for name in RULES]


@pytest.fixture
def hook() -> Generator[Hook]:
    with Hook() as started:
        yield started


def only(rule: str, threshold: str = "") -> list[str]:
    """Return the thresholds with which one rule is on."""
    own = f"{rule}={threshold or RULES[rule].default}"
    return [own, *(one for one in OFF if not one.startswith(f"{rule}="))]


@asynccontextmanager
async def looking(settings: Settings, hook: Hook, rule: str, threshold: str = "") -> AsyncGenerator[Looking]:
    async with Looking(settings, hook, *only(rule, threshold)) as one:
        await one.rounds()
        assert hook.told == [], "not yet"
        yield one


async def fires_and_is_over(one: Looking, hook: Hook, rule: str, function: str = "") -> AsyncGenerator[None]:
    """Let it fire, do what ends it, and see that it is over: once each."""
    await one.rounds(3)
    assert hook.told == [(rule, function, "firing")]
    yield
    await one.rounds(CALM_ROUNDS + 2)
    assert hook.told == [(rule, function, "firing"), (rule, function, "resolved")]


over = asynccontextmanager(fires_and_is_over)


async def test_runs_that_fail_by_their_share_until_their_error_is_resolved(lab: Lab, hook: Hook) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        if ctx.event.data["fails"]:
            raise ValueError("no")

    async with looking(lab.settings, hook, "failures", "50%/1h") as one:
        await lab.work()
        for fails in (True, True, False):
            await lab.send("a", {"fails": fails})
        await lab.ended(3)
        await one.rounds(2)
        assert hook.told == [], "two are too few for a share"
        await lab.send("a", {"fails": True})
        await lab.ended(4)
        async with over(one, hook, "failures", f.slug):
            assert hook.bodies[0]["alerts"][0]["value"] == "3 of 4"
            [error] = await errors_of(lab.wire, [f.slug])
            await set_error_state(lab.wire, f.slug, error.fingerprint, "resolved")


async def test_runs_that_fail_by_their_number(lab: Lab, hook: Hook) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        raise ValueError("no")

    async with looking(lab.settings, hook, "failures", "2/10m") as one:
        await lab.work()
        await lab.send("a")
        await lab.ended(1)
        await one.rounds(2)
        assert hook.told == []
        await lab.send("a")
        await lab.ended(2)
        await one.rounds(2)
        assert hook.told == [("failures", f.slug, "firing")]


@pytest.mark.parametrize(("rule", "threshold"), [("waiting", "1ms"), ("line", "1")])
async def test_a_run_that_waits_and_a_line_but_for_a_function_that_is_paused(
    lab: Lab, hook: Hook, rule: str, threshold: str
) -> None:
    go = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=1)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("work", go.wait)

    @lab.app.function("g", on="b", concurrency=1)
    async def g(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with looking(lab.settings, hook, rule, threshold) as one:
        await lab.work()
        await pause_function(lab.wire, g.slug, "a test")
        for _ in range(2):
            await lab.send("b")
        await lab.send("a")
        await lab.status(await lab.first(f.slug), "running")
        for _ in range(2):
            await lab.send("a")
        await lab.some(3, f.slug)
        async with over(one, hook, rule, f.slug):
            go.set()
            await eventually(lambda: ended(lab, f.slug, 3), "all of it has ended")
        await resume_function(lab.wire, g.slug)
        await lab.ended(5)


async def test_a_threshold_of_one_function_counts_for_that_one(lab: Lab, hook: Hook) -> None:
    go = asyncio.Event()

    @lab.app.function("f", on="a", concurrency=1)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("work", go.wait)

    @lab.app.function("g", on="a", concurrency=1)
    async def g(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("work", go.wait)

    async with Looking(lab.settings, hook, *only("line", "1"), f"line:{f.slug}=2") as one:
        await lab.work()
        for _ in range(3):
            await lab.send("a")
        await lab.some(3, f.slug)
        await lab.some(3, g.slug)
        await one.rounds(2)
        assert hook.told == [("line", g.slug, "firing")]
        await lab.wire.call("HSET", keys.alerts(), f"set line:{f.slug}", "1", f"set line:{g.slug}", "off")
        await one.rounds(CALM_ROUNDS + 1)
        assert hook.told[1:] == [("line", f.slug, "firing"), ("line", g.slug, "resolved")]
        go.set()
        await lab.ended(6)


async def ended(lab: Lab, slug: str, count: int) -> bool:
    return sum(run.has_ended for run in await lab.some(count, slug)) == count


async def test_a_function_without_worker_unless_nothing_waits_and_it_was_stopped_in_order(lab: Lab, hook: Hook) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with running(Worker(lab.app, settings=lab.settings)):
        pass
    lab.app.connect(lab.wire)
    async with looking(lab.settings, hook, "no_worker", "1ms") as one:
        await one.rounds(3)
        assert hook.told == []
        await lab.send("a")
        async with over(one, hook, "no_worker", f.slug):
            await lab.work()
            await lab.ended(1)


async def test_no_worker_has_to_last_before_it_fires(lab: Lab, hook: Hook) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with running(Worker(lab.app, settings=lab.settings)):
        pass
    lab.app.connect(lab.wire)
    await lab.send("a")
    async with looking(lab.settings, hook, "no_worker", "1h") as one:
        await one.rounds(3)
        assert hook.told == []
        stored = await lab.wire.call("HGET", keys.alerts(), f"alert no_worker {f.slug}")
        assert b'"state":"pending"' in stored
        await lab.work()
        await lab.ended(1)
        await one.rounds()
        assert not await lab.wire.call("HEXISTS", keys.alerts(), f"alert no_worker {f.slug}"), "no alert, none over"
        assert hook.told == []


async def test_a_tick_that_did_not_begin(lab: Lab, hook: Hook) -> None:
    cron = Cron("0 * * * *")

    @lab.app.function("f", on=cron)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with running(Worker(lab.app, settings=lab.settings)):
        pass
    async with looking(lab.settings, hook, "missed", "1ms") as one:
        await lab.wire.call("HSET", keys.cron(f.slug), cron.text, now_ms() - 3 * 3_600_000)
        async with over(one, hook, "missed", f.slug):
            assert hook.bodies[0]["alerts"][0]["value"] == "3 ticks"
            await lab.wire.call("HSET", keys.cron(f.slug), cron.text, now_ms())


@pytest.mark.leaves_behind("facts that are written by hand")
async def test_a_run_that_was_given_up_until_its_error_is_resolved(lab: Lab, hook: Hook) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    async with running(Worker(lab.app, settings=lab.settings)):
        pass
    now, run = now_ms(), ulid()
    async with looking(lab.settings, hook, "given_up") as one:
        about = (
            "abcdef0123456789",
            '{"name":"worker_crash"}',
            "abcdef0123456789 last",
            now,
            "abcdef0123456789 run",
            run,
        )
        await lab.wire.call("HSET", keys.errors(f.slug, run), *about)
        minute = keys.minute(f.slug, now // 60_000, run)
        await lab.wire.call("HSET", minute, "failed:3", 1, "e:abcdef0123456789", 1)
        async with over(one, hook, "given_up", f.slug):
            assert hook.bodies[0]["alerts"][0]["run"] == run
            assert await set_error_state(lab.wire, f.slug, "abcdef0123456789", "resolved")


async def test_a_server_that_evicts_keys_and_one_whose_memory_is_nearly_full(
    settings: Settings, hook: Hook, tmp_path: Path
) -> None:
    with ValkeyProcess(tmp_path) as server:
        own = Settings(redis_url=server.url, lease_ms=settings.lease_ms)
        async with looking(own, hook, "unfit") as one:
            await one.wire.call("CONFIG", "SET", "maxmemory", "1gb")
            await one.wire.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            async with over(one, hook, "unfit"):
                assert hook.bodies[0]["alerts"][0]["value"] == "eviction: allkeys-lru"
                await one.wire.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        hook.bodies.clear()
        async with looking(own, hook, "memory", "50%") as one:
            about = await info(one.wire)
            assert about is not None
            used = about.used
            await one.wire.call("CONFIG", "SET", "maxmemory", 3 * used // 2)
            async with over(one, hook, "memory"):
                await one.wire.call("CONFIG", "SET", "maxmemory", 0)


async def test_a_server_that_has_lost_what_was_written(settings: Settings, hook: Hook, tmp_path: Path) -> None:
    """It has no append-only file: a kill loses all."""
    with ValkeyProcess(tmp_path) as server:
        own = Settings(redis_url=server.url, lease_ms=settings.lease_ms)
        async with looking(own, hook, "rolled_back") as one:
            await one.rounds(3)
            server.kill()
            server.start()
            await eventually(lambda: served(one), "it looks again")
            await one.rounds(2)
            assert hook.told == [("rolled_back", "", "firing")]
            assert "Redis has lost what was written" in hook.bodies[0]["text"]


async def served(one: Looking) -> bool:
    try:
        await one.rounds()
    except StoreUnavailable:
        return False
    return True


async def test_a_site_says_by_itself_once_that_redis_does_not_serve_it_and_that_it_does(
    settings: Settings, hook: Hook, tmp_path: Path
) -> None:
    with ValkeyProcess(tmp_path) as server:
        own = Settings(redis_url=server.url, lease_ms=settings.lease_ms, timeout_ms=200)
        async with Looking(own, hook, *only("unreachable", "1ms"), alone=True) as one:
            await one.rounds()
            server.kill()
            hook.status = 500

            async def failed() -> bool:
                return not await served(one) and "could not be sent" in " ".join(one.notices)

            await eventually(failed, "the webhook is away, too")
            assert len(hook.bodies) == 1
            for _ in range(5):
                assert not await served(one)
            assert len(hook.bodies) == 1, "it is not asked again at once"
            assert f"{server.port}" in hook.bodies[0]["text"]

        hook.status = 200
        hook.bodies.clear()
        async with Looking(own, hook, *only("unreachable", "1ms"), alone=True) as one:
            await eventually(lambda: told_of(one, hook), "it is told")
            for _ in range(5):
                assert not await served(one)
            assert hook.told == [("unreachable", "", "firing")]
            server.start()
            await eventually(lambda: served(one), "it serves")
            assert hook.told == [("unreachable", "", "firing"), ("unreachable", "", "resolved")]


async def test_a_server_that_cannot_write_its_files_is_told_whether_it_takes_writes_or_not(
    settings: Settings, hook: Hook, tmp_path: Path
) -> None:
    """Its folder is gone: it refuses all writes then, that of who looks, too."""
    (folder := tmp_path / "gone").mkdir()
    with ValkeyProcess(folder, "--save", "3600", "1") as server:
        own = Settings(redis_url=server.url, lease_ms=settings.lease_ms)
        rules = ["unreachable=1ms", *(rule for rule in only("unfit") if not rule.startswith("unreachable"))]
        async with Looking(own, hook, *rules, alone=True) as one:
            await one.rounds()
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            await one.wire.call("BGSAVE")
            await eventually(lambda: told_of(one, hook), "it is told")
            assert hook.told == [("unreachable", "", "firing")]
            assert "MISCONF" in hook.bodies[0]["text"]
            await one.wire.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
            await eventually(lambda: served(one), "it takes writes again")
            await one.rounds()
            assert sorted(hook.told[1:]) == [("unfit", "", "firing"), ("unreachable", "", "resolved")]
            texts = [body["text"] for body in hook.bodies]
            assert any("persistence: rdb_last_bgsave_status is not ok" in text for text in texts)


async def told_of(one: Looking, hook: Hook) -> bool:
    await served(one)
    return bool(hook.told)
