"""Every cell of docs/state-machine.md's tables: what each script answers, and what it leaves alone."""

import asyncio
import json

import pytest

from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError, StoreError
from stepstream.bus.event import Outgoing
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.streams import ensure_group, fields_of, pending, reclaim, release, take
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import end
from stepstream.checkpoint.run.memo import MAX_STEPS, Failure
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.resolve import fire_timers, resolve
from stepstream.checkpoint.run.save import note_open, save
from stepstream.checkpoint.run.start import StartReply, StartRequest, load_memos, start
from stepstream.checkpoint.run.suspend import suspend
from tests.scripts import all_scripts

SLUG = "shop-f"
RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def _handler(ctx, step):
    return None


app = Bus("shop")
function = app.function("f", on="a")(_handler)


def asked(**changes) -> StartRequest:
    values = {"run": RUN, "turn": 1, "entry": "event|a|1-0", "owner": "", "consumer": "w.0", "fence": "f1",
              "event": b'{"id":"e1","name":"a","data":{},"ts":1}', "source": "event", "queued": 1} | changes  # fmt: skip
    return StartRequest(**values)


async def begin(wire: Wire, suspects: int = 1, **changes):
    return (await started(wire, [asked(**changes)], suspects))[0]


async def started(wire: Wire, several: list[StartRequest], suspects: int = 1) -> list[StartReply]:
    answered: asyncio.Future[list[StartReply]] = asyncio.get_running_loop().create_future()

    def then(answers: list[StartReply], error: BaseException | None) -> None:
        answered.set_exception(error) if error else answered.set_result(answers)

    start(wire, function, several, suspects, "", then)
    return await answered


def owned(fence: str = "f1", turn: int = 1) -> Owned:
    return Owned(SLUG, RUN, turn, fence)


async def hash_of(wire: Wire) -> dict[str, str]:
    flat = await wire.call("HGETALL", keys.run(SLUG, RUN))
    return {name.decode(): value.decode() for name, value in fields_of(flat).items()}


async def dump(wire: Wire) -> dict[bytes, bytes]:
    names = await wire.call("KEYS", "bus:fn:*")
    return {name: await wire.call("DUMP", name) for name in names}


async def suspended(wire: Wire, due: str = "+0") -> None:
    await begin(wire)
    assert (await suspend(wire, owned(), known=0, due=due)).word == "mine"


async def queued(wire: Wire) -> str:
    """Bring the run to queued in turn 2; return its queue entry."""
    await suspended(wire)
    assert (await fire_timers(wire, SLUG)).added == 1
    return (await hash_of(wire))["entry"]


# -- start -----------------------------------------------------------------------------------------------------------


async def test_an_event_entry_without_a_run_makes_one(wire: Wire) -> None:
    answer = await begin(wire)
    assert (answer.word, answer.turn) == ("go", 1)
    found = await hash_of(wire)
    assert (found["status"], found["entry"], found["worker"], found["fence"]) == ("running", "event|a|1-0", "w.0", "f1")
    assert await wire.call("ZRANGE", keys.runs(SLUG, "running"), 0, -1) == [RUN.encode()]


async def test_a_queue_entry_of_no_run_is_gone(wire: Wire) -> None:
    assert (await begin(wire, event=b"", entry="queue|1-0", turn=2)).word == "gone"
    assert await wire.call("EXISTS", keys.run(SLUG, RUN)) == 0


async def test_a_redelivery_loads_what_is_known(wire: Wire) -> None:
    await begin(wire)
    await save(wire, owned(), "one", "run", data=b"1")
    answer = await begin(wire, fence="f2", consumer="v.0")
    assert answer.word == "go"
    assert answer.memos["one"].n == 1
    assert (await save(wire, owned("f1"), "two", "run", data=b"2")).word == "lost"


async def test_a_stale_event_entry_never_starts_the_turn_of_a_run_that_waits(wire: Wire) -> None:
    """A crash between suspend and acknowledge redelivers the entry while the run waits."""
    await suspended(wire, "+60000")
    before = await dump(wire)
    assert (await begin(wire, fence="f2")).word == "stale"
    assert await dump(wire) == before


async def test_two_queue_entries_of_one_turn_start_it_once(wire: Wire) -> None:
    entry = await queued(wire)
    assert (await begin(wire, event=b"", entry="queue|9-9", turn=2, fence="f2")).word == "elsewhere"
    assert (await begin(wire, event=b"", entry=entry, turn=2, fence="f3")).word == "go"
    assert (await begin(wire, event=b"", entry="queue|9-9", turn=2, fence="f4")).word == "elsewhere"


