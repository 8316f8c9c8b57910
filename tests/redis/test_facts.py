"""What is counted by the minute, and of which errors runs failed: each way to start and to end a run writes it, once."""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from stepstream import Batch, Bus, Concurrency, Debounce, RateLimit, Singleton, Timeouts
from stepstream.bus.function import Function
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import ensure_group
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_of
from stepstream.checkpoint.facts.buckets import COUNT, bucket_of, from_ms
from stepstream.checkpoint.facts.errors import errors_among, errors_of, set_error_state
from stepstream.checkpoint.facts.marks import LETTERS, mark_of
from stepstream.checkpoint.facts.minutes import OTHER, marks_in, minutes_of
from stepstream.checkpoint.limits.dispatch import dispatch
from stepstream.checkpoint.run.end import end
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.run.resolve import fire_timers
from stepstream.checkpoint.run.start import MAX_CRASHES, StartReply, start
from stepstream.checkpoint.run.suspend import suspend
from tests.redis.test_admit import applicant, declared, run_of, verdict
from tests.redis.test_scripts import RUN, SLUG, asked, begin, owned, started
from tests.support import sent

NOW = 100 * 60_000 + 30_000
"""In the middle of minute 100."""
LOST = Failure("Lost", "order o1 is lost", 'Traceback:\n  File "/srv/shop/orders.py", line 12, in pack\n    …\n')


@pytest.fixture(autouse=True)
def at_a_moment(wire: Wire) -> None:
    wire.now = str(NOW)


async def told(wire: Wire) -> dict[str, int]:
    """Return the sums of all minutes: of what is counted, and how much of it has a bucket."""
    found: Counter[str] = Counter()
    for one in await minutes_of(wire, [SLUG], 0, NOW + 3_600_000):
        for word in ("started", "completed", "failed", "cancelled", "skipped", "merged"):
            found[word] += getattr(one, word)
        found["waited"] += sum(one.waited)
        found["took"] += sum(one.took)
        found.update({f"e:{mark}": count for mark, count in one.errors.items()})
    return {word: count for word, count in found.items() if count}


async def with_timeouts(wire: Wire, timeouts: Timeouts, **changes: Any) -> StartReply:
    function = Bus("shop").function("f", on="a", timeouts=timeouts)(_handler)
    answered: asyncio.Future[StartReply] = asyncio.get_running_loop().create_future()
    start(wire, function, [asked(**changes)], 1, "", lambda replies, error: answered.set_result(replies[0]))
    return await answered


async def _handler(ctx: Any, step: Any) -> None:
    return None


# -- starts ----------------------------------------------------------------------------------------------------------


async def test_a_run_that_starts_at_once_is_counted_with_how_long_it_waited(wire: Wire) -> None:
    await begin(wire, queued=NOW - 150)
    await begin(wire, queued=NOW - 150, fence="f2")  # a redelivery starts nothing
    [minute] = await minutes_of(wire, [SLUG], 0, NOW)
    assert (minute.at, minute.started) == (100 * 60_000, 1)
    assert minute.waited == [int(bucket == bucket_of(150)) for bucket in range(COUNT)]


async def test_scripts_and_readers_mean_the_same_buckets(wire: Wire) -> None:
    edges = [math.ceil(from_ms(bucket)) for bucket in range(1, COUNT)]
    took = [0, *(edge - 1 for edge in edges), *edges, 90_000_000]
    wire.now = str(NOW + max(took))
    await started(wire, [asked(run=run_of(n), queued=int(wire.now) - ms) for n, ms in enumerate(took)])
    [minute] = await minutes_of(wire, [SLUG], int(wire.now), int(wire.now))
    among = Counter(bucket_of(ms) for ms in took)
    assert minute.waited == [among[bucket] for bucket in range(COUNT)]


