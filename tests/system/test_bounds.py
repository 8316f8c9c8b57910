"""Nothing grows with its list: commands of any number of entries, runs and slots go in parts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.limits.rules import Batch, Concurrency
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import MOST_ENTRIES, parts
from stepstream.bus.wire.streams import RELEASED, acknowledge, acknowledge_turns, ensure_group, release, take
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.start import StartReply, StartRequest, start
from tests.chaos.proxy import Proxy
from tests.support import Lab, eventually

MANY = 4_500
"""More than a quarter of 16,000 slots, than 3,999 arguments, and in pairs than Lua's 8,000."""


@pytest.fixture
async def narrow(url: str) -> AsyncGenerator[Lab]:
    """A lab whose server counts the commands with more than 3,999 arguments: there must be none."""
    with Proxy(urlsplit(url).port or 0, "narrow", 0) as proxy:
        async with AsyncExitStack() as stack:
            settings = Settings(redis_url=proxy.url, lease_ms=5_000, drain_ms=3_000)
            wire = Wire(settings, "test")
            stack.push_async_callback(wire.close)
            app = Bus("test")
            app.connect(wire)
            yield Lab(app, settings, wire, stack, wire, wire)
        assert proxy.end() == 0, "commands had more than 3,999 arguments"


def test_parts_are_whole_and_bounded() -> None:
    assert list(parts([])) == []
    assert [len(part) for part in parts(range(7_000))] == [3_000, 3_000, 1_000]
    assert [len(part) for part in parts(range(600), width=12)] == [250, 250, 100]
    assert MOST_ENTRIES * 13 <= 3_000


async def test_16_000_slots_meet_no_bound_of_lua_or_of_a_managed_server(narrow: Lab) -> None:
    """16,000 slots: one read brought 4,000 entries, whose starts met Lua's bound; ends met the server's."""
    inside, opened = 0, asyncio.Event()

    @narrow.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        nonlocal inside
        inside += 1
        await opened.wait()

    await narrow.work(concurrency=16_000)
    await narrow.app.publish([NewEvent("a", {}) for _ in range(MANY)])

    async def all_inside() -> bool:
        return inside == MANY

    await eventually(all_inside, "all are inside")
    opened.set()

    async def all_done() -> bool:
        ended = await narrow.wire.call("ZCARD", keys.runs(f.slug, "completed"))
        return ended == MANY and not (await narrow.wire.call("XPENDING", keys.events("a"), f.slug))[0]

    await eventually(all_done, "all have ended and are acknowledged")
    assert not narrow.notices


async def test_any_number_of_entries_is_taken_given_back_and_acknowledged(narrow: Lab) -> None:
    group = "test-f"
    stream = keys.queue(group)
    await ensure_group(narrow.wire, stream, group, 0)
    for part in parts(range(MANY)):
        await asyncio.gather(*(narrow.wire.call("XADD", stream, f"1-{n + 1}", "run", n) for n in part))
    await narrow.wire.call("XREADGROUP", "GROUP", group, "me", "STREAMS", stream, ">")
    ids = [f"1-{n + 1}" for n in range(MANY)]
    assert len(await take(narrow.wire, stream, group, "me", ids)) == MANY
    await release(narrow.wire, stream, group, "me", ids)
    await acknowledge(narrow.wire, stream, group, ids[:3_999])
    assert (await narrow.wire.call("XPENDING", stream, group))[3] == [[RELEASED.encode(), b"501"]]
    await acknowledge_turns(narrow.wire, stream, group, ids)
    assert await narrow.wire.call("XLEN", stream) == 0


async def test_a_script_takes_more_than_lua_hands_over_at_once(wire: Wire) -> None:
    """5,000 new runs are 10,000 values for the index: above Lua's 8,000 the whole script failed."""
    app = Bus("test")

    @app.function("f", on="a")
    async def f(ctx, step):
        return None

    answered: asyncio.Future[list[StartReply]] = asyncio.get_running_loop().create_future()

    def then(answers: list[StartReply], error: BaseException | None) -> None:
        answered.set_exception(error) if error else answered.set_result(answers)

    several = [
        StartRequest(run_id(f.slug, "event", f"a|{n}", n), 1, f"a|{n}-0", "", "w.0", "f", b'{"id":"e"}', "event", n)
        for n in range(1, 5_001)
    ]
    start(wire, f, several, 1, "", then)
    assert {one.word for one in await answered} == {"go"}
    assert await wire.call("ZCARD", keys.runs(f.slug, "running")) == 5_000


async def test_a_long_line_and_a_big_batch_pass(narrow: Lab) -> None:
    seen: list[int] = []

    @narrow.app.function("line", on="a", concurrency=Concurrency(16_000), retries=0)
    async def line(ctx, step):
        return None

    @narrow.app.function("batch", on="a", batch=Batch(MANY, "1h"), retries=0)
    async def batch(ctx, step):
        seen.append(len(ctx.events))

    await narrow.work(concurrency=16_000)
    await narrow.app.publish([NewEvent("a", {}) for _ in range(MANY)])

    async def all_done() -> bool:
        ended = await narrow.wire.call("ZCARD", keys.runs(line.slug, "completed"))
        return ended == MANY and seen == [MANY]

    await eventually(all_done, "all have ended")
    assert not narrow.notices