async def test_a_waiting_run_whose_timer_was_rolled_back_goes_on(wire: Wire) -> None:
    await suspended(wire, "+60000")
    assert (await begin(wire, event=b"", entry="queue|9-9", turn=2, fence="f2")).word == "go"


async def test_an_entry_of_a_later_turn_goes_on_with_the_runs_own(wire: Wire) -> None:
    """The server rolled back: the entry knows more than the run."""
    await begin(wire)
    answer = await begin(wire, event=b"", entry="queue|9-9", turn=3, fence="f2")
    assert (answer.word, answer.turn) == ("go", 1)


async def test_an_ended_run_is_not_started_again(wire: Wire) -> None:
    await begin(wire)
    await end(wire, owned(), "completed", output=b"1")
    before = await dump(wire)
    assert (await begin(wire, fence="f2")).word == "ended"
    assert await dump(wire) == before


async def test_start_ends_a_run_whose_cancel_is_set(wire: Wire) -> None:
    await begin(wire)
    await wire.call("HSET", keys.run(SLUG, RUN), "cancel", '{"name":"cancelled","message":"asked"}')
    assert (await begin(wire, fence="f2")).word == "cancelled"
    assert (await hash_of(wire))["status"] == "cancelled"
    assert await wire.call("PTTL", keys.run(SLUG, RUN)) > 0


async def test_only_a_claim_from_the_worker_that_ran_it_counts_as_a_crash(wire: Wire) -> None:
    """Not @released, not own strangers, not a repeated start, not a worker the run was never with."""
    await begin(wire)
    assert (await begin(wire, fence="f2")).crashes == 0
    assert (await begin(wire, fence="f3", owner="other.0", consumer="v.0")).crashes == 0
    assert (await begin(wire, fence="f4", owner="v.0", consumer="u.0")).crashes == 1


async def test_a_new_memo_sets_crashes_to_nought(wire: Wire) -> None:
    await begin(wire)
    await begin(wire, fence="f2", owner="w.0", consumer="v.0")
    await save(wire, owned("f2"), "one", "run", data=b"1")
    assert (await hash_of(wire))["crashes"] == "0"


async def test_a_suspect_is_not_started_beside_another_and_its_wait_is_never_counted(wire: Wire) -> None:
    await begin(wire)
    await begin(wire, fence="f2", owner="w.0", consumer="v.0")
    assert (await begin(wire, suspects=0, fence="f3", owner="v.0", consumer="u.0")).word == "suspect"
    assert (await begin(wire, suspects=0, fence="f4", owner="u.0", consumer="t.0")).word == "suspect"
    answer = await begin(wire, suspects=1, fence="f5", owner="t.0", consumer="s.0")
    assert (answer.word, answer.crashes) == ("go", 2)


async def test_the_fifth_crash_ends_the_run(wire: Wire) -> None:
    await begin(wire)
    words = [
        (await begin(wire, fence=f"x{n}", owner=f"{'w' if n == 0 else n - 1}.0", consumer=f"{n}.0")).word
        for n in range(5)
    ]
    assert words == ["go", "go", "go", "go", "crashed"]
    found = await hash_of(wire)
    assert found["status"] == "failed"
    assert json.loads(found["error"])["name"] == "worker_crash"


# -- save ------------------------------------------------------------------------------------------------------------


async def test_the_first_memo_stands(wire: Wire) -> None:
    """HSETNX, not HSET: two saves under one fence."""
    await begin(wire)
    assert (await save(wire, owned(), "one", "run", data=b"1")).word == "mine"
    again = await save(wire, owned(), "one", "run", data=b"2")
    assert again.word == "there"
    assert again.memo is not None
    assert bytes(again.memo.data) == b"1"


async def test_memos_are_numbered_in_the_order_they_were_saved(wire: Wire) -> None:
    await begin(wire)
    assert [(await save(wire, owned(), step, "run", data=b"0")).n for step in "abc"] == [1, 2, 3]


