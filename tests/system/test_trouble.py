"""Redis's trouble inside a run is never the author's exception: the turn waits or is given up, no attempt is used up."""

import gc
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack

import anyio
import msgspec
import pytest

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.errors import BusError, StoreError, StoreUnavailable
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import PublishFailed
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.failing import Failing
from tests.chaos.resp import CLIENTS, RespProxy
from tests.patience import PATIENT_S
from tests.support import Lab, eventually

READONLY = "READONLY You can't write against a read only replica."


@pytest.fixture(scope="module")
def one_proxy(server_url: str) -> Generator[RespProxy]:
    with RespProxy(int(server_url.rpartition(":")[2].partition("/")[0]), seed=2) as started:
        yield started


@pytest.fixture
def proxy(one_proxy: RespProxy) -> RespProxy:
    one_proxy.forget()
    return one_proxy


@pytest.fixture
async def lab(settings: Settings, wire: Wire, admin: Wire, checker: Wire, proxy: RespProxy) -> AsyncGenerator[Lab]:
    """Its workers reach the server through the proxy, the test reaches it directly."""
    async with AsyncExitStack() as stack:
        app = Bus("test")
        app.connect(wire)
        yield Lab(app, msgspec.structs.replace(settings, redis_url=proxy.url), wire, stack, admin, checker)


