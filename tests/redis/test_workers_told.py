"""What a worker tells of itself and of what it has in hand: while it lives, when it drains, and after it was killed."""

import asyncio
import socket

from stepstream import Context, Step
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.leases import Leases
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.workers import Holding, WorkerView, workers_told
from stepstream.checkpoint.upkeep.retention import MOST_DEAD, forget_workers
from tests.support import Lab, eventually


def telling(wire: Wire, settings: Settings, told: dict[str, str], worker: str = "w") -> Leases:
    leases = Leases(settings, worker, lambda _: None, lambda _: None)
    leases.telling.look = lambda: dict(told)
    return leases


async def fields(wire: Wire, worker: str = "w") -> dict[str, str]:
    flat = [one.decode() for one in await wire.call("HGETALL", keys.worker(worker))]
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_a_worker_tells_what_it_has_in_hand_and_leaves_nothing(lab: Lab) -> None:
    go = asyncio.Event()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("work", go.wait)

    worker = await lab.work(concurrency=7)
    await lab.send("a")

    async def look() -> WorkerView | None:
        told = await workers_told(lab.wire)
        return told[0] if told and told[0].held and told[0].held[0].step else None

    found = await eventually(look, "it tells of its run")
    assert found is not None
    function = lab.app.functions["f"]
    assert (found.name, found.alive, found.slots, found.in_hand) == (worker.name, True, 7, 1)
    assert (found.host, found.functions) == (socket.gethostname(), {function.slug: function.code})
    run = await lab.first()
    [held] = found.held
    assert held == Holding(function.slug, run, "work", held.since)
    assert found.since <= found.seen <= await lab.wire.clock()
    assert not found.draining
    worker.retire()

    async def draining() -> bool:
        return (await workers_told(lab.wire))[0].draining

    await eventually(draining, "it tells that it drains")
    go.set()

    async def gone() -> bool:
        return not await workers_told(lab.wire) and not await lab.wire.call("EXISTS", keys.worker(worker.name))

    await eventually(gone, "it has left, and holds nothing")


async def test_a_dead_worker_is_told_of_with_what_it_had(wire: Wire) -> None:
    await wire.call("ZADD", keys.workers(), await wire.clock() - 5_000, "dead", await wire.clock() + 500, "alive")
    held = '[{"function":"f","run":"r","step":"s","since":5}]'
    await wire.call("HSET", keys.worker("dead"), "seen", 7, "held", held, "in_hand", 1, "pid", "no number")
    dead = WorkerView("dead", alive=False, seen=7, in_hand=1, held=[Holding("f", "r", "s", 5)])
    alive, found = await workers_told(wire)
    assert found == dead
    assert (alive.name, alive.alive, alive.host) == ("alive", True, ""), "one of an earlier version tells no more"


async def test_of_many_dead_the_last_are_told_of_for_a_day(wire: Wire) -> None:
    now = await wire.clock()
    for n in range(MOST_DEAD + 3):
        await wire.call("ZADD", keys.workers(), now - 1_000 - n, f"w{n}")
        await wire.call("HSET", keys.worker(f"w{n}"), "seen", 1)
    await wire.call("ZADD", keys.workers(), now - 86_400_001, "old", now + 500, "alive")
    await forget_workers(wire, now)
    left = [name.decode() for name in await wire.call("ZRANGE", keys.workers(), 0, -1)]
    assert set(left) == {"alive", *(f"w{n}" for n in range(MOST_DEAD))}
    assert not await wire.call("EXISTS", keys.worker(f"w{MOST_DEAD}"))
    assert await wire.call("EXISTS", keys.worker(f"w{MOST_DEAD - 1}"))


async def test_only_what_has_changed_is_sent_and_all_of_it_when_the_key_was_lost(
    wire: Wire, settings: Settings
) -> None:
    told = {"host": "h", "held": "[]"}
    leases = telling(wire, settings, told)
    leases.start()

    async def renewed(since: dict[str, str]) -> dict[str, str] | None:
        found = await fields(wire)
        return found if found.get("seen") != since.get("seen") and "host" in found else None

    first = await eventually(lambda: renewed({}), "it is told")
    assert first is not None
    assert {name: first[name] for name in told} == told
    assert first["since"] <= first["seen"]

    async def nothing_is_new() -> bool:  # once the lease thread has taken the answer, too
        return leases.telling.command()[6:] == ()

    await eventually(nothing_is_new, "nothing has changed")
    told["held"] = "[1]"
    await eventually(lambda: _is(wire, "held", "[1]"), "what has changed is told")
    await wire.call("DEL", keys.worker("w"))
    await eventually(lambda: _is(wire, "host", "h"), "all is told again")
    assert 0 < await wire.call("PTTL", keys.worker("w")) <= 86_400_000
    await leases.stop()


async def _is(wire: Wire, field: str, value: str) -> bool:
    return (await fields(wire)).get(field) == value


async def test_a_key_of_another_type_by_hand_costs_no_lease(wire: Wire, settings: Settings) -> None:
    leases = telling(wire, settings, {"host": "h"})
    await wire.call("SET", keys.worker("w"), "x")
    leases.start()
    lease = leases.add("bus:fn:{f}:workers")
    for _ in range(2):
        await lease.renewed()
    assert lease.is_fresh()
    await wire.call("DEL", keys.worker("w"))
    await eventually(lambda: _is(wire, "host", "h"), "it is told once it can be")
    await leases.stop()