async def test_a_zombies_save_changes_no_key(wire: Wire) -> None:
    await begin(wire)
    await begin(wire, fence="f2", consumer="v.0")
    before = await dump(wire)
    assert (await save(wire, owned("f1"), "one", "run", data=b"1")).word == "lost"
    assert (await note_open(wire, owned("f1"), "one", "sleep", due="+5")).word == "lost"
    assert (await suspend(wire, owned("f1"), known=0, due="+5")).word == "lost"
    assert await end(wire, owned("f1"), "completed") == b"lost"
    assert await dump(wire) == before


async def test_a_call_of_an_earlier_turn_is_over_also_when_it_repeats_itself(wire: Wire) -> None:
    """A retried suspend is answered by its own success: over, not lost."""
    await suspended(wire)
    assert (await suspend(wire, owned(), known=0, due="+5")).word == "over"
    assert (await save(wire, owned(), "one", "run", data=b"1")).word == "over"


async def test_a_rolled_back_run_is_lost_or_absent_never_over(wire: Wire) -> None:
    """`over` would acknowledge an entry that nobody else has."""
    assert (await save(wire, owned(), "one", "run", data=b"1")).word == "absent"
    await begin(wire)
    assert (await save(wire, owned("f9", turn=2), "one", "run", data=b"1")).word == "lost"
    assert await end(wire, owned("f1", turn=2), "completed") == b"lost"


async def test_a_run_holds_a_thousand_steps_and_no_more(wire: Wire) -> None:
    await begin(wire)
    for n in range(MAX_STEPS):
        await wire.call("HSET", keys.steps(SLUG, RUN), f"s{n}", f'{{"n":{n + 1},"kind":"run"}}')
    answer = await save(wire, owned(), "one", "run", data=b"1")
    assert (answer.word, answer.full) == ("full", "steps")
    assert await wire.call("HLEN", keys.steps(SLUG, RUN)) == MAX_STEPS


async def test_a_run_holds_32_mebibytes_of_big_results_and_no_more(wire: Wire) -> None:
    await begin(wire)
    big = b'"' + b"x" * (4 * 1024 * 1024 - 10) + b'"'
    words = [(await save(wire, owned(), f"s{n}", "run", data=big)).word for n in range(9)]
    assert words == ["mine"] * 8 + ["full"]


async def test_payloads_pass_through_scripts_unharmed(wire: Wire) -> None:
    """cjson corrupts big integers and empty arrays."""
    await begin(wire)
    data = b'{"n":12345678901234567890,"e":[],"f":1.0,"u":"\xe2\x82\xac\\u0000"}'
    await save(wire, owned(), "one", "run", data=data)
    memo = (await begin(wire, fence="f2")).memos["one"]
    assert bytes(memo.data) == data


# -- open and suspend ------------------------------------------------------------------------------------------------


async def test_a_wait_that_is_noted_keeps_its_first_due(wire: Wire) -> None:
    await begin(wire)
    wire.now = "1000"
    first = await note_open(wire, owned(), "nap", "sleep", due="+500")
    wire.now = "1400"
    again = await note_open(wire, owned(), "nap", "sleep", due="+500")
    assert (first.due, again.due, again.now) == (1500, 1500, 1400)


async def test_a_failed_attempt_replaces_the_one_before(wire: Wire) -> None:
    await begin(wire)
    wire.now = "1000"
    await note_open(wire, owned(), "one", "run", due="+5", attempt=1, error=Failure("E", "no"))
    noted = await note_open(wire, owned(), "one", "run", due="+9", attempt=2, error=Failure("E", "no"))
    assert noted.due == 1009
    opened = (await begin(wire, fence="f2")).open["one"]
    assert (opened.attempt, opened.error) == (2, Failure("E", "no"))


async def test_suspend_answers_what_was_resolved_and_does_not_suspend(wire: Wire) -> None:
    """Or the memo is there, the run suspends, and nobody wakes it."""
    await begin(wire)
    assert await resolve(wire, SLUG, RUN, "approval", "event", b'{"ok":true}') == "running"
    answer = await suspend(wire, owned(), known=0, due="+60000")
    assert answer.word == "wake"
    assert list(answer.resolved) == ["approval"]
    assert (await hash_of(wire))["status"] == "running"
    assert (await suspend(wire, owned(), known=1, due="+60000")).word == "mine"


async def test_save_tells_what_was_resolved_meanwhile(wire: Wire) -> None:
    await begin(wire)
    await resolve(wire, SLUG, RUN, "approval", "event", b"1")
    saved = await save(wire, owned(), "other", "run", data=b"2", known=0)
    assert saved.n == 2
    assert set(saved.resolved) == {"approval"}


