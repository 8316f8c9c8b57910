"""Every kind of key, deleted under load: put back, or found by `bus check` and mended or told of; few are lost by design."""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any

import pytest

from stepstream import (
    Batch,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    EventData,
    Retry,
    Singleton,
    Step,
    Throttle,
)
from stepstream.bus.event import Outgoing
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys, kinds
from stepstream.bus.wire.publishing import Publisher
from stepstream.checkpoint.actions.cancel_many import cancel_many
from stepstream.checkpoint.actions.operations import operate
from stepstream.checkpoint.alerts.kept import set_threshold
from stepstream.checkpoint.apps import App, put
from stepstream.checkpoint.audit_log import Act, record
from stepstream.checkpoint.connections.calls import Asked, Reply, answer, ask
from stepstream.checkpoint.connections.workers import Worker as Connected
from stepstream.checkpoint.connections.workers import join, promise
from stepstream.checkpoint.controls.pauses import pause_event
from stepstream.checkpoint.live.messages import publish
from stepstream.checkpoint.read.lists.search import RunQuery
from stepstream.checkpoint.upkeep.audit import mend, standing
from stepstream.checkpoint.upkeep.repair import active, repair, unheld
from stepstream.checkpoint.waits.names import Holder
from stepstream.checkpoint.waits.signals import give_signal, send_signal, take_signal
from stepstream.consumers.assembly import Assembly
from stepstream.consumers.upkeep.registration import Registration
from stepstream.consumers.upkeep.retention import Retention
from stepstream.consumers.worker import Worker
from stepstream.web.trust import attempts, users
from tests.support import Lab, eventually

SEEN_NOT_TO_BE_MISSING = {"seen", "rate", "single", "limit_waiting"}
"""Nothing tells that they were there: an id is stored twice, a limit begins anew (docs/operations.md)."""

EXPECTED = Counter({
    "sleeper": 1, "waiter": 1, "iffer": 1, "signaller": 1, "caller": 1, "child": 1, "limited": 2, "shared": 2,
    "debounced": 1, "batched": 1, "cancelled": 1, "single": 1, "delayed": 1,
    "robbed": 1,
})  # fmt: skip


class Hour(EventData):
    """What starts the schedule: a type that others check by."""

    cron: str = ""


