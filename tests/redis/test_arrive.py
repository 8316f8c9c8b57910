"""A start behind a read: it makes the run that start would make, and leaves to start what is not plain."""

import asyncio
from typing import Any

import pytest

from stepstream.bus.bus import Bus
from stepstream.bus.limits.rules import Throttle
from stepstream.bus.limits.timeouts import Timeouts
from stepstream.bus.trigger import On
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.streams import ensure_group, event_of, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.minutes import minutes_of
from stepstream.checkpoint.run.eager_start import EagerStart
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.save import save
from stepstream.consumers.delivery.delivery import Feed, StreamGroup
from stepstream.consumers.delivery.eager_starts import EagerStarts
from tests.redis.test_scripts import SLUG, begin, dump, function

ME = "w.0"
PLAIN = {"id": "e1", "name": "a", "data": '{"n":1}'}


@pytest.fixture
async def stream(wire: Wire) -> str:
    await ensure_group(wire, keys.events("a"), SLUG, 0)
    await wire.call("ZADD", keys.events_workers("a"), await wire.clock() + 60_000, ME)
    return keys.events("a")


async def add(wire: Wire, fields: dict[str, Any], id: str = "*") -> str:
    flat = [part for pair in fields.items() for part in pair]
    return (await wire.call("XADD", keys.events("a"), id, *flat)).decode()


def read(pipe: Pipe, me: str = ME) -> asyncio.Future[Any]:
    return pipe.call("XREADGROUP", "GROUP", SLUG, me, "COUNT", 1, "BLOCK", 2_000, "STREAMS", keys.events("a"), ">")


async def arrive(wire: Wire, pipe: Pipe, newest: str = "0-0", me: str = ME) -> tuple[str, Any]:
    """Read an entry with a start behind; return the entry and what came of its run."""
    reading = read(pipe, me)
    arriving = EagerStart(wire, pipe, function, "a", me, newest)
    entry = (await reading)[0][1][0][0].decode()
    return entry, await arriving.run_of(entry)


@pytest.fixture
async def pipe(wire: Wire) -> Any:
    opened = wire.pipe(extra_timeout=5)
    await wire.call("PING")
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "fields",
    [
        PLAIN,
        PLAIN | {"ts": "1700000000000"},
        PLAIN | {"v": "2026-11.1", "ts": "1"},
        PLAIN | {"id": "an id: {x}", "name": "shop/order paid", "data": '{"über":"ü \\" "}'},
        PLAIN | {"trace": "not of an event"},
    ],
)
async def test_the_run_is_the_one_start_would_make(wire: Wire, stream: str, pipe: Pipe, fields: dict[str, Any]) -> None:
    reading = asyncio.ensure_future(arrive(wire, pipe))
    await asyncio.sleep(0)
    entry = await add(wire, fields)
    assert (await reading)[0] == entry
    found = (await reading)[1]
    assert found is not None
    asked, started = found
    ms = entry_ms(entry)
    event = codec.encode(event_of("a", entry, {k.encode(): v.encode() for k, v in fields.items()}))
    run = run_id(SLUG, "event", f"a|{entry}", ms)
    assert (asked.run, asked.event, asked.entry, asked.queued) == (run, event, f"event|a|{entry}", ms)
    assert (started.word, started.turn, started.resumed) == ("go", 1, False)

    async def stored() -> tuple[dict[bytes, bytes], Any]:
        key = keys.run(SLUG, run)
        kept = fields_of(await wire.call("HGETALL", key))
        moment = kept.pop(b"started")
        assert int(moment) >= ms
        return kept, await wire.call("ZRANGE", keys.runs(SLUG, "running"), 0, -1, "WITHSCORES")

    arrived = await stored()
    await wire.call("DEL", keys.run(SLUG, run), keys.runs(SLUG, "running"))
    await begin(wire, run=run, entry=f"event|a|{entry}", event=event, queued=ms, consumer=ME, fence=asked.fence)
    assert await stored() == arrived


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "{}"},
        {"id": "e", "data": "{}"},
        {"id": "e", "name": "a"},
        PLAIN | {"id": 'e"1'},
        PLAIN | {"id": "e\\1"},
        PLAIN | {"name": "größe"},
        PLAIN | {"name": b"\xff\xfe"},
        PLAIN | {"v": "a\nb"},
        PLAIN | {"ts": "soon"},
        PLAIN | {"ts": "007"},
        PLAIN | {"ts": "99999999999999"},
    ],
)
async def test_what_is_not_plain_is_left_to_start(wire: Wire, stream: str, pipe: Pipe, fields: dict[str, Any]) -> None:
    await add(wire, fields)
    assert (await arrive(wire, pipe))[1] is None
    assert await wire.call("KEYS", "bus:fn:*") == []


