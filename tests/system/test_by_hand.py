"""What somebody added by hand and makes no sense: told once, dropped, and it stops nobody else's work."""

import asyncio
import json
from typing import Any

import pytest

from stepstream import CancelOn, Concurrency, Context, Step
from stepstream.bus.wire import keys
from stepstream.checkpoint.waits.event_waits import GROUP
from tests.support import Lab, eventually

SLUG = "test-f"
pytestmark = pytest.mark.leaves_behind("all of it is added by hand")
BAD = b"\xff\xfe{"


def declare(lab: Lab, **options: Any) -> None:
    @lab.app.function("f", on="a", cancel_on=CancelOn("stop", match="data.n"), **options)
    async def f(ctx: Context[dict], step: Step) -> object:
        if ctx.event.data.get("waits"):
            return await step.wait_for_event("it", "b", match="data.n", timeout="10m")
        return "done"


async def all_is_acknowledged(lab: Lab, stream: str, group: str) -> None:
    """Wait until a group has been given all of a stream, and has done with it."""

    async def look() -> bool:
        last = dict(pairs(await lab.wire.call("XINFO", "STREAM", stream)))[b"last-generated-id"]
        groups = [dict(pairs(flat)) for flat in await lab.wire.call("XINFO", "GROUPS", stream)]
        mine = [row for row in groups if row[b"name"] == group.encode()]
        return bool(mine) and mine[0][b"pending"] == 0 and mine[0][b"last-delivered-id"] == last

    await eventually(look, f"{group} has done with {stream}")


def pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize("limits", [{}, {"concurrency": Concurrency(2)}], ids=["plain", "with limits"])
@pytest.mark.parametrize("field", ["id", "name", "data", "ts", "v"])
async def test_an_event_that_is_not_utf8_is_carried_once(lab: Lab, field: str, limits: dict[str, Any]) -> None:
    declare(lab, **limits)
    await lab.work()
    await lab.send("a", {"waits": True, "n": 1})
    await lab.status(await lab.first(), "waiting")
    for name in ("a", "b", "stop"):
        whole: dict[str, Any] = {"id": "x", "data": '{"n":7}'}
        flat = [part for pair in {**whole, field: b"9" * 5_000 if field == "ts" else BAD}.items() for part in pair]
        await lab.wire.call("XADD", keys.events(name), "*", *flat)
    await all_is_acknowledged(lab, keys.events("b"), GROUP)
    await all_is_acknowledged(lab, keys.events("stop"), f"{SLUG}@cancel")
    await all_is_acknowledged(lab, keys.events("a"), SLUG)
    await lab.send("b", {"n": 1})
    run = next(run for run in await lab.ended(len(await lab.runs())) if run.status == "completed" and run.turn > 1)
    assert json.loads(bytes(run.output or b""))["data"] == {"n": 1}
    assert not [n for n in lab.notices if "tried again" in n.event or "read again" in n.event]


@pytest.mark.parametrize("shared", [None, "gpu"], ids=["own limit", "shared limit"])
@pytest.mark.parametrize("fields", [("run", BAD), ("run", "r", "turn", BAD), ("run", "r", "event", BAD, "source", "cron"),
                                    (BAD, BAD), ("run", "r", "turn", "1", "holds", BAD)])  # fmt: skip
async def test_a_queue_entry_that_is_not_utf8_is_carried_once(
    lab: Lab, fields: tuple[bytes | str, ...], shared: str | None
) -> None:
    declare(lab, concurrency=Concurrency(2, shared=shared))
    await lab.work()
    await lab.wire.call("XADD", keys.queue(SLUG), "*", *fields)
    await lab.send("a")
    await lab.one()
    await all_is_acknowledged(lab, keys.queue(SLUG), SLUG)
    assert not [n for n in lab.notices if "tried again" in n.event or "read again" in n.event]
    assert not [n for n in lab.notices if "failed" in n.event]


@pytest.mark.parametrize("fields", [("run", BAD), ("run", "gone"), (BAD, BAD)])
async def test_an_end_that_is_not_utf8_is_told_once(lab: Lab, fields: tuple[bytes | str, ...]) -> None:
    declare(lab)
    await lab.work()
    await lab.wire.call("HSET", keys.run(SLUG, "odd"), "status", "completed", "ended", 1, "parent", BAD)
    await lab.wire.call("PEXPIRE", keys.run(SLUG, "odd"), 60_000)
    await lab.wire.call("XADD", keys.ends(SLUG), "*", *fields)
    await lab.wire.call("XADD", keys.ends(SLUG), "*", "run", "odd")
    await all_is_acknowledged(lab, keys.ends(SLUG), SLUG)
    assert not [n for n in lab.notices if "tried again" in n.event]


@pytest.mark.parametrize("member", ["no turn", "odd:1", "x|y", "buffer|", ":"])
async def test_a_bad_timer_stops_no_other(lab: Lab, member: str) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        await step.sleep("nap", 0.2)
        return "done"

    await lab.wire.call("SET", keys.run(SLUG, "odd"), "no hash", "PX", 60_000)
    await lab.wire.call("ZADD", keys.timers(SLUG), 1, member)
    await lab.work()
    await lab.send("a")
    assert await lab.output() == "done"

    async def dropped() -> bool:
        return not await lab.wire.call("EXISTS", keys.timers(SLUG))

    await eventually(dropped, "the timer is dropped")
    await lab.wire.call("DEL", keys.run(SLUG, "odd"))
    assert sum("a timer makes no sense" in notice.event for notice in lab.notices) == 1


async def test_bad_members_of_indexes_stop_nobody(lab: Lab) -> None:
    declare(lab)
    for key, member in ((keys.waited(), BAD), (keys.waits("b"), b"data.n=7"), (keys.waits("b"), BAD),
                        (keys.cancels(SLUG), b"stop|data.n=7|"), (keys.event_names(), BAD)):  # fmt: skip
        await lab.wire.call("ZADD", key, 9e12, member)
    await lab.wire.call("HSET", keys.waits_if("b"), BAD, BAD, "a|b", "{}")
    await lab.wire.call("HSET", keys.triggers(), BAD, 1)
    await lab.work()
    await lab.send("a", {"waits": True, "n": 7})
    await lab.status(await lab.first(), "waiting")
    await lab.send("stop", {"n": 8})
    await lab.send("b", {"n": 7})
    assert (await lab.one()).status == "completed"
    await all_is_acknowledged(lab, keys.events("b"), GROUP)
    await all_is_acknowledged(lab, keys.events("stop"), f"{SLUG}@cancel")
    await asyncio.sleep(0)
    assert not [n for n in lab.notices if "tried again" in n.event]
