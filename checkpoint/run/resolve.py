"""Resolve: a value for a step from outside the turn; and the timers, which are resolve for a moment."""

from collections.abc import Collection
from typing import Literal, cast

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen, CannotSeal
from stepstream.bus.errors import BlobGone, StoreUnfit
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import kept
from stepstream.checkpoint.run.memo import Failure, middle_of, result_of

_RESOLVE = script(__file__, "run_resolve")
_FIRE_TIMERS = script(__file__, "timers_fire")

AT_ONCE = 250
"""Timers moved by one script call: it holds the server for about 2 ms."""
CHANGED_AGAIN_MS = 60_000
"""How often a run that waits for a deploy is tried, should no worker start meanwhile."""
_MOST_LOOKED_AT = 10_000
_MENDED_BY_A_DEPLOY = frozenset({"code_changed", CannotOpen.code, CannotSeal.code, BlobGone.code, StoreUnfit.code})


async def resolve(
    wire: Wire,
    slug: str,
    run: str,
    step: str,
    kind: str,
    data: bytes,
    *,
    error: Failure | None = None,
    entry: str = "",
    mark: str = "",
) -> Literal["gone", "there", "waiting", "running", "queued"]:
    """Store a step's memo and wake its run; return the status the run had.

    `entry` is the stream entry an event came from: a later wait of the run does not take it again. By its `mark` (a
    token) who sent it knows its own memo again.
    """
    stored = await kept(wire, slug, run, data)
    middle, result = middle_of(kind, entry=entry, mark=mark), result_of(stored, error)
    word = await wire.lasting_script(_RESOLVE, [keys.function(slug, run)], run, step, middle, result)
    return cast("Literal['gone', 'there', 'waiting', 'running', 'queued']", word.decode())


class Fired(msgspec.Struct):
    """How many turns were queued, whether more are due, ms until the next timer (None: there is none), and members that
    made no sense and were dropped."""

    added: int
    more: bool
    next_ms: int | None
    dropped: list[str] = []


async def fire_timers(wire: Wire, slug: str, where: str = FIRST) -> Fired:
    """Queue the turns of one partition whose timer is due, at most AT_ONCE."""
    added, looked_at, next_ms, bad = await wire.script(_FIRE_TIMERS, [keys.function(slug, where)], AT_ONCE)
    if added:
        reached("timers.fired")
    dropped = [codec.text(member) for member in bad]
    return Fired(int(added), int(looked_at) == AT_ONCE, int(next_ms) if int(next_ms) >= 0 else None, dropped)


async def hurry(wire: Wire, slug: str, run: str) -> None:
    """Let a run that waits have a turn now, which finds what it waits for as it was, or waits on."""
    turn = await wire.load("HGET", keys.run(slug, run), "turn")
    if turn is not None:
        # XX: a turn that has begun meanwhile has no timer; LT: nothing is put off.
        member = f"{run}:{codec.text(turn)}"
        await wire.call("ZADD", keys.timers(slug, run), "XX", "LT", await wire.moment(), member)


async def hurry_failed(wire: Wire, slug: str, errors: Collection[str], within_ms: int, where: str = FIRST) -> int:
    """Let runs of a partition that wait since an error of one of these names be tried now; return how many.

    They are found among the timers of that time; beyond the first 10,000 of those a run is tried by its timer.
    """
    timers, now = keys.timers(slug, where), await wire.moment()
    hurried = passed = 0
    while hurried + passed < _MOST_LOOKED_AT:
        members: list[bytes] = await wire.load(
            "ZRANGEBYSCORE", timers, f"({now}", now + within_ms, "LIMIT", passed, AT_ONCE, patience=2.0
        )
        turns = [codec.text(member) for member in members]
        waiting = [turn for turn in turns if "|" not in turn and ":" in turn]
        found = await wire.loads(*(("HGET", keys.run(slug, turn.rpartition(":")[0]), "error") for turn in waiting))
        meant = [turn for turn, error in zip(waiting, found, strict=True) if _name_of(error) in errors]
        for part in parts([word for turn in meant for word in (now, turn)]):
            # XX: a turn that has begun meanwhile has no timer; LT: nothing is put off.
            await wire.call("ZADD", timers, "XX", "LT", *part)
        hurried, passed = hurried + len(meant), passed + len(turns) - len(meant)
        if len(turns) < AT_ONCE:
            break
    return hurried


async def hurry_changed(wire: Wire, slug: str, where: str = FIRST) -> int:
    """Let runs of a partition be tried now that wait for a deploy, a key or a store; return how many."""
    return await hurry_failed(wire, slug, _MENDED_BY_A_DEPLOY, CHANGED_AGAIN_MS, where)


def _name_of(error: bytes | None) -> str:
    failure = codec.stored_as(error, Failure)
    return "" if failure is None else failure.name