async def test_a_failed_handler_suspends_with_its_attempt_and_error(wire: Wire) -> None:
    await begin(wire)
    await suspend(wire, owned(), known=0, due="+5", attempt=1, error=Failure("E", "no"))
    found = await hash_of(wire)
    assert (found["status"], found["turn"], found["attempt"]) == ("waiting", "2", "1")
    assert json.loads(found["error"])["message"] == "no"


# -- resolve and timers ----------------------------------------------------------------------------------------------


async def test_resolve_wakes_a_run_that_waits_once(wire: Wire) -> None:
    await suspended(wire, "+60000")
    assert await resolve(wire, SLUG, RUN, "approval", "event", b"1") == "waiting"
    assert await resolve(wire, SLUG, RUN, "approval", "event", b"2") == "there"
    assert await resolve(wire, SLUG, RUN, "other", "event", b"3") == "queued"
    assert await wire.call("XLEN", keys.queue(SLUG)) == 1
    assert await wire.call("ZCARD", keys.timers(SLUG)) == 0


async def test_resolve_wakes_a_run_whose_record_has_lost_its_turn(wire: Wire) -> None:
    """The script failed, so whoever brought the event tried for ever."""
    await begin(wire)
    await wire.call("HDEL", keys.run(SLUG, RUN), "turn")
    assert await resolve(wire, SLUG, RUN, "approval", "event", b"1") == "running"


async def test_resolve_of_an_ended_run_is_gone(wire: Wire) -> None:
    assert await resolve(wire, SLUG, RUN, "approval", "event", b"1") == "gone"
    await begin(wire)
    await end(wire, owned(), "completed")
    assert await resolve(wire, SLUG, RUN, "approval", "event", b"1") == "gone"


async def test_a_timer_fires_when_due_and_not_before(wire: Wire) -> None:
    wire.now = "1000"
    await suspended(wire, "+500")
    wire.now = "1499"
    fired = await fire_timers(wire, SLUG)
    assert (fired.added, fired.next_ms) == (0, 1)
    wire.now = "1500"
    assert (await fire_timers(wire, SLUG)).added == 1
    assert (await fire_timers(wire, SLUG)).added == 0
    found = await hash_of(wire)
    assert found["status"] == "queued"
    assert found["entry"].startswith("queue|")


async def test_a_timer_of_a_turn_that_is_over_is_dropped(wire: Wire) -> None:
    await queued(wire)
    await wire.call("ZADD", keys.timers(SLUG), 1, f"{RUN}:1")
    assert (await fire_timers(wire, SLUG)).added == 0
    assert await wire.call("ZCARD", keys.timers(SLUG)) == 0


async def test_an_ended_run_expires_with_its_steps_and_leaves_nothing_open(wire: Wire) -> None:
    await begin(wire)
    await save(wire, owned(), "one", "run", data=b"1")
    await note_open(wire, owned(), "two", "run", due="")
    assert await end(wire, owned(), "failed", error=Failure("E", "no")) == b"mine"
    assert await end(wire, owned(), "completed", output=b"1") == b"over"
    assert await wire.call("PTTL", keys.run(SLUG, RUN)) > 0
    assert await wire.call("PTTL", keys.steps(SLUG, RUN)) > 0
    assert await wire.call("EXISTS", keys.open_steps(SLUG, RUN)) == 0
    assert (await hash_of(wire))["status"] == "failed"


# -- claim, take, release --------------------------------------------------------------------------------------------


@pytest.fixture
async def stream(wire: Wire) -> str:
    name = keys.events("a")
    await ensure_group(wire, name, SLUG, 0)
    for _ in range(3):
        await wire.call("XADD", name, "*", "id", "e", "name", "a", "data", "{}")
    await wire.call("XREADGROUP", "GROUP", SLUG, "dead.0", "COUNT", 3, "STREAMS", name, ">")
    return name


LEASE_MS = 500
SURE = 2**45


async def claims(wire: Wire, stream: str, me: str, sure: int = SURE) -> list[str]:
    workers = keys.events_workers("a")
    taken = await reclaim(wire, stream, workers, SLUG, me, lease_ms=LEASE_MS, count=10, sure=sure)
    return [owner for _, owner, _ in taken]


