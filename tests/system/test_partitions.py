"""A function whose runs are spread over several partitions: all that is said of one run, or of all, holds as with one.

The number of partitions is set in one place, bus/values/ids.py; nothing else is told. `lab` looks at every key at the
end, as `bus check` does.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator

import msgspec
import pytest

from stepstream import Bus, CancelOn, Concurrency, Context, Cron, Step
from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values import ids
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import partition_of, partitions
from stepstream.bus.wire import keys, kinds
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.facts.errors import errors_of, set_error_state
from stepstream.checkpoint.facts.minutes import minutes_of
from stepstream.checkpoint.read.lists.runs import counts, list_runs
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.registry import register
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.run.uncharge import uncharge
from stepstream.checkpoint.upkeep.repair import unheld
from stepstream.checkpoint.upkeep.retention import tidy_runs
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.upkeep.repair import Repair
from stepstream.producers.cron import tick
from tests.support import Lab, eventually

SLUG, MANY = "test-f", 60


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ids.SPREAD, SLUG, 4)


async def keys_of_runs(admin: Wire) -> dict[str, set[str]]:
    """Return the hash tags of the keys of each run."""
    tags: dict[str, set[str]] = defaultdict(set)
    async for key in scanned(admin):
        if found := re.fullmatch(r"bus:fn:(\{[^}]*\}):(?:run|steps|open):(\w{26})", key):
            tags[found[2]].add(found[1])
    return tags


async def scanned(admin: Wire) -> AsyncGenerator[str]:
    cursor = 0
    while True:
        cursor, found = await admin.call("SCAN", cursor, "COUNT", 1_000)
        for key in found:
            yield key.decode()
        if not int(cursor):
            return


def places(runs: list[Run]) -> Counter[str]:
    return Counter(partition_of(run.id) for run in runs)


async def test_spread_runs_go_from_event_to_end_and_are_listed_found_and_run_again(spread: None, lab: Lab) -> None:
    bodies: Counter[int] = Counter()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> int:
        n = await step.run("first", lambda: ctx.event.data["n"])
        bodies[n] += 1
        await step.sleep("nap", 0.05)
        return await step.run("last", lambda: n * 2)

    await lab.work()
    await asyncio.gather(*(lab.send("a", {"n": n}) for n in range(MANY)))
    runs = await lab.ended(MANY)
    assert {run.status for run in runs} == {"completed"}
    assert set(bodies) == set(range(MANY))
    assert set(places(runs)) == set(partitions(SLUG)) == {"00", "01", "02", "03"}

    tags = await keys_of_runs(lab.admin)
    assert set(tags) == {run.id for run in runs}
    assert all(len(of_one) == 1 for of_one in tags.values())
    assert {tag for of_one in tags.values() for tag in of_one} == {
        "{test-f}", "{test-f#01}", "{test-f#02}", "{test-f#03}",
    }  # fmt: skip

    assert (await counts(lab.wire, [SLUG]))[SLUG]["completed"] == MANY
    minutes = await minutes_of(lab.wire, [SLUG], 0, now_ms())
    assert (sum(one.started for one in minutes), sum(one.completed for one in minutes)) == (MANY, MANY)
    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = await list_runs(lab.wire, [SLUG], limit=7, cursor=cursor)
        listed += [run.id for run in page.runs]
        if (cursor := page.cursor) is None:
            break
    assert listed == [run.id for run in runs]
    assert all(await asyncio.gather(*(find(lab.wire, run.id) for run in runs)))

    old = next(run for run in runs if partition_of(run.id) == "03")
    new = await rerun(lab.wire, old.id, "last")
    await lab.status(new, "completed")
    assert partition_of(new) == "03", "its memos are copied within one slot"
    found = await find(lab.wire, new)
    assert found is not None
    assert found.output == old.output
    await lab.idle()


async def test_spread_runs_are_called_and_wait_and_their_ends_are_told(spread: None, lab: Lab) -> None:
    failed: list[str] = []

    async def tell(ctx: Context[dict], step: Step) -> None:
        failed.append(ctx.event.data["run_id"])

    @lab.app.function("f", on="never", retries=0, on_failure=tell)
    async def f(ctx: Context[dict], step: Step) -> int:
        n = ctx.event.data["n"]
        event = await step.wait_for_event("event", "b", match="data.n", timeout="1h")
        assert event is not None
        if n == 0:
            raise ValueError("zero")
        return await step.wait_for_signal("signal", f"go-{n}", type=int, timeout="1h") or -1

    @lab.app.function("caller", on="a")
    async def caller(ctx: Context[dict], step: Step) -> int:
        return await step.invoke("call", f, {"n": ctx.event.data["n"]})

    await lab.work()
    for n in range(20):
        await lab.send("a", {"n": n})

    async def called() -> bool:
        return (await counts(lab.wire, [SLUG]))[SLUG]["waiting"] == 20

    await eventually(called, "all wait for the event")
    for n in range(20):
        await lab.send("b", {"n": n})
    for n in range(1, 20):

        async def heard(n: int = n) -> bool:
            return await send_signal(lab.wire, f"go-{n}", n + 100) is not None

        await eventually(heard, f"run {n} waits for its signal")
    runs = await lab.ended(41)
    outputs = sorted(int(bytes(run.output)) for run in runs if run.function == "test-caller" and run.output)
    assert outputs == list(range(101, 120))
    [wrong] = [run for run in runs if run.function == SLUG and run.status == "failed"]
    assert failed == [wrong.id]
    [error] = await errors_of(lab.wire, [SLUG])
    assert (error.name, error.count, error.run) == ("ValueError", 1, wrong.id)
    assert await set_error_state(lab.wire, SLUG, error.fingerprint, "resolved")
    assert [one.state for one in await errors_of(lab.wire, [SLUG])] == ["resolved"]
    assert len(places([run for run in runs if run.function == SLUG])) > 1


async def test_spread_runs_are_cancelled_by_id_and_by_event_and_before_they_begin(spread: None, lab: Lab) -> None:
    @lab.app.function("f", on="a", cancel_on=CancelOn("stop", match="data.group"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.sleep("nap", "1h")

    worker = await lab.work()
    for n in range(MANY):
        await lab.send("a", {"group": n % 2})

    async def waiting() -> list[Run] | None:
        runs = [run for run in await lab.runs() if run.status == "waiting"]
        return runs if len(runs) == MANY else None

    runs = await eventually(waiting, "all wait") or []
    await lab.send("stop", {"group": 1})

    async def half() -> bool:
        return (await counts(lab.wire, [SLUG]))[SLUG] | {} == {**dict.fromkeys(NONE, 0), "waiting": 30, "cancelled": 30}

    await eventually(half, "one group is cancelled")
    for run in runs:
        assert await cancel(lab.wire, run.id, "by hand") in {"cancelled", "ended"}
    worker.stop()

    async def gone() -> bool:
        return await lab.wire.call("ZCARD", keys.workers()) == 0

    await eventually(gone, "the worker has left")
    asked = [await invoke(lab.wire, SLUG, {"group": 2}) for _ in range(12)]
    assert len({partition_of(run) for run in asked}) > 1
    assert [await cancel(lab.wire, run, "early") for run in asked] == ["cancelled"] * 12
    assert await forget(lab.wire, SLUG, with_runs=True) == ["a", "stop"]
    assert [key async for key in scanned(lab.admin) if key.startswith("bus:fn:{test-f")] == []


NONE = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")


async def test_spread_runs_that_lost_their_timers_are_repaired_and_the_oldest_forgotten(spread: None, lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.sleep("nap", "1h")

    worker = await lab.work()
    for n in range(MANY):
        await lab.send("a", {"n": n})

    async def waiting() -> bool:
        return (await counts(lab.wire, [SLUG]))[SLUG]["waiting"] == MANY

    await eventually(waiting, "all wait")
    for where in partitions(SLUG):
        await lab.wire.call("DEL", keys.timers(SLUG, where))
    runs = [run.id for run in await lab.runs()]
    lost = {one.run for one in await unheld(lab.wire, SLUG, runs)}
    assert len({partition_of(run) for run in lost}) == 4
    await Repair(lab.wire, worker.signals, [SLUG]).everything()
    worker._wire.now = str(now_ms() + 3_601_000)
    ended = await lab.ended(MANY)
    assert {run.status for run in ended} == {"completed"}

    later = Wire(msgspec.structs.replace(lab.settings, keep_runs=8), "later")
    later.now = str(now_ms() + 2 * 3_600_000)
    assert await tidy_runs(later, SLUG) == MANY - 8
    await later.close()
    assert places(await lab.runs()) == dict.fromkeys(partitions(SLUG), 2)


async def test_a_worker_that_lives_after_all_takes_back_its_crashes_in_every_partition(
    spread: None, wire: Wire
) -> None:
    runs = [ids.run_id(SLUG, "event", f"a|{n}-0", n) for n in range(40)]
    for run in runs:
        await wire.call("HSET", keys.run(SLUG, run), "status", "running", "charged", "w.0\n", "crashes", 1)
    assert await uncharge(wire, SLUG, "w.0", runs) == 40


async def test_the_ticks_of_a_spread_function_are_queued_beside_its_schedule(spread: None, wire: Wire) -> None:
    cron = Cron("* * * * *")
    for minute in range(10):
        wire.now = str(minute * 60_000 + 1)
        await tick(wire, SLUG, cron, Signals())
    rows = await wire.call("XRANGE", keys.queue(SLUG), "-", "+")
    runs = [fields_of(flat)[b"run"].decode() for _, flat in rows]
    assert len(runs) == 9
    assert {partition_of(run) for run in runs} == {"00"}


async def test_a_function_with_limits_is_not_spread(spread: None, wire: Wire) -> None:
    app = Bus("test")

    @app.function("f", on="a", concurrency=Concurrency(1))
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    with pytest.raises(ConfigError, match="its runs are spread over 4 partitions"):
        await register(wire, f)


def test_a_key_of_a_partition_that_a_function_does_not_have_is_none_of_ours(spread: None) -> None:
    assert kinds.kind_of("bus:fn:{test-f#03}:queue") == ("queue", SLUG, "")
    assert kinds.kind_of("bus:fn:{test-f#04}:queue") is None
    assert kinds.kind_of("bus:fn:{test-g#01}:queue") is None
    assert kinds.kind_of("bus:events:{a#01}") is None