async def test_refusals_outside_any_list_fail_no_run_and_leave_nothing_pending(
    lab: Lab, proxy: RespProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """`-ERR max number of clients reached` failed runs, and ended the task that acknowledges ("never retrieved")."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        first = await step.run("one", lambda: 1)
        await step.sleep("nap", 0.01)
        return first

    worker = await lab.work()
    proxy.refuse([CLIENTS, "TOO_MANY_REQUESTS slow down", "PLEASEWAIT a word nobody knows"], share=0.3)
    for _ in range(20):
        await lab.send("a")
        await anyio.sleep(0.03)
    await anyio.sleep(0.4)
    proxy.mend()
    assert proxy.told().total() > 10
    runs = await lab.ended(20)
    assert {run.status for run in runs} == {"completed"}
    assert {run.attempt for run in runs} == {0}
    await lab.idle()
    await lab.no_turns(worker)
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text
    told = [notice.fields["state"] for notice in lab.notices if "does not serve" in notice.event]
    assert sorted(told) == sorted(set(told)), "each state is told once"


@pytest.mark.parametrize("how", ["broken", "READONLY", "clients"])
async def test_trouble_after_the_memo_of_a_wait_is_stored_reaches_no_handler(
    lab: Lab, proxy: RespProxy, how: str
) -> None:
    """With retries=0, 5 of 5 runs failed when the connection broke there; with READONLY the waits stayed."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        first = await step.wait_for_event("equal", "other", match="data.n", timeout=0.05)
        second = await step.wait_for_event("expression", "other", if_="async.data.n == 7", timeout=0.05)
        return [first, second]

    await lab.work()
    for command in ("ZREMRANGEBYLEX", "HDEL"):
        if how == "broken":
            proxy.cut(command, holding="equal" if command != "HDEL" else "expression")
        else:
            proxy.answer(READONLY if how == "READONLY" else CLIENTS, command, times=2)
    await lab.send("a", {"n": 1})
    assert await lab.output() == [None, None]
    assert proxy.told().total() >= 2
    assert not await lab.wire.call("EXISTS", keys.waits("other"), keys.waits_if("other"))


async def test_events_a_step_cannot_send_for_longer_than_a_publisher_waits_use_up_no_attempt(
    lab: Lab, proxy: RespProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PublishFailed was no StoreUnavailable: what waits for Redis did not wait for it."""
    monkeypatch.setattr("stepstream.bus.wire.publishing.PATIENCE_S", 0.1)

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        return len(await step.send_event("tell", [NewEvent("sent", {"n": n}) for n in range(3)]))

    await lab.work()
    proxy.refuse(CLIENTS, name="event_publish", holding="sent")
    await lab.send("a")
    await eventually(lambda: _told(proxy, 6), "the publisher has given up, more than once")
    proxy.mend()
    assert await lab.output() == 3
    assert await lab.wire.call("XLEN", keys.events("sent")) == 3
    assert issubclass(PublishFailed, StoreUnavailable)


async def _told(proxy: RespProxy, count: int) -> bool:
    return proxy.told().total() >= count


async def test_what_a_body_sends_itself_and_cannot_is_no_attempt_of_its_step(
    lab: Lab, proxy: RespProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.bus.wire.publishing.PATIENCE_S", 0.1)
    tries: list[int] = []

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        async def body():
            tries.append(ctx.attempt)
            return await own.send("sent", {})

        await step.run("send", body)
        return "sent"

    worker = await lab.work()
    own = Bus("own")
    own.connect(worker._wire)
    proxy.refuse(CLIENTS, name="XADD", holding="sent")
    proxy.refuse(CLIENTS, name="event_publish_again", holding="sent")
    await lab.send("a")

    async def tried() -> bool:
        return len(tries) >= 2

    await eventually(tried, "a body has failed, and runs again")
    monkeypatch.setattr("stepstream.bus.wire.publishing.PATIENCE_S", PATIENT_S)
    proxy.mend()
    assert await lab.output() == "sent"
    assert (await lab.one()).attempt == 0


@pytest.mark.parametrize("kind", ["step", "handler"])
async def test_what_redis_refuses_for_good_gives_the_turn_up_and_it_goes_on_once_that_is_mended(
    lab: Lab, kind: str
) -> None:
    """A key of another type is no error of the author's code either: an operator mends it."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        if kind == "handler":
            return await lab.app.send("sent", {})
        try:
            return (await step.send_event("tell", "sent", {}))[0]
        except BusError:
            return "an error of the store has reached the author"

    await lab.work()
    await lab.wire.call("SET", keys.events("sent"), "no stream")
    await lab.send("a")

    async def given_up() -> bool:
        return any("engine failed" in one.event and "WRONGTYPE" in one.fields["error"] for one in lab.notices)

    await eventually(given_up, "the turn is given up")
    await lab.wire.call("DEL", keys.events("sent"))
    output = await lab.output()
    assert output in {fields[1].decode() for _, fields in await lab.wire.call("XRANGE", keys.events("sent"), "-", "+")}


async def test_an_acknowledgement_that_is_refused_for_good_is_told_and_tried_again(
    lab: Lab, proxy: RespProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The task that acknowledges died of it, and its entries stayed in hand for ever."""

    @lab.app.function("f", on="a")
    async def f(ctx, step):
        return 1

    await lab.work()
    proxy.refuse("WRONGTYPE a key of another type", name="XACK")
    await lab.send("a")
    assert await lab.output() == 1

    async def told() -> bool:
        return any("letting entries go" in notice.event for notice in lab.notices)

    await eventually(told, "it is told")
    proxy.mend()
    await lab.idle()
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


async def test_one_word_for_a_whole_process_and_one_when_redis_serves_again(lab: Lab, proxy: RespProxy) -> None:
    """Each reader, and each loop at each of its rounds, told of the same outage."""
    for n in range(8):
        lab.app.function(f"f{n}", on=[f"a{n}", f"b{n}/*"])(_nothing)
    await lab.work()
    proxy.refuse("MASTERDOWN Link with MASTER is down")
    await anyio.sleep(2.0)
    proxy.mend()

    async def serves() -> bool:
        return any("serves again" in notice.event for notice in lab.notices)

    await eventually(serves, "it is told that Redis serves again")
    told = [(notice.event, notice.fields.get("state")) for notice in lab.notices]
    assert sum("lease was lost" in event for event, _ in told) <= 1, "it may end meanwhile, which is told once for all"
    assert [one for one in told if "lease was lost" not in one[0]] == [
        ("Redis does not serve now; what needs it waits", "MASTERDOWN"),
        ("Redis serves again", None),
    ]


async def _nothing(ctx, step):
    return None


def test_what_keeps_going_wrong_in_a_loop_is_told_when_it_changes() -> None:
    signals, told = Signals(), list[Noticed]()
    signals.noticed.listen(told.append)
    failing = Failing(signals, "looking failed", function="f")
    errors = [StoreError("a"), StoreError("a"), None, StoreError("a"), ValueError("b"), StoreUnavailable("c"), None]
    for error in errors:
        with failing:
            if error is not None:
                raise error
    assert [(one.event, one.fields) for one in told] == [
        ("looking failed", {"error": "a", "function": "f"}),
        ("looking failed", {"error": "a", "function": "f"}),
        ("looking failed", {"error": "ValueError('b')", "function": "f"}),
    ]
    with pytest.raises(KeyboardInterrupt), failing:
        raise KeyboardInterrupt


async def test_a_call_whose_child_ends_before_the_caller_has_heard_that_it_began_is_no_wait_for_ever(
    lab: Lab, proxy: RespProxy
) -> None:
    """The value came while the step still told Redis what it waits for; nobody waited for it yet, and then one did."""

    @lab.app.function("child")
    async def child(ctx, step):
        return "a"

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx, step):
        return await step.invoke("call", child)

    worker = await lab.work()
    proxy.cut("XADD", holding="test-child")
    proxy.answer(CLIENTS, "XADD", times=1_000, holding="test-child")  # each one after that
    await lab.send("a")

    async def knows() -> bool:
        return any("call" in turn.state.memos for executor in worker._assembly.executors for turn in executor.turns)

    await eventually(knows, "the turn has heard what the call returned")
    proxy.mend()
    runs = {run.function: run for run in await lab.ended(2)}
    assert runs["test-f"].status == "completed"
    assert (await lab.steps(runs["test-f"]))["call"].state == "completed"
    assert not await lab.wire.call("EXISTS", keys.open_steps("test-f", runs["test-f"].id))
