"""The attempts of a run that failed are kept, the last twenty, as long as their run."""

from stepstream import Context, Retry, Step
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.attempts import MOST, attempts_of
from stepstream.checkpoint.run.end import end
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.save import note_open, save
from stepstream.checkpoint.run.suspend import suspend
from tests.redis.test_scripts import RUN, SLUG, begin, owned
from tests.support import Lab


async def fails(wire: Wire, attempt: int, message: str = "no") -> None:
    failure = Failure("ValueError", message, "the stack", original='{"secret":1}')
    await note_open(wire, owned(), "pay", "run", due="+5", attempt=attempt, error=failure, since="-7", took_ms=7)


async def test_each_attempt_that_failed_is_kept_with_when_it_was(wire: Wire) -> None:
    await begin(wire)
    for attempt in (1, 2):
        wire.now = str(10_000 * attempt)
        await fails(wire, attempt, f"no {attempt}")
    await save(wire, owned(), "pay", "run", data=b"1", attempts=3, opened=True)
    found = await attempts_of(wire, SLUG, RUN)
    assert [(one.step, one.attempt, one.began, one.ended, one.error.told()) for one in found] == [
        ("pay", 1, 9_993, 10_000, "ValueError: no 1"),
        ("pay", 2, 19_993, 20_000, "ValueError: no 2"),
    ]
    assert [(one.error.stack, one.error.original) for one in found] == [("the stack", "")] * 2


async def test_the_repeat_of_a_call_whose_answer_was_lost_is_no_attempt(wire: Wire) -> None:
    await begin(wire)
    for now in (10_000, 10_500):
        wire.now = str(now)
        await fails(wire, 1)
    assert [one.ended for one in await attempts_of(wire, SLUG, RUN)] == [10_000]


async def test_the_newest_twenty_are_kept_and_of_long_texts_a_part(wire: Wire) -> None:
    await begin(wire)
    long = Failure("ValueError", "m" * 8_000, "a" * 4_000 + "z" * 4_000)
    for attempt in range(1, 26):
        await note_open(wire, owned(), "pay", "run", due="+5", attempt=attempt, error=long, took_ms=1)
    found = await attempts_of(wire, SLUG, RUN)
    assert [one.attempt for one in found] == list(range(6, 26))
    assert len(found) == MOST
    assert found[0].error == Failure("ValueError", "m" * 1_000, "z" * 4_000)


async def test_attempts_of_the_code_between_steps_are_kept_and_a_wait_for_a_deploy_is_none(wire: Wire) -> None:
    await begin(wire)
    await suspend(wire, owned(), known=0, due="+0", attempt=1, error=Failure("KeyError", "x"), failed=(1, 3))
    [one] = await attempts_of(wire, SLUG, RUN)
    assert (one.step, one.attempt, one.ended - one.began, one.error.name) == ("", 1, 3, "KeyError")
    await wire.call("DEL", keys.run(SLUG, RUN), keys.attempts(SLUG, RUN))
    await begin(wire)
    await suspend(wire, owned(), known=0, due="+0", attempt=0, error=Failure("code_changed", "x"))
    assert await attempts_of(wire, SLUG, RUN) == []


async def test_attempts_expire_with_their_run(wire: Wire) -> None:
    await begin(wire)
    await fails(wire, 1)
    assert await wire.call("PTTL", keys.attempts(SLUG, RUN)) == -1
    await end(wire, owned(), "completed", leaves="")
    assert 0 < await wire.call("PTTL", keys.attempts(SLUG, RUN)) <= await wire.call("PTTL", keys.run(SLUG, RUN)) + 1_000


async def test_a_key_of_another_type_by_hand_stops_no_attempt(wire: Wire) -> None:
    await begin(wire)
    await wire.call("SET", keys.attempts(SLUG, RUN), "x")
    await fails(wire, 1)
    assert (await begin(wire, fence="f2")).open["pay"].attempt == 1


async def test_a_function_that_fails_and_is_tried_again_leaves_each_attempt(lab: Lab) -> None:
    count = 0

    async def pay() -> str:
        nonlocal count
        count += 1
        if count < 3:
            raise ValueError(f"no {count}")
        return "paid"

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.001))
    async def f(ctx: Context[dict], step: Step) -> None:
        nonlocal count
        await step.run("pay", pay)
        count += 1
        if count == 4:
            raise KeyError("between steps")

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    found = await attempts_of(lab.wire, run.function, run.id)
    assert [(one.step, one.attempt, one.error.name) for one in found] == [
        ("pay", 1, "ValueError"),
        ("pay", 2, "ValueError"),
        ("", 1, "KeyError"),
    ]
    assert all(one.began <= one.ended for one in found)
    assert "in pay" in found[0].error.stack
