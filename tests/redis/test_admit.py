"""The intake's scripts: a verdict is recorded, so an event that is delivered again gets the same one and counts once."""

from typing import Any

import pytest

from stepstream import Batch, Bus, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.function import Function
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.admit import Applicant, Verdict, admit
from stepstream.checkpoint.limits.dispatch import dispatch
from stepstream.checkpoint.run.begin import begun_event

SLUG = "shop-f"


async def _handler(ctx, step):
    return None


def declared(**limits: Any) -> Function:
    return Bus("shop").function("f", on="a", **limits)(_handler)


def run_of(n: int) -> str:
    return f"01ARZ3NDEKTSV4RRFFQ69G{n:04}"


def applicant(n: int, **changes: Any) -> Applicant:
    event = b'{"id":"e%d","name":"a","data":{"n":%d},"ts":%d}' % (n, n, n)
    return Applicant(run=run_of(n), event=event, source="event", queued=n, ts=n, **({"rank": n} | changes))


async def verdict(wire: Wire, function: Function, one: Applicant) -> Verdict:
    return (await admit(wire, function, "", [one]))[0]


async def queue(wire: Wire) -> None:
    await wire.call("XGROUP", "CREATE", keys.queue(SLUG), SLUG, "0", "MKSTREAM")


async def dump(wire: Wire) -> dict[bytes, bytes]:
    return {key: await wire.call("DUMP", key) for key in sorted(await wire.call("KEYS", "bus:*"))}


async def test_a_debounced_event_of_a_time_to_come_waits_for_it(wire: Wire) -> None:
    function, due = declared(debounce=Debounce("1s", timeout="2s")), 9_000
    wire.now = "1000"
    for n, not_before in ((5, 0), (due, due), (6, 0)):  # the last is older by its ts: it replaces nothing
        await verdict(wire, function, applicant(n, buffer="d:", buffer_run=run_of(900), not_before=not_before))
    timers = await wire.call("ZRANGE", keys.timers(SLUG), 0, -1, "WITHSCORES")
    assert timers == [b"buffer|d:", b"%d" % due]
    assert await wire.call("HGET", keys.buffer(SLUG, "d:"), "ts") == b"%d" % due


@pytest.mark.parametrize(
    ("limits", "rules", "words"),
    [
        ({"rate_limit": RateLimit(1, "1h")}, {"rate": "r:"}, ["later", "skipped"]),
        ({"debounce": Debounce("1m")}, {"buffer": "d:", "buffer_run": run_of(900)}, ["merged", "merged"]),
        ({"batch": Batch(3, "1m")}, {"buffer": "b:", "buffer_run": run_of(900)}, ["merged", "merged"]),
        ({"singleton": Singleton("skip")}, {"single": "s:"}, ["later", "skipped"]),
        ({"singleton": Singleton("cancel")}, {"single": "s:"}, ["later", "later"]),
        ({"concurrency": 1}, {"holds": "c0:"}, ["later", "later"]),
        ({"throttle": Throttle(1, "1h")}, {"holds": "t:"}, ["later", "later"]),
    ],
)
async def test_an_event_that_is_delivered_again_gets_the_verdict_it_had(
    wire: Wire, limits: dict, rules: dict, words: list[str]
) -> None:
    function = declared(**limits)
    wire.now = "1000"
    assert [(await verdict(wire, function, applicant(n, **rules))).word for n in (1, 2)] == words
    before = await dump(wire)
    wire.now = "2000"
    for n in (1, 2):
        assert (await verdict(wire, function, applicant(n, **rules))).word == "there"
    assert await dump(wire) == before, "the second delivery changes nothing"


async def test_what_pop_gives_a_place_is_pending_for_its_caller_and_started(wire: Wire) -> None:
    function = declared(concurrency=Concurrency(2))
    await queue(wire)
    for n in (3, 1, 2):
        await verdict(wire, function, applicant(n, holds="c0:"))
    popped = await dispatch(wire, function, "w.0", 10)
    assert popped.taken == 2
    assert [asked.run for asked, _ in popped.started.values()] == [run_of(1), run_of(2)]
    rows = await wire.call("XPENDING", keys.queue(SLUG), SLUG, "-", "+", 10)
    assert [row[1] for row in rows] == [b"w.0", b"w.0"]
    assert await wire.call("ZCARD", keys.places(SLUG, "c0:")) == 2
    assert await wire.call("ZCARD", keys.backlog(SLUG, "c0:")) == 1
    assert (await dispatch(wire, function, "w.0", 10)).taken == 0, "it is full"


async def test_a_run_whose_second_limit_is_full_waits_there_and_holds_nothing(wire: Wire) -> None:
    function = declared(concurrency=[Concurrency(5), Concurrency(1, key="event.data.n")])
    await queue(wire)
    for n in (1, 2):
        await verdict(wire, function, applicant(n, holds="c0:\nc1:x"))
    assert (await dispatch(wire, function, "w.0", 10)).taken == 1
    assert await wire.call("ZRANGE", keys.places(SLUG, "c0:"), 0, -1) == [run_of(1).encode()]
    assert await wire.call("ZRANGE", keys.backlog(SLUG, "c1:x"), 0, -1) == [run_of(2).encode()]
    assert await wire.call("HGET", keys.run(SLUG, run_of(2)), "entry") == b"backlog|c1:x"


async def test_a_batch_is_one_entry_with_all_its_events(wire: Wire) -> None:
    function = declared(batch=Batch(2, "1m"))
    for n in (1, 2):
        await verdict(wire, function, applicant(n, buffer="b:", buffer_run=run_of(900 + n)))
    rows = await wire.call("XRANGE", keys.queue(SLUG), "-", "+")
    fields = dict(zip(rows[0][1][::2], rows[0][1][1::2], strict=True))
    assert fields[b"run"] == run_of(901).encode()
    first, second = (b'{"id":"e%d","name":"a","data":{"n":%d},"ts":%d}' % (n, n, n) for n in (1, 2))
    assert (fields[b"event"], fields[b"batch"]) == (first, b"[" + first + b"," + second + b"]")
    assert begun_event(fields) == first[:-1] + b',"batch":[' + first + b"," + second + b"]}"
    assert await wire.call("EXISTS", keys.buffer(SLUG, "b:")) == 0
    assert await wire.call("ZCARD", keys.timers(SLUG)) == 0


async def test_an_error_in_one_event_does_not_stop_its_neighbours(wire: Wire) -> None:
    function = declared(concurrency=1)
    await wire.call("SET", keys.run(SLUG, run_of(1)), "no hash")
    await wire.call("DEL", keys.run(SLUG, run_of(1)))
    await wire.call("SET", keys.backlog(SLUG, "c0:bad"), "no zset")
    verdicts = await admit(wire, function, "", [applicant(1, holds="c0:bad"), applicant(2, holds="c0:good")])
    assert [one.word for one in verdicts] == ["error", "later"]


async def test_several_events_of_a_singleton_in_one_read_leave_one_run_in_the_index(wire: Wire) -> None:
    """The newer run cancels one that was admitted by the same call, before the index was told of that."""
    function = declared(singleton=Singleton("cancel"))
    several = [applicant(n, single="s:") for n in range(1, 61)]
    assert {one.word for one in await admit(wire, function, "", several)} == {"later"}
    assert await wire.call("ZRANGE", keys.runs(SLUG, "queued"), 0, -1) == [run_of(60).encode()]
    assert await wire.call("ZCARD", keys.runs(SLUG, "cancelled")) == 59
    assert await wire.call("ZRANGE", keys.backlog(SLUG, "-"), 0, -1) == [run_of(60).encode()]
