"""Resolve: a value for a step from outside the turn; and the timers, which are resolve for a moment."""

from typing import Literal, cast

import msgspec

from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure, middle_of, result_of

_RESOLVE = script(__file__, "run_resolve")
_FIRE_TIMERS = script(__file__, "timers_fire")

AT_ONCE = 250
"""Timers moved by one script call: it holds the server for about 2 ms."""


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
    middle, result = middle_of(kind, entry=entry, mark=mark), result_of(data, error)
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
