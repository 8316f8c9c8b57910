"""Crashes: a run is charged with its worker's death; a worker that was only stopped takes the charge back."""

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import CAUSES, timed_out, worker_crash
from stepstream.checkpoint.run.save import save
from stepstream.checkpoint.run.uncharge import uncharge
from tests.redis.test_scripts import RUN, SLUG, begin, hash_of, owned


async def test_a_worker_that_comes_back_takes_back_the_crash_its_run_was_charged_with(wire: Wire) -> None:
    await begin(wire, consumer="stopped.0")
    await begin(wire, owner="stopped.0", consumer="w.0", fence="f2")
    assert (await hash_of(wire))["crashes"] == "1"
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 1
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 0
    assert ((await hash_of(wire))["crashes"], (await hash_of(wire))["charged"]) == ("0", "")


async def test_a_worker_that_comes_back_before_its_run_is_begun_elsewhere_is_not_blamed(wire: Wire) -> None:
    await begin(wire, consumer="stopped.0")
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 0
    assert (await begin(wire, owner="stopped.0", consumer="w.0", fence="f2")).word == "go"
    assert "crashes" not in await hash_of(wire)


async def test_only_its_own_charge_is_taken_back(wire: Wire) -> None:
    await begin(wire, consumer="dead.0")
    await begin(wire, owner="dead.0", consumer="stopped.0", fence="f2")
    await begin(wire, owner="stopped.0", consumer="w.0", fence="f3")
    assert await uncharge(wire, SLUG, "stopped.1", [RUN]) == 0
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 1
    found = await hash_of(wire)
    assert (found["crashes"], found["charged"]) == ("1", "dead.0\n")


async def test_a_new_memo_wipes_charges_and_nothing_is_taken_back_of_later_ones(wire: Wire) -> None:
    await begin(wire, consumer="stopped.0")
    await begin(wire, owner="stopped.0", consumer="w.0", fence="f2")
    await save(wire, owned("f2"), "s", "run", data=b"1")
    await begin(wire, owner="w.0", consumer="v.0", fence="f3")
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 0
    assert (await hash_of(wire))["crashes"] == "1"


async def test_a_run_that_has_ended_or_is_gone_stays_as_it_is(wire: Wire) -> None:
    assert await uncharge(wire, SLUG, "stopped.0", [RUN]) == 0
    assert not await wire.call("EXISTS", keys.run(SLUG, RUN))


async def test_a_script_says_why_it_ends_a_run_in_the_words_of_a_worker(wire: Wire) -> None:
    async def said(text: str, *given: str | float) -> bytes:
        values = ", ".join(repr(one) for one in given)
        return await wire.call("EVAL", f"return string.format(ARGV[1], {values})", 0, CAUSES[text])

    for ms in (1, 1_500, 2_000, 86_400_000, 366 * 86_400_000):
        assert await said("timed_out", "start", ms / 1_000) == codec.encode(timed_out("start", ms))
    assert await said("worker_crash", 5) == codec.encode(worker_crash(5))
    assert worker_crash(5).message == "the worker process died 5 times in a row while it ran this"
