"""Events that are published later: kept, seen and taken back before their time, and published once, whoever dies."""

import os
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from stepstream.bus.bus import NewEvent
from stepstream.bus.errors import EventInvalid
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of
from stepstream.checkpoint.delayed import DelayedNotFound, due_names, list_delayed, publish_due, take_back
from stepstream.consumers.upkeep.delayed import Delayed
from tests.support import Lab, WorkerProcess, eventually

ODD = "a:{}|%/ä"
"""A name, and an id, that a key holds percent-encoded."""


async def entries(lab: Lab, name: str) -> list[dict[bytes, bytes]]:
    return [fields_of(flat) for _, flat in await lab.wire.call("XRANGE", keys.events(name), "-", "+")]


async def test_a_delayed_event_is_published_at_its_time_and_starts_functions_then(lab: Lab) -> None:
    @lab.app.function("f", on="later")
    async def f(ctx, step):
        return [ctx.event.id, ctx.event.data["n"], ctx.event.v]

    await lab.work()
    before = await lab.wire.clock()
    await lab.app.send(NewEvent("later", {"n": 1}, "mine", v="2", delay="300ms"))
    assert await lab.runs() == []
    assert not await entries(lab, "later")
    assert await lab.output() == ["mine", 1, "2"]
    run = (await lab.runs())[0]
    assert run.queued - before >= 300
    assert await list_delayed(lab.wire) == []
    assert not await lab.wire.call("EXISTS", keys.delayed("later"), keys.delayed_names())


async def test_a_wait_sees_a_delayed_event_when_it_is_published(lab: Lab) -> None:
    """With a `ts` of a time to come it would see it at once: that only makes runs begin later."""

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return await step.wait_for_event("it", "later", timeout="150ms") is not None

    await lab.work()
    await lab.app.send("later", {}, delay="30s")
    await lab.send("a")
    assert await lab.output() is False
    await take_back(lab.wire, "later", (await list_delayed(lab.wire))[0].id)


async def test_delayed_events_are_listed_by_their_time_and_can_be_taken_back(lab: Lab) -> None:
    at = datetime.now(UTC) + timedelta(hours=2)
    await lab.app.send("b", {"n": 2}, id="two", at=at)
    await lab.app.send(ODD, {"n": 1}, id=ODD, delay="1h")
    await lab.app.send("b", {"n": 3}, id="three", delay=timedelta(days=3))
    listed = await list_delayed(lab.wire)
    assert [(one.name, one.id, bytes(one.data)) for one in listed] == [
        (ODD, ODD, b'{"n":1}'), ("b", "two", b'{"n":2}'), ("b", "three", b'{"n":3}'),
    ]  # fmt: skip
    assert listed[1].due == round(at.timestamp() * 1000)
    assert [one.id for one in await list_delayed(lab.wire, "b", limit=1)] == ["two"]
    await take_back(lab.wire, ODD, ODD)
    with pytest.raises(DelayedNotFound, match="any more"):
        await take_back(lab.wire, ODD, ODD)
    assert [one.id for one in await list_delayed(lab.wire)] == ["two", "three"]
    [sent] = await lab.app.publish([NewEvent(ODD, {}, ODD)])
    assert not sent.duplicate, "an id that was taken back may be sent again"
    for one in await list_delayed(lab.wire):
        await take_back(lab.wire, one.name, one.id)
    lab.wire.now = str(await lab.wire.clock() + 4 * 86_400_000)
    assert await due_names(lab.wire) == ([ODD, "b"], None), "a list of hints"
    assert [(await publish_due(lab.wire, name)).published for name in (ODD, "b")] == [0, 0]
    assert await due_names(lab.wire) == ([], None)