async def lease(wire: Wire, consumer: str, ms: int, begins: int = 1) -> int:
    return await wire.script(all_scripts()["lease_renew"], [keys.events_workers("a")], consumer, ms, begins)


@pytest.mark.parametrize("clock_s", [-3_600, 0, 3_600], ids=["back", "as it was", "forth"])
async def test_a_repeated_publish_finds_its_first_try_though_the_clock_was_set(wire: Wire, clock_s: int) -> None:
    name, now = keys.events("a"), 10_000_000
    await wire.call("XADD", name, f"{now}-0", "id", "e1", "data", "{}")
    for n in range(60):
        await wire.call("XADD", name, f"{now}-{n + 1}", "id", f"other-{n}", "data", "{}")
    since = now + clock_s * 1_000 - 60_000
    word, entry = await wire.script(all_scripts()["event_publish_again"], [name], since, "e1", "id", "e1", "data", "{}")
    assert (word, entry) == (b"there", b"%d-0" % now)
    assert (await wire.script(all_scripts()["event_publish_again"], [name], since, "e2", "id", "e2", "data", "{}"))[
        0
    ] == b"stored"


async def test_a_group_is_given_what_comes_after_the_clock_was_set_back(wire: Wire) -> None:
    """A trigger is registered at 5000, the clock is set back, and the first event is named 3000-0."""
    name = keys.events("a")
    await wire.call("XADD", name, "2000-0", "id", "old")
    await ensure_group(wire, name, SLUG, 5_000)
    await wire.call("XADD", name, "3000-0", "id", "new")
    read = await wire.call("XREADGROUP", "GROUP", SLUG, "w.0", "STREAMS", name, ">")
    assert [entry for entry, _ in read[0][1]] == [b"3000-0"]


async def test_what_a_worker_under_a_lease_has_is_left_alone(wire: Wire, stream: str) -> None:
    await lease(wire, "dead.0", 2_000)
    assert await claims(wire, stream, "me.0") == []


async def test_what_a_worker_without_a_lease_has_is_claimed_once_and_its_consumer_removed(
    wire: Wire, stream: str
) -> None:
    assert await claims(wire, stream, "me.0") == ["dead.0"] * 3
    assert await claims(wire, stream, "other.0") == ["me.0"] * 3, "me.0 has no lease either"
    rows = await wire.call("XINFO", "CONSUMERS", stream, SLUG)
    assert [row[1] for row in rows] == [b"other.0"]


async def test_a_clock_that_was_set_forth_ends_nobodys_lease(wire: Wire, stream: str) -> None:
    wire.now = "1000"
    await lease(wire, "dead.0", LEASE_MS)
    wire.now = "3601000"
    assert await claims(wire, stream, "me.0", sure=2_000) == [], "who claims does not know of the step yet"
    assert await claims(wire, stream, "me.0", sure=0) == [], "it does, and waits until all have renewed"
    assert await lease(wire, "dead.0", LEASE_MS, begins=0) == 3_601_000, "it lives, and has lost nothing"
    assert await claims(wire, stream, "me.0", sure=3_602_000) == []
    wire.now = "3601501"
    assert await claims(wire, stream, "me.0", sure=3_602_000) == ["dead.0"] * 3, "it has died since"


async def test_a_lease_far_ahead_of_a_clock_that_was_set_back_ends_in_one_lease(wire: Wire, stream: str) -> None:
    wire.now = "3600000"
    await lease(wire, "dead.0", LEASE_MS)
    wire.now = "1000"
    assert await claims(wire, stream, "me.0") == []
    wire.now = "1501"
    assert await claims(wire, stream, "me.0") == ["dead.0"] * 3


async def test_a_lease_that_was_found_ended_does_not_come_back(wire: Wire, stream: str) -> None:
    wire.now = "1000"
    await lease(wire, "dead.0", LEASE_MS)
    wire.now = "1501"
    assert await claims(wire, stream, "me.0") == ["dead.0"] * 3
    assert await lease(wire, "dead.0", LEASE_MS, begins=0) == 0


async def test_released_entries_are_claimed_at_once(wire: Wire, stream: str) -> None:
    await lease(wire, "dead.0", 2_000)
    ids = await pending(wire, stream, SLUG, "dead.0", 10)
    await release(wire, stream, SLUG, "dead.0", ids[:2])
    await release(wire, stream, SLUG, "stranger.0", ids[2:])
    assert await claims(wire, stream, "me.0") == ["@released"] * 2