async def test_a_run_of_a_time_to_come_is_counted_when_it_starts_and_has_waited_for_nobody(wire: Wire) -> None:
    assert (await begin(wire, not_before=NOW + 5_000, queued=NOW)).word == "later"
    assert await told(wire) == {}
    wire.now = str(NOW + 60_000)
    await fire_timers(wire, SLUG)
    entry = (await wire.call("HGET", keys.run(SLUG, RUN), "entry")).decode()
    assert (await begin(wire, event=b"", entry=entry, turn=2, fence="f2")).word == "go"
    assert await told(wire) == {"started": 1}
    [minute] = await minutes_of(wire, [SLUG], 0, NOW + 60_000)
    assert minute.at == 101 * 60_000


async def test_a_later_turn_of_a_run_starts_nothing(wire: Wire) -> None:
    await begin(wire)
    assert (await suspend(wire, owned(), known=0, due="+0")).word == "mine"
    await fire_timers(wire, SLUG)
    entry = (await wire.call("HGET", keys.run(SLUG, RUN), "entry")).decode()
    assert (await begin(wire, event=b"", entry=entry, turn=2, fence="f2")).word == "go"
    assert await told(wire) == {"started": 1, "waited": 1}


async def test_a_run_that_is_given_its_place_is_counted(wire: Wire) -> None:
    function = declared(concurrency=Concurrency(2))
    await ensure_group(wire, keys.queue(SLUG), SLUG, 0)
    for n in (1, 2, 3):
        await verdict(wire, function, applicant(n, holds="c0:"))
    assert (await dispatch(wire, function, "w.0", 10)).taken == 2
    assert await told(wire) == {"started": 2, "waited": 2}


async def test_a_run_that_asks_for_a_shared_place_too_is_counted_when_it_starts(wire: Wire) -> None:
    function = declared(concurrency=Concurrency(2, shared="gpu", key="'k'"))
    await ensure_group(wire, keys.queue(SLUG), SLUG, 0)
    await verdict(wire, function, applicant(1, holds="t:"))
    assert (await dispatch(wire, function, "w.0", 10)).taken == 1
    assert await told(wire) == {}, "it has only been read"
    entry = (await wire.call("HGET", keys.run(SLUG, run_of(1)), "entry")).decode()
    [answer] = await started(wire, [asked(run=run_of(1), event=b"", entry=entry)])
    assert answer.word == "go"
    assert await told(wire) == {"started": 1, "waited": 1}


# -- ends ------------------------------------------------------------------------------------------------------------


async def test_an_end_is_counted_once_with_how_long_the_run_took(wire: Wire) -> None:
    await begin(wire, queued=NOW)
    wire.now = str(NOW + 2_500)
    for _ in range(2):  # the second is the repeat of a call whose answer was lost
        await end(wire, owned(), "completed", output=b"1")
    [minute] = await minutes_of(wire, [SLUG], 0, NOW)
    assert (minute.completed, minute.took[bucket_of(2_500)], sum(minute.took)) == (1, 1, 1)
    assert 0 < await wire.call("PTTL", keys.minute(SLUG, 100)) <= 25 * 3_600_000


async def test_a_run_that_fails_is_counted_with_its_error(wire: Wire) -> None:
    await begin(wire)
    await end(wire, owned(), "failed", error=LOST)
    [group] = await errors_of(wire, [SLUG])
    assert await told(wire) == {"started": 1, "waited": 1, "failed": 1, "took": 1, f"e:{group.fingerprint}": 1}
    assert (group.name, group.frame, group.message) == ("Lost", "shop/orders.py: pack", "order o1 is lost")
    assert (group.first, group.last, group.count, group.run, group.state) == (NOW, NOW, 1, RUN, "open")


async def late_start(wire: Wire) -> None:
    assert (await with_timeouts(wire, Timeouts(start="1s"), queued=NOW - 2_000)).word == "cancelled"


async def late_finish(wire: Wire) -> None:
    await with_timeouts(wire, Timeouts(finish="1s"), queued=NOW)
    wire.now = str(NOW + 2_000)
    assert (await with_timeouts(wire, Timeouts(finish="1s"), fence="f2")).word == "cancelled"


