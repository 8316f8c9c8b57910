"""A recorded run against new code: what CI is told before a deploy, for each case of docs/living-with-code-changes.md."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepstream import Bus, ConfigError, Context, EventData, Fetched, NonRetriable, Step
from stepstream.bus.values import codec
from stepstream.testing import Harness, Recording, Replayed, recordings, replay


class Ordered(EventData, name="shop/ordered"):
    order_id: str


class Receipt(msgspec.Struct):
    number: int


def charge() -> Receipt:
    raise AssertionError("no body runs in a replay")


def never(*_: object) -> Any:
    raise AssertionError("no body runs in a replay")


async def v1(ctx: Context[Ordered], step: Step) -> str:
    receipt = await step.run("charge", charge)
    label = await step.run("print", never)
    await step.sleep("nap", "7d")
    await step.run("mail", never)
    return f"{receipt.number} {label}"


def shop(handler: Any, id: str = "ship") -> Bus:
    app = Bus("shop")
    app.function(id, on=Ordered, retries=3)(handler)
    return app


async def recorded(handler: Any, *, finish: bool = False) -> Recording:
    async with Harness(shop(handler)) as bus:
        bus.stub("charge", Receipt(7))
        bus.stub("print", "label")
        bus.stub("mail")
        await bus.send(Ordered("o1"))
        if finish:
            await bus.finish()
        return codec.decode_as(codec.encode(await bus.record()), Recording)  # as from a file


async def body_changed(ctx: Context[Ordered], step: Step) -> str:
    receipt = await step.run("charge", charge)
    label = await step.run("print", lambda: "another")
    await step.sleep("nap", "1d")
    await step.run("mail", never)
    return f"{receipt.number} {label}"


async def renamed(ctx: Context[Ordered], step: Step) -> str:
    receipt = await step.run("charge-card", charge)
    await step.run("print", never)
    await step.sleep("nap", "7d")
    return f"{receipt.number}"


async def removed(ctx: Context[Ordered], step: Step) -> str:
    await step.run("charge", charge)
    await step.sleep("nap", "7d")
    return ""


async def added_in_front(ctx: Context[Ordered], step: Step) -> str:
    await step.run("look", never)
    return await v1(ctx, step)


async def added_beside(ctx: Context[Ordered], step: Step) -> str:
    receipt = await step.run("charge", charge)
    await step.run("print", never)
    await asyncio.gather(step.sleep("nap", "7d"), step.run("look", never))
    return f"{receipt.number}"


async def moved(ctx: Context[Ordered], step: Step) -> str:
    await step.run("print", never)
    receipt = await step.run("charge", charge)
    await step.sleep("nap", "7d")
    return f"{receipt.number}"


async def nap_is_an_event(ctx: Context[Ordered], step: Step) -> str:
    await step.run("charge", charge)
    await step.run("print", never)
    return str(await step.wait_for_event("nap", "shop/woken", timeout="7d"))


async def print_is_a_sleep(ctx: Context[Ordered], step: Step) -> str:
    await step.run("charge", charge)
    await step.sleep("print", "1d")
    await step.sleep("nap", "7d")
    return ""


class Bill(msgspec.Struct):
    number: int
    currency: str


def bill() -> Bill:
    raise AssertionError("no body runs in a replay")


async def another_type(ctx: Context[Ordered], step: Step) -> str:
    receipt = await step.run("charge", bill)
    await step.run("print", never)
    await step.sleep("nap", "7d")
    return receipt.currency


async def nothing_left(ctx: Context[Ordered], step: Step) -> str:
    return "nothing"


async def raises(ctx: Context[Ordered], step: Step) -> str:
    await step.run("charge", charge)
    raise NonRetriable("not any more")


async def another_event(ctx: Context[Any], step: Step) -> str:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("handler", "verdict", "told"),
    [
        (v1, "waits", "it waits in 'nap', as it did"),
        (body_changed, "waits", "it waits in 'nap', as it did"),
        (renamed, "stranded", "the code does not ask for 'charge', 'nap', 'print', which the run has begun, but for 'charge-card', which it has not done (is 'charge-card' the new name of 'charge'?). Keep each step"),
        (removed, "stranded", "stranded: the code does not ask for 'print', which the run has begun. Keep"),
        (added_in_front, "stranded", "but for 'look', which it has not done"),
        (added_beside, "goes on", "it goes on with 'look'"),
        (moved, "waits", "step 'charge' is now called after 'print'; each keeps its result"),
        (nap_is_an_event, "stranded", "recorded step 'nap' was of kind 'sleep', and the code calls it as another"),
        (print_is_a_sleep, "stranded", "recorded step 'print' was of kind 'run'"),
        (another_type, "failed", "the recorded result of step 'charge' no longer fits the type the step returns now: Object missing required field `currency`"),
        (nothing_left, "stranded", "the code does not ask for 'charge', 'nap', 'print', which"),
        (raises, "failed", "it fails after step 'charge': NonRetriable: not any more"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)  # fmt: skip
async def test_a_waiting_run_against_new_code(handler: Any, verdict: str, told: str) -> None:
    run = await recorded(v1)
    for step, memo in run.steps.items():  # the harness's clock stands still, and steps took time
        run.steps[step] = msgspec.structs.replace(memo, started=memo.n * 1_000, ended=memo.n * 1_000 + 900)
    found = replay(shop(handler), run)
    assert (found.verdict, told in found.told) == (verdict, True), found.told
    assert found.is_fit == (verdict in ("waits", "goes on"))
    if not found.is_fit:
        with pytest.raises(AssertionError, match=r"run \w+ of shop-ship: "):
            found.check()


async def test_an_ended_run_completes_with_its_output_or_tells_the_other() -> None:
    run = await recorded(v1, finish=True)
    assert run.status == "completed"
    same = replay(shop(v1), run)
    assert (same.verdict, same.told) == ("completed", "it completes with the output it had")

    async def longer(ctx: Context[Ordered], step: Step) -> str:
        first = await v1(ctx, step)
        return f"{first} {await step.run('thank', never)}"

    assert replay(shop(longer), run).next == ("thank",)

    async def louder(ctx: Context[Ordered], step: Step) -> str:
        return (await v1(ctx, step)).upper()

    other = replay(shop(louder), run)
    assert (other.verdict, other.told) == (
        "differs",
        'it completes with another output: "7 LABEL"; recorded was "7 label"',
    )


@pytest.mark.parametrize("output", ["label", 7, None, {"a": [1]}], ids=repr)
async def test_the_exported_file_of_a_completed_run_is_a_recording(tmp_path: Path, output: Any) -> None:
    async def returns(ctx: Context[Ordered], step: Step) -> Any:
        return output

    async with Harness(shop(returns)) as bus:
        await bus.send(Ordered("o1"))
        await bus.finish()
        (tmp_path / "done.json").write_bytes(codec.encode(await bus.record()))
    found = replay(shop(returns), tmp_path / "done.json")
    assert (found.verdict, found.told) == ("completed", "it completes with the output it had")


async def test_a_function_that_is_gone_strands_its_runs() -> None:
    found = replay(shop(v1, "ship-order"), await recorded(v1))
    assert (found.verdict, "(renamed to shop-ship-order?)" in found.told) == ("stranded", True), found.told


async def test_an_event_that_no_longer_fits() -> None:
    class OrderedNow(EventData, name="shop/ordered"):
        order_id: str
        currency: str

    app = Bus("shop")
    app.function("ship", on=OrderedNow)(another_event)
    found = replay(app, await recorded(v1))
    assert (found.verdict, "event_invalid: data.currency" in found.told) == ("failed", True), found.told


class Paid(EventData, name="shop/paid"):
    cents: int


class PaidAnyhow(EventData, name="shop/paid"):
    cents: int | str


def pays(kind: type[Any], *, sleeps: bool = True) -> Any:
    async def paid(ctx: Context[Ordered], step: Step) -> object:
        came = await step.wait_for_event("paid", kind, timeout="1h")
        if sleeps:
            await step.sleep("nap", "2h")
        return came and came.data.cents

    return paid


async def test_an_event_that_a_wait_took_and_that_no_longer_fits_fails_the_run_and_is_not_waited_for_anew() -> None:
    async with Harness(shop(pays(PaidAnyhow))) as bus:
        await bus.send(Ordered("o1"))
        await bus.send("shop/paid", {"cents": "many"})
        run = await bus.record()
    assert list(run.steps) == ["paid"]
    found = replay(shop(pays(Paid)), run)
    assert (found.verdict, found.is_fit) == ("failed", False)
    assert "event_invalid: step 'paid': data.cents: Expected `int`" in found.told


async def test_an_event_that_a_wait_has_ignored_stays_ignored_when_it_fits_a_later_type() -> None:
    async with Harness(shop(pays(Paid))) as bus:
        await bus.send(Ordered("o1"))
        await bus.send("shop/paid", {"cents": "many"})
        run = await bus.record()
    assert (list(run.steps), list(run.open)) == (["paid"], ["paid~1"])
    found = replay(shop(pays(PaidAnyhow, sleeps=False)), run)
    assert (found.verdict, found.told) == ("waits", "it waits in 'paid~1', as it did")


async def several(ctx: Context[Ordered], step: Step) -> list[Any]:
    rate = await step.fetch("rate", "http://127.0.0.1:1/never")
    await step.send_event("tell", "shop/told", {"n": 1})
    return list(
        await asyncio.gather(
            step.wait_for_event("event", "shop/paid", timeout="1d"),
            step.wait_for_signal("signal", "go", timeout="1d"),
            step.invoke("call", "shop-call", {}),
            step.run("flaky", never),
            step.sleep("nap", "2d"),
            asyncio.sleep(0, rate.status),
        )
    )


async def test_a_run_that_waits_in_steps_of_every_kind() -> None:
    app = shop(several)

    @app.function("call")
    async def call(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.sleep("long", "30d")

    async with Harness(app) as bus:
        bus.stub("rate", Fetched(200, {}, "{}"))
        bus.stub("flaky", raises=ConnectionError("closed"))
        await bus.send(Ordered("o1"))
        found = await bus.replay(await bus.record("shop-ship"))
        assert found.told == "it waits in 'event', 'signal', 'call', 'flaky', 'nap', as it did"


async def test_from_the_command_to_a_folder_that_ci_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = await recorded(v1)
    (tmp_path / "one.json").write_bytes(msgspec.json.encode(run))
    (path,) = recordings(tmp_path)

    def fits(path: Path) -> Replayed:
        return replay([shop(v1)], path)

    assert fits(path).verdict == "waits"
    with pytest.raises(ConfigError, match=r"there is no \*.json in"):
        recordings(tmp_path / "empty")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad.json is no recording: Object missing required field `run`"):
        fits(tmp_path / "bad.json")
    (tmp_path / "new.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(run, stepstream=2)))
    with pytest.raises(ConfigError, match="of format 2, this Stepstream reads 1"):
        fits(tmp_path / "new.json")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        fits(tmp_path / "none.json")