class Load:
    """An application that has a key of every kind in Redis, while it waits for `go`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.done: Counter[str] = Counter()
        self.go = asyncio.Event()
        self.due = 0.0
        self.app = lab.app
        self._declare()

    def _declare(self) -> None:
        app, done, go = self.app, self.done, self.go

        def plain(id: str, on: str, wait: Any, **options: Any) -> None:
            @app.function(id, on=on, **options)
            async def f(ctx: Context[dict], step: Step) -> None:
                await step.run("first", lambda: None)
                await wait(step)
                done[id] += 1

        async def say_and_sleep(step: Any) -> None:
            await step.subprocess("say", ["echo", "a line of the log"])
            await step.sleep("nap", "6s")

        plain("sleeper", "start", say_and_sleep)
        plain("waiter", "start", lambda step: step.wait_for_event("it", "go", match="data.n", timeout="40s"))
        plain("iffer", "start", lambda step: step.wait_for_event("it", "go", if_="async.data.n == 1", timeout="40s"))
        plain("signaller", "start", lambda step: step.wait_for_signal("it", signal="go", timeout="40s"))
        plain("robbed", "start", lambda step: step.wait_for_signal("it", signal="robbed", timeout="8s"))
        plain("child", "none", lambda step: step.wait_for_event("it", "go", timeout="40s"))
        plain("caller", "start", lambda step: step.invoke("call", "test-child", {}, timeout="50s"))
        plain(
            "cancelled", "start", lambda step: step.wait_for_event("it", "go", timeout="40s"), cancel_on=CancelOn("no")
        )
        plain(
            "single", "start", lambda step: step.wait_for_event("it", "go", timeout="40s"), singleton=Singleton("skip")
        )
        plain("debounced", "start", lambda step: step.sleep("nap", "1ms"), debounce=Debounce("5s"))
        plain("delayed", "later", lambda step: step.sleep("nap", "1ms"))
        plain("batched", "start", lambda step: step.sleep("nap", "1ms"), batch=Batch(5, "5s"))

        def at_work(id: str, **options: Any) -> None:
            @app.function(id, on="two", **options)
            async def f(ctx: Context[dict], step: Step) -> None:
                await step.run("work", go.wait)
                done[id] += 1

        at_work("limited", concurrency=1, throttle=Throttle(10, "1m"))
        at_work("shared", concurrency=Concurrency(1, shared="gpu", key="'k'"))

        @app.function("failing", on="start", retries=Retry(1, backoff=0.001))
        async def failing(ctx: Context[dict], step: Step) -> None:
            raise ValueError("of which an error is noted")

        @app.function("hourly", on=Cron("0 * * * *"))
        async def hourly(ctx: Context[Hour], step: Step) -> None:
            return None

    async def begin(self) -> Worker:
        worker = await self.lab.work()
        await self.lab.send("start", {"n": 1}, id="mine")
        for _ in range(2):
            await self.lab.send("two", {})
        self.due = time.monotonic() + 6.0
        await self.app.send("later", {}, delay="6s")
        await self._send_what_no_run_does()
        await self._rob()
        await Retention(self.lab.wire, worker.signals, worker_slugs(worker), assembly(worker).feeds.names_read).once()

        async def there() -> set[str]:
            kinds = {kind for kind, found in (await self.kinds()).items() if found}
            return {make.__name__ for make, _ in keys.ALL} - kinds - OFTEN_EMPTY

        async def all_there() -> bool:
            return not await there() and await self.count("waiting") >= 7 and await self.count("running") >= 2

        await eventually(all_there, f"keys of every kind; missing: {await there()}")
        return worker

    async def _send_what_no_run_does(self) -> None:
        """An application behind HTTP, an event its SDK repeats, a cancellation that meets nobody, and more of that kind."""
        wire, sent = self.lab.wire, ulid()
        await put(wire, "elsewhere", lambda _: App(name="elsewhere", url="http://127.0.0.1:9/"))
        for _ in range(2):
            await Publisher(wire).publish([Outgoing(sent, "elsewhere/told", b"{}", internal=sent)])
        await cancel_many(wire, "test", "test-hourly", before=1)
        await operate(wire, "rerun", RunQuery(functions=("test-hourly",)), by="a test")
        await publish(wire, "channel", "topic", b"1")
        await pause_event(wire, "elsewhere/paused", "a test")
        await record(wire, Act(who="ada", way="a test", what="pause_event", on="x", source="here", outcome="done"))
        await set_threshold(wire, "waiting", "1h")
        await users.add(wire, "ada", "read", "no hash")
        await attempts.begin(wire, "ada", "10.1.2.3")
        told = Connected(connection="c", gateway="g", instance="i", sdk="js:v4.24.0", capacity=1, since=1)
        await join(wire, "elsewhere", told, 60_000, takes=True)
        await promise(wire)
        for call in ("a.elsewhere", "b.elsewhere"):
            await ask(wire, "elsewhere", Asked(call, "f", "step", "r", b"{}"), "process", 60_000)
        await answer(wire, "elsewhere", "b.elsewhere", Reply(200, b"1"), 2.0)

    async def _rob(self) -> None:
        """Take a name from the run that waits for it, which waits on without it, and give it up."""
        wire, thief = self.lab.wire, Holder("test-single", ulid(), "it")
        await eventually(lambda: wire.call("EXISTS", keys.signal("robbed")), "it waits for a signal")
        await take_signal(wire, "robbed", thief, 60_000, replaces=True)
        await give_signal(wire, "robbed", thief)

    async def count(self, status: str) -> int:
        slugs = [function.slug for function in self.app.functions.values()]
        return sum([await self.lab.wire.call("ZCARD", keys.runs(slug, status)) for slug in slugs])

    async def kinds(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for raw in await self.lab.admin.call("KEYS", keys.pattern()):
            kind = kinds.kind_of(raw.decode())
            assert kind is not None, raw
            found.setdefault(kind[0], []).append(raw.decode())
        return found

    async def end(self) -> Counter[str]:
        """Let all go on; return how often each function has ended, once nothing more happens."""
        self.go.set()
        await self.lab.send("go", {"n": 1})
        await send_signal(self.lab.wire, "go", None)

        async def at_rest() -> bool:
            active = sum([await self.count(s) for s in ("queued", "running", "waiting")])
            return self.done == EXPECTED or (not active and time.monotonic() > self.due + 2.0)

        with contextlib.suppress(AssertionError):
            await eventually(at_rest, "all have ended")
        return self.done


OFTEN_EMPTY = {"ends", "ready", "limit_waiting"}
"""Kinds whose keys come and go in an instant."""


def assembly(worker: Worker) -> Assembly:
    assert worker._assembly is not None
    return worker._assembly


def worker_slugs(worker: Worker) -> list[str]:
    return sorted(function.slug for function in assembly(worker).functions)


@pytest.mark.chaos
@pytest.mark.leaves_behind("what is lost is lost")
@pytest.mark.parametrize("kind", [make.__name__ for make, _ in keys.ALL])
async def test_a_key_that_is_deleted_under_load_is_put_back_or_found(lab: Lab, kind: str) -> None:
    load = Load(lab)
    worker = await load.begin()
    before = (await load.kinds()).get(kind, [])
    if before:
        await lab.wire.call("DEL", *before)
    slugs = worker_slugs(worker)
    await Registration(lab.wire, assembly(worker).functions).once()
    await Retention(lab.wire, worker.signals, slugs, assembly(worker).feeds.names_read).once()
    told: list[str] = []
    seen = [(slug, one) for slug in slugs async for page in active(lab.wire, slug)
            for one in await unheld(lab.wire, slug, page)]  # fmt: skip
    faults = await standing(lab.checker)
    for slug, one in seen:
        if one in await unheld(lab.wire, slug, [one.run]):
            told.append(one.words)
            await repair(lab.wire, one)
    for fault in faults:
        told.append(f"{fault.key} {fault.words}")
        await mend(lab.wire, fault)
    done = await load.end()
    told += [f"{notice.event} {notice.fields}" for notice in lab.notices]
    lost = EXPECTED - done
    twice = done - EXPECTED
    print(kind, "lost", dict(lost), "twice", dict(twice), "told", len(told), told[:4])
    # A call that is noted again is another call, and told of.
    assert not twice or (kind == "open_steps" and set(twice) == {"child"})
    assert not lost or told or kind in SEEN_NOT_TO_BE_MISSING, f"{kind}: {lost} lost in silence"