async def test_an_id_is_stored_once_before_and_after_its_time(lab: Lab) -> None:
    [first] = await lab.app.publish([NewEvent("a", {}, "x", delay="1h")])
    assert (first.duplicate, first.entry, first.due > 0) == (False, "", True)
    for again in (NewEvent("a", {}, "x", delay="1h"), NewEvent("a", {}, "x")):
        [stored] = await lab.app.publish([again])
        assert (stored.duplicate, stored.due) == (True, first.due)
    lab.wire.now = str(first.due)
    assert (await publish_due(lab.wire, "a")).published == 1
    [stored] = await lab.app.publish([NewEvent("a", {}, "x", delay="1h")])
    assert stored.duplicate
    assert stored.entry
    assert len(await entries(lab, "a")) == 1
    assert await lab.wire.call("PTTL", keys.seen("a", "x")) > 86_000_000


async def test_a_time_that_has_passed_publishes_at_once(lab: Lab) -> None:
    [stored] = await lab.app.publish([NewEvent("a", {}, at=datetime(2020, 1, 1, tzinfo=UTC))])
    assert stored.entry
    assert len(await entries(lab, "a")) == 1


@pytest.mark.parametrize(
    ("given", "field", "told"),
    [
        ({"at": datetime(2030, 1, 1)}, "at", "no time zone"),
        ({"at": datetime.now(UTC) + timedelta(days=400)}, "at", "366 days"),
        ({"delay": "soon"}, "delay", "is not a duration"),
        ({"delay": -1}, "delay", "between 0 and 366 days"),
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "at", "one of them"),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(lab: Lab, given: dict, field: str, told: str) -> None:
    with pytest.raises(EventInvalid, match=told) as refused:
        await lab.app.send("a", {}, **given)
    assert refused.value.field == field


async def test_many_workers_publish_each_event_once(lab: Lab) -> None:
    await lab.app.send([NewEvent("a", {"n": n}, delay="1h") for n in range(250)])
    lab.wire.now = str(await lab.wire.clock() + 3_700_000)
    await lab.app.send([NewEvent("b", {"n": n}, delay="1h") for n in range(3)])

    async def look() -> None:
        while await Delayed(lab.wire, Signals()).once() == 0:
            pass

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(look)
    told = [entry[b"data"] for entry in await entries(lab, "a")]
    assert len(told) == len(set(told)) == 250
    assert [one.name for one in await list_delayed(lab.wire)] == ["b"] * 3
    for one in await list_delayed(lab.wire):
        await take_back(lab.wire, one.name, one.id)


@pytest.mark.leaves_behind("the fields of an event are deleted")
async def test_an_event_whose_fields_are_gone_is_told_of_and_stops_no_other(lab: Lab) -> None:
    told: list[Noticed] = []
    signals = Signals()
    signals.noticed.listen(told.append)
    for id in ("x", "y"):
        await lab.app.send("a", {}, id=id, delay="1h")
    await lab.wire.call("DEL", keys.delayed_event("a", "x"))
    lab.wire.now = str(await lab.wire.clock() + 3_700_000)
    await Delayed(lab.wire, signals).once()
    assert [entry[b"id"] for entry in await entries(lab, "a")] == [b"y"]
    assert [one.fields["id"] for one in told] == ["x"]


@pytest.mark.process
async def test_a_worker_that_dies_behind_the_publishing_publishes_once(lab: Lab, url: str, tmp_path) -> None:
    environ = {"CHAOS_JOURNAL": str(tmp_path / "journal"), "CHAOS_STEP": "0.01"}
    (tmp_path / "journal").touch()
    app = "tests.chaos.app:app"
    await lab.app.send("chaos/five", {"n": 3}, delay="100ms")
    failing = {**environ, "BUS_FAILPOINT": "delayed.published", "BUS_LEASE": "1"}
    with WorkerProcess(app, url, log=tmp_path / "log", environ=failing) as worker:
        assert await anyio.to_thread.run_sync(worker.process.wait, 20) == 9
    with WorkerProcess(app, url, log=tmp_path / "log2", environ={**environ, "BUS_LEASE": "1"}):

        async def ended() -> bool:
            return await lab.wire.call("ZCARD", keys.runs("chaos-five", "completed")) == 1

        await eventually(ended, "its run has ended")
    assert len(await entries(lab, "chaos/five")) == 1
    assert os.path.exists(environ["CHAOS_JOURNAL"])
