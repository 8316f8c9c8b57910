"""The server's clock is set while runs are under way, as NTP and resumed machines do: by 90 s and by an hour: CI back by an
hour, forth by 90 s, and forth by an hour and back again; make chaos also the others.

Without Debian's package faketime nothing of this can run, and the end of the report says so.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from stepstream import Bus, CancelOn, Concurrency, Context, Cron, RateLimit, Step, Throttle
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from tests.chaos.clocked import LIBRARY, ClockedServer
from tests.patience import PATIENT_S
from tests.support import Lab, WorkerProcess, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: apt install faketime")]
HOUR = 3_600.0
WHOLE: list[tuple[float, ...]] = [(-90.0,), (-HOUR,), (90.0,), (HOUR,), (HOUR, 0.0)]
CI = [(-HOUR,), (90.0,), (HOUR, 0.0)]
STEPS = pytest.mark.parametrize("steps", WHOLE if os.environ.get("CHAOS_TIMES", "1") != "1" else CI, ids=str)


class Clocked(Lab):
    """An application on a server whose clock can be set."""

    server: ClockedServer

    async def set_clock(self, *ahead: float) -> None:
        """Set the clock, each time letting an event be stored and every worker notice."""
        for seconds in ahead:
            self.server.set(seconds)
            await self.send("tick")
            await anyio.sleep(0.5)

    def told(self, what: str) -> list[str]:
        return [notice.event for notice in self.notices if what in notice.event]


@pytest.fixture
async def clocked(tmp_path: Path) -> AsyncGenerator[Clocked]:
    with ClockedServer(tmp_path) as server, anyio.fail_after(PATIENT_S):
        settings = Settings(redis_url=server.url, lease_ms=1_000, drain_ms=3_000)
        wire = Wire(settings, "test")
        async with AsyncExitStack() as stack:
            app = Bus("test")
            app.connect(wire)
            lab = Clocked(app, settings, wire, stack, wire, wire)
            lab.server = server
            yield lab
        await wire.close()


@STEPS
async def test_a_body_runs_once_and_no_lease_is_lost(clocked: Clocked, steps: tuple[float, ...]) -> None:
    bodies: list[str] = []

    @clocked.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        async def body() -> None:
            bodies.append(ctx.run_id)
            await asyncio.sleep(3.0)

        await step.run("body", body)

    workers = [await clocked.work(concurrency=5) for _ in range(3)]
    for _ in range(6):
        await clocked.send("a")
    await eventually(lambda: asyncio.sleep(0, len(bodies) == 6), "all are at work")
    await anyio.sleep(1.2)  # a lease, so that each may judge the others
    await clocked.set_clock(*steps)
    runs = await clocked.ended(6)
    assert {run.status for run in runs} == {"completed"}
    assert len(bodies) == 6, "each body once"
    assert clocked.told("lease was lost") == clocked.told("reclaimed pending entries") == []
    assert len(clocked.told("clock was set")) == len(workers) * len(steps), "each worker tells of each step once"


@STEPS
async def test_what_a_dead_worker_had_is_taken_over_in_time(
    clocked: Clocked, steps: tuple[float, ...], tmp_path: Path
) -> None:
    environ = {"BUS_LEASE": "1", "CHAOS_JOURNAL": str(tmp_path / "journal"), "CHAOS_STEP": "30"}
    with WorkerProcess("tests.chaos.app:app", clocked.server.url, log=tmp_path / "log", environ=environ) as dead:
        dead.wait_ready()
        await clocked.send("chaos/five")
        index = keys.runs("chaos-five", "running")
        await eventually(lambda: clocked.wire.call("ZCARD", index), "it has the run")
    began = time.monotonic()
    await clocked.set_clock(*steps)
    taken = asyncio.Event()
    other = Bus("chaos")

    @other.function("five", on="chaos/five")
    async def five(ctx: Context[dict], step: Step) -> None:
        taken.set()

    await clocked.work(app=other)
    with anyio.fail_after(PATIENT_S):
        await taken.wait()
    assert time.monotonic() - began < 25, "its lease, ours before we judge, and one for a clock that was set"


@STEPS
@pytest.mark.parametrize("by", [{"match": "data.n"}, {"if_": "async.data.n == event.data.n"}], ids=["match", "if"])
async def test_a_wait_shorter_than_the_step_is_answered(
    clocked: Clocked, steps: tuple[float, ...], by: dict[str, str]
) -> None:
    @clocked.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> object:
        found = await step.wait_for_event("it", "b", timeout="20s", **by)
        return found and found.data["n"]

    @clocked.app.function("h", on="b")  # their events come from streams whose last entries differ
    async def h(ctx: Context[dict], step: Step) -> None:
        return None

    await clocked.work()
    await clocked.send("b", {"n": 0})
    await clocked.set_clock(*steps[:-1])
    await clocked.send("a" if len(steps) % 2 else "b", {"n": 7})
    await clocked.set_clock(*steps[-1:])
    for n in range(3):
        await clocked.send("a", {"n": n})

    async def waiting() -> bool:
        return await clocked.wire.call("ZCARD", keys.runs("test-f", "waiting")) >= 3

    await eventually(waiting, "all wait")
    for n in range(3):
        await clocked.send("b", {"n": n})

    async def answered() -> bool:
        """Whether these three are; the wait of the one before may have been over with the step."""
        outputs = {bytes(run.output or b"") for run in await clocked.runs() if run.function == "test-f"}
        return outputs >= {b"0", b"1", b"2"}

    await eventually(answered, "all are answered")


@STEPS
async def test_an_event_in_time_cancels_its_run(clocked: Clocked, steps: tuple[float, ...]) -> None:
    @clocked.app.function("f", on="a", cancel_on=CancelOn("stop", match="data.n", timeout="30s"))
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.sleep("nap", "2h")

    await clocked.work()
    await clocked.send("stop", {"n": 0})
    await clocked.set_clock(*steps)
    await clocked.send("a", {"n": 1})
    run = await clocked.first()
    await clocked.status(run, "waiting")
    await clocked.send("stop", {"n": 1})
    await clocked.status(run, "cancelled")


@STEPS
async def test_a_limit_that_functions_share_is_never_exceeded(clocked: Clocked, steps: tuple[float, ...]) -> None:
    at_work, most = 0, 0

    async def one_at_a_time(ctx: Context[dict], step: Step) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1.5)
        at_work -= 1

    for name in ("f", "g"):
        clocked.app.function(name, on="a", concurrency=Concurrency(1, shared="gpu"))(one_at_a_time)
    await clocked.work()
    await clocked.work()
    await anyio.sleep(1.2)
    for _ in range(2):
        await clocked.send("a")
    await eventually(lambda: asyncio.sleep(0, at_work), "the first is at work")
    await clocked.set_clock(*steps)
    await clocked.ended(4, within=20)
    assert most == 1


@STEPS
async def test_limits_of_time_let_go_on(clocked: Clocked, steps: tuple[float, ...]) -> None:
    async def nothing(ctx: Context[dict], step: Step) -> None:
        return None

    clocked.app.function("throttled", on="a", throttle=Throttle(1, "1s"))(nothing)
    clocked.app.function("rated", on="b", rate_limit=RateLimit(1, "1s"))(nothing)
    await clocked.work()

    async def done(slug: str, count: int) -> bool:
        return await clocked.wire.call("ZCARD", keys.runs(slug, "completed")) >= count

    await clocked.send("a")
    await clocked.send("b")
    await eventually(lambda: done("test-throttled", 1), "the first goes at once")
    await eventually(lambda: done("test-rated", 1), "the first goes at once")
    await clocked.set_clock(*steps)
    await anyio.sleep(1.1)
    for _ in range(2):
        await clocked.send("a")
    await eventually(lambda: done("test-throttled", 3), "the others follow, a second apart")
    for _ in range(2):  # the first after a step back may be one too many by what was noted
        await clocked.send("b")
        await anyio.sleep(1.1)
    await eventually(lambda: done("test-rated", 2), "the rate is that of the clock as it is")


async def test_a_schedule_goes_on_at_once_when_the_clock_is_set_forth_and_back(clocked: Clocked) -> None:
    @clocked.app.function("f", on=Cron("* * * * *"))
    async def f(ctx: Context[dict], step: Step) -> None:
        return None

    def near_a_minute(hours: int) -> float:
        """Return how far ahead a clock is that shows two seconds before a full minute."""
        return 58 - time.time() % 60 + hours * HOUR

    await clocked.work()
    ran = 0
    for hours in (0, 1, 0):
        await clocked.set_clock(near_a_minute(hours) + 60 * ran)  # each time another minute
        ran += 1
        await clocked.ended(ran)
    ticks = [run.event and bytes(run.event) for run in await clocked.runs()]
    assert len(set(ticks)) == ran