async def test_strangers_are_read_again_unless_they_are_anothers_by_now(wire: Wire, stream: str) -> None:
    ids = await pending(wire, stream, SLUG, "dead.0", 10)
    assert [entry for entry, _ in await take(wire, stream, SLUG, "dead.0", ids)] == ids
    await claims(wire, stream, "me.0")
    assert await take(wire, stream, SLUG, "dead.0", ids) == []


async def test_renewing_never_creates_a_lease(wire: Wire) -> None:
    """A zombie must not revive itself; but what nobody has looked at is still its own."""
    wire.now = "1000"
    assert await lease(wire, "w.0", 500, begins=0) == 0
    assert await lease(wire, "w.0", 500) == 1_000
    wire.now = "1400"
    assert await lease(wire, "w.0", 500, begins=0) == 1_400
    wire.now = "1901"
    assert await lease(wire, "w.0", 500, begins=0) == 1_901, "it has ended, and nobody has taken anything"
    await wire.call("ZREM", keys.events_workers("a"), "w.0")
    assert await lease(wire, "w.0", 500, begins=0) == 0
    assert await wire.call("ZCARD", keys.events_workers("a")) == 0


# -- publish ---------------------------------------------------------------------------------------------------------


async def test_a_callers_id_is_stored_once_per_name_and_answers_the_first_entry(wire: Wire) -> None:
    publisher = Publisher(wire)
    first, second, other = await publisher.publish(
        [
            Outgoing("e1", "a", b"{}", own_id=True),
            Outgoing("e1", "a", b'{"x":1}', own_id=True),
            Outgoing("e1", "b", b"{}", own_id=True),
        ]
    )
    assert (second.entry, second.duplicate) == (first.entry, True)
    assert not other.duplicate
    assert await wire.call("XLEN", keys.events("a")) == 1
    assert await wire.call("PTTL", keys.seen("a", "e1")) > 86_000_000


async def test_publishing_goes_on_after_the_server_forgot_its_scripts(wire: Wire) -> None:
    publisher = Publisher(wire)
    await publisher.publish([Outgoing("e0", "a", b"{}", own_id=True)])
    await wire.call("SCRIPT", "FLUSH")
    await publisher.publish([Outgoing("e1", "a", b"{}", own_id=True)])
    assert await wire.call("XLEN", keys.events("a")) == 2


async def test_a_slug_has_one_owner(wire: Wire) -> None:
    """Bus("a-b")+"c" and Bus("a")+"b-c" would share group, queue and runs."""
    from stepstream.bus.errors import ConfigError
    from stepstream.checkpoint.registry import register

    await register(wire, Bus("a-b").function("c", on="x")(_handler))
    with pytest.raises(ConfigError, match="belongs to bus 'a-b'"):
        await register(wire, Bus("a").function("b-c", on="x")(_handler))


# -- many runs in one call -------------------------------------------------------------------------------------------


async def test_a_run_whose_keys_redis_refuses_stops_no_other_of_its_call(wire: Wire) -> None:
    """Starts, saves and ends of a tick share a call: each has an answer of its own."""
    ids = [f"01ARZ3NDEKTSV4RRFFQ69G5F{n:02}" for n in range(3)]
    await wire.call("SET", keys.run(SLUG, ids[1]), "no hash")
    answers = await started(wire, [asked(run=run) for run in ids])
    assert [answer.word for answer in answers] == ["go", "error", "go"]
    assert "WRONGTYPE" in answers[1].why

    await wire.call("SET", keys.steps(SLUG, ids[0]), "no hash")
    saves = [save(wire, Owned(SLUG, run, 1, "f1"), "one", "run", data=b"1") for run in ids]
    saved = await asyncio.gather(*saves, return_exceptions=True)
    assert [isinstance(one, BusError) for one in saved] == [True, True, False]

    ends = [end(wire, Owned(SLUG, run, 1, "f1"), "completed") for run in ids]
    ended = await asyncio.gather(*ends, return_exceptions=True)
    assert [isinstance(one, BusError) for one in ended] == [False, True, False]
    assert set(await wire.call("ZRANGE", keys.runs(SLUG, "completed"), 0, -1)) == {ids[0].encode(), ids[2].encode()}
    assert await wire.call("ZCARD", keys.runs(SLUG, "running")) == 0