async def test_an_answer_that_was_lost_is_asked_again_of_start(wire: Wire, stream: str, pipe: Pipe) -> None:
    entry = await add(wire, PLAIN)
    _, found = await arrive(wire, pipe)
    asked, _ = found
    again = await begin(wire, run=asked.run, entry=asked.entry, event=asked.event, consumer=ME, fence="f2")
    assert (again.word, again.turn, again.crashes, again.resumed) == ("go", 1, 0, True)
    assert (await save(wire, Owned(SLUG, asked.run, 1, asked.fence), "a", "run", data=b"1")).word == "lost"
    assert asked.entry == f"event|a|{entry}"


async def test_a_run_that_exists_is_left_as_it_is(wire: Wire, stream: str, pipe: Pipe) -> None:
    entry = await add(wire, PLAIN)
    run = run_id(SLUG, "event", f"a|{entry}", entry_ms(entry))
    await begin(wire, run=run, entry=f"event|a|{entry}", fence="another's")
    before = await dump(wire)
    assert (await arrive(wire, pipe))[1] is None
    assert await dump(wire) == before


@pytest.mark.parametrize("lease", [None, -1])
async def test_a_worker_without_a_lease_starts_nothing(wire: Wire, stream: str, pipe: Pipe, lease: int | None) -> None:
    """It was stopped while its read was blocked: what it began would be claimed, and count as a crash."""
    await wire.call("ZREM", keys.events_workers("a"), ME)
    if lease is not None:
        await wire.call("ZADD", keys.events_workers("a"), await wire.clock() + lease, ME)
    await add(wire, PLAIN)
    assert (await arrive(wire, pipe))[1] is None
    assert await wire.call("KEYS", "bus:fn:*") == []


async def test_a_read_that_brings_nothing_starts_nothing_of_what_is_in_hand(
    wire: Wire, stream: str, pipe: Pipe
) -> None:
    first = await add(wire, PLAIN)
    await read(pipe)
    reading = pipe.call("XREADGROUP", "GROUP", SLUG, ME, "COUNT", 1, "STREAMS", stream, ">")
    arriving = EagerStart(wire, pipe, function, "a", ME, first)
    assert not await reading
    assert await arriving.run_of(first) is None
    assert await wire.call("KEYS", "bus:fn:*") == []


async def test_an_entry_that_was_claimed_is_left_to_start(wire: Wire, stream: str, pipe: Pipe) -> None:
    """Its run may have begun elsewhere, and whose crash it was is start's to say."""
    await add(wire, PLAIN)
    await read(pipe, "dead.0")
    entry = (await wire.call("XAUTOCLAIM", stream, SLUG, ME, 0, "0"))[1][0][0].decode()
    arriving = EagerStart(wire, pipe, function, "a", ME, "0-0")
    assert await arriving.run_of(entry) is None
    assert await wire.call("KEYS", "bus:fn:*") == []


async def test_a_server_that_forgot_its_scripts_is_given_this_one(wire: Wire, stream: str, pipe: Pipe) -> None:
    await wire.call("SCRIPT", "FLUSH")
    first = await add(wire, PLAIN)
    assert (await arrive(wire, pipe))[1] is None
    await add(wire, PLAIN)
    await wire.call("PING")
    assert (await arrive(wire, pipe, first))[1] is not None


async def test_a_connection_that_breaks_leaves_it_to_start(wire: Wire, stream: str, pipe: Pipe) -> None:
    arriving = EagerStart(wire, pipe, function, "a", ME, "0-0")
    await pipe.close()
    assert await arriving.run_of("1-0") is None


async def _handler(ctx: Any, step: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("declared", "are"),
    [
        ({"on": "a"}, True),
        ({"on": "a", "retries": 0}, True),
        ({"on": On("a", if_="event.data.n > 1")}, False),
        ({"on": "a", "throttle": Throttle(1, "1s")}, False),
        ({"on": "a", "timeouts": Timeouts(start="1s")}, False),
        ({"on": "a", "timeouts": Timeouts(finish="1s")}, False),
        ({"on": "a", "cancel_on": "b"}, False),
    ],
)
def test_only_functions_that_every_event_runs_are_started_so(declared: dict[str, Any], are: bool) -> None:
    made = Bus("shop").function("f", **declared)(_handler)
    feed = Feed(StreamGroup.of_events("events", "a", made.slug), None, made, None, made.triggers_of("a"))  # type: ignore[arg-type]
    assert EagerStarts.are_for(feed) is are


async def test_a_run_that_starts_eagerly_is_counted(wire: Wire, pipe: Pipe, stream: str) -> None:
    await add(wire, PLAIN)
    _, found = await arrive(wire, pipe)
    assert found is not None
    [minute] = await minutes_of(wire, [SLUG], 0, await wire.clock())
    assert (minute.started, sum(minute.waited)) == (1, 1)