async def crashes(wire: Wire) -> None:
    await begin(wire)
    for n in range(MAX_CRASHES):
        answer = await begin(wire, owner=f"w.{n}", consumer=f"w.{n + 1}", fence=f"g{n}")
    assert answer.word == "crashed"


async def late_at_work(wire: Wire) -> None:
    await begin(wire)
    await end(wire, owned(), "cancelled", error=Failure("timeout", "the run did not finish within 1 s"))


@pytest.mark.parametrize(
    ("ends", "how", "error", "was_started"),
    [
        (late_start, "cancelled", "timeout", 0),
        (late_finish, "cancelled", "timeout", 1),
        (late_at_work, "cancelled", "timeout", 1),
        (crashes, "failed", "worker_crash", 1),
    ],
)
async def test_an_end_that_no_code_has_raised_is_an_error_of_that_name(
    wire: Wire, ends: Callable[[Wire], Awaitable[None]], how: str, error: str, was_started: int
) -> None:
    await ends(wire)
    found = await told(wire)
    assert (found[how], found.get("started", 0), found[f"e:{mark_of(error, '')}"]) == (1, was_started, 1)
    [group] = await errors_of(wire, [SLUG])
    assert (group.name, group.frame, group.count, group.run) == (error, "", 1, RUN)
    assert "%" not in group.message


async def test_a_run_that_is_cancelled_is_counted_and_is_no_error(wire: Wire) -> None:
    await begin(wire)
    await suspend(wire, owned(), known=0, due="+60000")
    assert await cancel_of(wire, SLUG, RUN, "by hand") == "cancelled"
    assert await told(wire) == {"started": 1, "waited": 1, "cancelled": 1}
    assert await errors_of(wire, [SLUG]) == []


async def test_a_run_that_is_cancelled_at_work_is_counted_when_it_ends(wire: Wire) -> None:
    await begin(wire)
    assert await cancel_of(wire, SLUG, RUN, "by hand") == "asked"
    assert "cancelled" not in await told(wire)
    assert (await begin(wire, fence="f2")).word == "cancelled"  # its worker had died
    assert (await told(wire))["cancelled"] == 1


async def test_a_run_that_is_cancelled_before_it_starts_is_counted(wire: Wire) -> None:
    unstarted = Run(id=RUN, function=SLUG, status="queued", queued=NOW, source="event")
    assert await cancel_of(wire, SLUG, RUN, "by hand", unstarted=unstarted) == "cancelled"
    assert await told(wire) == {"cancelled": 1}


@pytest.mark.parametrize(
    ("limits", "rules", "found"),
    [
        ({"rate_limit": RateLimit(1, "1h")}, {"rate": "r:"}, {"skipped": 1}),
        ({"singleton": Singleton("skip")}, {"single": "s:"}, {"skipped": 1}),
        ({"singleton": Singleton("cancel")}, {"single": "s:"}, {"cancelled": 1}),
        ({"debounce": Debounce("1m")}, {"buffer": "d:", "buffer_run": run_of(900)}, {"merged": 2}),
        ({"batch": Batch(3, "1m")}, {"buffer": "b:", "buffer_run": run_of(900)}, {"merged": 2}),
        ({"concurrency": 1}, {"holds": "c0:"}, {}),
    ],
)
async def test_what_a_limit_decides_is_counted_once(wire: Wire, limits: Any, rules: Any, found: dict[str, int]) -> None:
    function: Function = declared(**limits)
    for _ in range(2):  # each is delivered twice
        for n in (1, 2):
            await verdict(wire, function, applicant(n, **rules))
    assert await told(wire) == found


# -- many at once, and bounds ----------------------------------------------------------------------------------------


