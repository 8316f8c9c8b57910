"""Repair: find runs that have not ended and have no holder, and give them a new one. Without it they would never go on.

A failover may lose a holder: a timer, a queue entry or a pending entry that the new primary never received. A second
holder is harmless (docs/state-machine.md), a missing one is fatal. So a run that has none at two looks, one lease
apart, is repaired.
"""

from collections.abc import AsyncGenerator, Sequence

import msgspec

from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import stands
from stepstream.bus.wire.wire import Wire

_UNHELD = script(__file__, "runs_unheld")
_REPAIR = script(__file__, "run_repair")

ACTIVE = ("waiting", "queued", "running")
PAGE = 100


class Unheld(msgspec.Struct, frozen=True):
    """A run without a holder, as it was when it was looked at."""

    slug: str
    run: str
    status: str
    turn: str
    entry: str

    @property
    def words(self) -> str:
        """What is wrong, in words."""
        if self.status == "waiting":
            return "is waiting, but has no timer"
        return f"is {self.status}, but its entry {self.entry or '(none)'} is neither in the queue nor pending"


async def unheld(wire: Wire, slug: str, runs: Sequence[str]) -> list[Unheld]:
    """Return those of `runs` that seem to have no holder: one look."""
    seen: list[Unheld] = []
    for prefix, some in keys.by_partition(slug, runs, str):
        for part in parts(some):
            rows = await wire.script(_UNHELD, [prefix], *part)
            seen += [Unheld(slug, *(word.decode() for word in row)) for row in rows]
    return [one for one in seen if not await _is_pending(wire, one)]


async def _is_pending(wire: Wire, one: Unheld) -> bool:
    """Whether the event entry that a run names is pending or still to be delivered."""
    kind, _, rest = one.entry.partition("|")
    if kind != "event" or one.status == "waiting":
        return False
    name, _, entry = rest.rpartition("|")
    return await stands(wire, keys.events(name), one.slug, entry, without_group=False)


async def active(wire: Wire, slug: str) -> AsyncGenerator[list[str]]:
    """Yield the runs of a function that have not ended, page by page, the oldest of a partition and status first."""
    for index in (keys.runs(slug, status, where) for where in partitions(slug) for status in ACTIVE):
        start = 0
        while page := await wire.load("ZRANGE", index, start, start + PAGE - 1):
            yield [run.decode() for run in page]
            start += len(page)


async def repair(wire: Wire, one: Unheld) -> bool:
    """Give a run a new holder; False when it has gone on since it was looked at."""
    arguments = (one.run, one.status, one.turn, one.entry)
    return bool(await wire.script(_REPAIR, [keys.function(one.slug, one.run)], *arguments))