async def test_steps_of_one_run_saved_in_one_tick_have_places_one_after_the_other(wire: Wire) -> None:
    await begin(wire)
    saved = await asyncio.gather(*(save(wire, owned(), f"s{n}", "run", data=b"1") for n in range(120)))
    assert [one.n for one in saved] == list(range(1, 121))


async def test_a_saves_caller_that_is_cancelled_takes_no_others_answer(wire: Wire) -> None:
    await begin(wire)
    first = asyncio.ensure_future(save(wire, owned(), "one", "run", data=b"1"))
    second = asyncio.ensure_future(save(wire, owned(), "two", "run", data=b"2"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).n == 2


async def test_calls_that_share_a_write_outlive_forgotten_scripts_and_a_cut_connection(wire: Wire) -> None:
    await begin(wire)
    await wire.call("SCRIPT", "FLUSH")
    saved = await asyncio.gather(*(save(wire, owned(), f"s{n}", "run", data=b"1") for n in range(3)))
    assert [one.word for one in saved] == ["mine"] * 3
    me = await wire.call("CLIENT", "ID")
    killed = wire.call("CLIENT", "KILL", "ID", me, "SKIPME", "no")
    again = await asyncio.gather(*(save(wire, owned(), f"t{n}", "run", data=b"1") for n in range(3)))
    assert {one.word for one in again} <= {"mine", "there"}
    await asyncio.gather(killed, return_exceptions=True)


# -- memos that are large ----------------------------------------------------------------------------------------------


async def large(wire: Wire, run: str, count: int) -> StartRequest:
    """Bring a run with so many results of 400 kB to its second turn."""
    mine = Owned(SLUG, run, 1, "f1")
    await begin(wire, run=run)
    for n in range(count):
        assert (await save(wire, mine, f"s{n}", "run", data=b'"' + b"x" * 400_000 + b'"')).n == n + 1
    assert (await suspend(wire, mine, known=count, due="+0")).word == "mine"
    assert (await fire_timers(wire, SLUG)).added == 1
    entry = (await wire.call("HGET", keys.run(SLUG, run), "entry")).decode()
    return asked(run=run, turn=2, entry=entry, event=b"", source="")


async def test_memos_that_are_large_are_no_part_of_starts_answer(wire: Wire) -> None:
    """In a script 20 MiB of them held the whole server up for 55 ms, and what came behind on the connection longer."""
    several = [await large(wire, f"01ARZ3NDEKTSV4RRFFQ69G5FA{n}", 2) for n in range(2)]
    several.append(await large(wire, "01ARZ3NDEKTSV4RRFFQ69G5FAX", 5))
    first, second, third = await started(wire, several)
    assert (first.word, first.to_load, sorted(first.memos)) == ("go", 0, ["s0", "s1"])
    assert (second.word, second.to_load, second.memos) == ("go", 2, {}), "all answers together are bounded"
    assert (third.word, third.to_load, third.memos) == ("go", 5, {})
    await load_memos(wire, SLUG, several[2].run, third)
    assert {name: memo.n for name, memo in third.memos.items()} == {f"s{n}": n + 1 for n in range(5)}
    assert third.to_load == 0
    assert {len(memo.data) for memo in third.memos.values()} == {400_002}


async def test_a_run_whose_memos_are_gone_is_not_run_without_them(wire: Wire) -> None:
    asks = await large(wire, RUN, 4)
    answer = (await started(wire, [asks]))[0]
    await wire.call("HDEL", keys.steps(SLUG, RUN), "s2")
    with pytest.raises(StoreError, match=f"1 memos of run {RUN} are gone"):
        await load_memos(wire, SLUG, RUN, answer)


async def test_a_step_that_is_finished_while_its_run_is_loaded_is_not_open(wire: Wire) -> None:
    await begin(wire)
    await note_open(wire, owned(), "w", "event", due="+60000")
    for n in range(4):
        await save(wire, owned(), f"s{n}", "run", data=b'"' + b"x" * 400_000 + b'"')
    await suspend(wire, owned(), known=4, due="+0")
    await fire_timers(wire, SLUG)
    answer = (await started(wire, [asked(turn=2, entry=(await hash_of(wire))["entry"], event=b"")]))[0]
    assert list(answer.open) == ["w"]
    assert await resolve(wire, SLUG, RUN, "w", "event", b"{}") == "running"
    await load_memos(wire, SLUG, RUN, answer)
    assert answer.memos["w"].n == 5
    assert not answer.open