async def fail(wire: Wire, *failures: Failure, at: int = NOW) -> list[str]:
    """Let a run fail of each; return the runs."""
    wire.now = str(at)
    runs = [f"{at:013}{n:013}" for n in range(len(failures))]
    for first in range(0, len(runs), 500):
        await started(wire, [asked(run=run, queued=at) for run in runs[first : first + 500]])
    await asyncio.gather(
        *(end(wire, Owned(SLUG, run, 1, "f1"), "failed", error=failure)
          for run, failure in zip(runs, failures, strict=True))
    )  # fmt: skip
    return runs


def named(n: int) -> Failure:
    return Failure(f"Error{n}", f"message {n}")


async def test_ends_of_one_call_are_added_up_and_written_once(wire: Wire) -> None:
    runs = await fail(wire, *[LOST] * 40)
    before = await _calls(wire)
    [minute], [group] = await minutes_of(wire, [SLUG], 0, NOW), await errors_of(wire, [SLUG])
    assert (minute.failed, minute.errors, group.count) == (40, {group.fingerprint: 40}, 40)
    assert group.run in runs
    await fail(wire, *[LOST] * 40, at=NOW + 1)
    after = await _calls(wire)
    assert after["hincrby"] - before["hincrby"] == 3, "how they ended, their error; and how they started"
    assert after["pexpire"] - before["pexpire"] == 80, "each run's own, and its steps'"


async def test_nothing_else_is_written_for_people(wire: Wire) -> None:
    await begin(wire, queued=NOW)
    await end(wire, owned(), "completed", output=b"1", leaves="")
    found = {key.decode() for key in await wire.call("KEYS", "bus:*")}
    assert found == {keys.run(SLUG, RUN), keys.runs(SLUG, "completed"), keys.minute(SLUG, 100)}
    fields = await wire.call("HKEYS", keys.minute(SLUG, 100))
    assert sorted(fields) == [b"completed:0", b"started:0"]


async def _calls(wire: Wire) -> Counter[str]:
    info = (await wire.call("INFO", "commandstats")).decode()
    return Counter({name: int(calls) for name, calls in re.findall(r"cmdstat_(\w+):calls=(\d+)", info)})


async def test_ten_thousand_different_errors_leave_no_more_than_five_hundred(wire: Wire) -> None:
    for first in range(0, 10_000, 2_000):
        await fail(wire, *map(named, range(first, first + 2_000)), at=NOW + first)
    groups = await errors_of(wire, [SLUG])
    assert len(groups) == await wire.call("ZCARD", keys.erred(SLUG)) == 500
    assert {group.last for group in groups} == {NOW + 8_000}, "the newest"
    assert await wire.call("HLEN", keys.errors(SLUG)) == 500 * 5
    [minute] = await minutes_of(wire, [SLUG], 0, NOW)
    assert len(minute.errors) == 51
    assert minute.errors[OTHER] == 10_000 - 50
    assert sum(minute.errors.values()) == minute.failed == 10_000


async def test_an_error_of_which_nothing_was_heard_for_a_month_makes_room(wire: Wire) -> None:
    await fail(wire, named(1))
    later = NOW + 31 * 86_400_000
    await fail(wire, named(2), at=later)
    assert [group.name for group in await errors_of(wire, [SLUG])] == ["Error2"]
    for key in (keys.errors(SLUG), keys.erred(SLUG)):
        assert 0 < await wire.call("PTTL", key) <= 30 * 86_400_000


async def test_what_is_of_another_type_by_hand_stops_no_run(wire: Wire) -> None:
    for key in (keys.minute(SLUG, 100), keys.errors(SLUG), keys.erred(SLUG)):
        await wire.call("SET", key, "x", "PX", 60_000)
    [run] = await fail(wire, LOST)
    assert await wire.call("HGET", keys.run(SLUG, run), "status") == b"failed"
    assert await minutes_of(wire, [SLUG], 0, NOW) == []


# -- what people say of an error -------------------------------------------------------------------------------------


async def test_a_resolved_error_that_comes_again_is_open_and_says_since_when(wire: Wire) -> None:
    await fail(wire, LOST)
    [group] = await errors_of(wire, [SLUG])
    assert await set_error_state(wire, SLUG, group.fingerprint, "resolved")
    assert [one.state for one in await errors_of(wire, [SLUG])] == ["resolved"]
    await fail(wire, LOST, at=NOW + 5)
    [again] = await errors_of(wire, [SLUG])
    assert (again.state, again.regressed, again.first, again.last, again.count) == ("open", NOW + 5, NOW, NOW + 5, 2)


async def test_an_error_is_muted_until_its_time_however_often_it_comes(wire: Wire) -> None:
    await fail(wire, LOST)
    [group] = await errors_of(wire, [SLUG])
    assert await set_error_state(wire, SLUG, group.fingerprint, "muted", NOW + 1_000)
    await fail(wire, LOST, at=NOW + 999)
    [muted] = await errors_of(wire, [SLUG])
    assert (muted.state, muted.until, muted.count) == ("muted", NOW + 1_000, 2)
    wire.now = str(NOW + 1_000)
    assert [(one.state, one.until) for one in await errors_of(wire, [SLUG])] == [("open", 0)]
    await set_error_state(wire, SLUG, group.fingerprint, "muted")
    assert [(one.state, one.until) for one in await errors_of(wire, [SLUG])] == [("muted", 0)]


async def test_nothing_is_said_of_an_error_that_is_not_known(wire: Wire) -> None:
    assert not await set_error_state(wire, SLUG, "0" * LETTERS, "resolved")
    assert not await wire.call("EXISTS", keys.errors(SLUG))


async def test_a_minute_that_is_over_is_read_once(wire: Wire, store: "redis.Redis") -> None:
    for minute in (99, 100):
        store.hset(keys.minute(SLUG, minute), mapping={"started": 1, "e:abc": 2})
    assert [one.started for one in await minutes_of(wire, [SLUG], 0, NOW)] == [1, 1]
    store.hincrby(keys.minute(SLUG, 100), "started", 1)
    store.delete(keys.minute(SLUG, 99))
    with sent(store) as commands:
        again = await minutes_of(wire, [SLUG, "t-other"], NOW - 60_000, NOW)
    assert [(one.at, one.started) for one in again] == [(99 * 60_000, 1), (100 * 60_000, 2)]
    assert marks_in(again) == {SLUG: {"abc"}}
    assert sum(command.startswith("EVAL") for command in commands) <= 2, commands
    wire.now = str(NOW + 60_000)
    assert [one.started for one in await minutes_of(wire, [SLUG], NOW, NOW + 60_000)] == [2]
    store.hincrby(keys.minute(SLUG, 100), "started", 1)
    assert [one.started for one in await minutes_of(wire, [SLUG], NOW, NOW + 60_000)] == [2]
    wire.now = str(NOW)  # the clock is set back: what was over goes on
    assert [one.started for one in await minutes_of(wire, [SLUG], NOW, NOW)] == [3]
    store.delete(keys.minute(SLUG, 100))


async def test_errors_among_some_marks_are_those_of_all(wire: Wire, store: "redis.Redis") -> None:
    marks = [mark_of("Lost", f"f{n}") for n in range(120)]
    for n, mark in enumerate(marks):
        told = {mark: '{"name":"Lost"}', f"{mark} count": n, f"{mark} last": n, f"{mark} state": "resolved"}
        store.hset(keys.errors(SLUG), mapping=told)
    every = await errors_of(wire, [SLUG, "t-other"])
    assert len(every) == 120
    some = await errors_among(wire, {SLUG: {*marks[:5], "other"}, "t-other": set()})
    assert some == every[-5:]
    assert {one.fingerprint for one in await errors_among(wire, {SLUG: {*marks, "other"}})} == {*marks}
    store.delete(keys.errors(SLUG))
