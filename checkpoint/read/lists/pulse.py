"""Pulse: a word for a function, or for a run, that changes when something of it does, for who shows it."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.runs import STATUSES

_RUNS = script(__file__, "runs_pulse")
_RUN = script(__file__, "run_pulse")


class Pulse(NamedTuple):
    """What the word of a function says: how many runs it has of each status, the error that came last, and when."""

    runs: dict[str, int]
    error: str = ""
    errored: float = 0.0


def pulse_in(word: bytes) -> Pulse:
    """Return what the word of a function says, of all its partitions."""
    runs: dict[str, int] = dict.fromkeys(STATUSES, 0)
    errors: list[tuple[float, str]] = []
    for part in word.decode().split("|")[:-1]:
        _, *numbers = part.split(" ")
        for status, number in zip(STATUSES, numbers, strict=False):
            runs[status] += int(number)
        mark, _, at = numbers[-1].partition("@")
        if at:
            errors.append((float(at), mark))
    at, mark = max(errors, default=(0.0, ""))
    return Pulse(runs, mark, at)


async def pulses_of_functions(wire: Wire, slugs: Sequence[str]) -> list[bytes]:
    """Return the word of each function: it changes when runs of it begin, wait, go on, end or fail."""
    own = [(i, keys.function(slug, where)) for i, slug in enumerate(slugs) for where in partitions(slug)]
    words = await asyncio.gather(*(wire.look_script(_RUNS, [prefix], *STATUSES) for _, prefix in own))
    found = [b""] * len(slugs)
    for (i, _), word in zip(own, words, strict=True):
        found[i] += word + b"|"
    return found


async def pulses_of_runs(wire: Wire, runs: Iterable[tuple[str, str]]) -> list[bytes]:
    """Return the word of each run (slug and id): it changes with its status, steps, attempts, progress and log."""
    return await asyncio.gather(*(wire.look_script(_RUN, [keys.function(slug, run)], run) for slug, run in runs))


async def pulses_of_operations(wire: Wire, ids: Sequence[str]) -> list[bytes]:
    """Return the word of each operation: it changes with every step of it; empty for one that there is not."""
    return [word or b"" for word in await wire.loads(*(("HGET", keys.operations(), id) for id in ids))]


async def oldest(wire: Wire, slugs: Sequence[str], status: Literal["queued", "running"]) -> dict[str, tuple[int, str]]:
    """Return of each function that has one its oldest run of a status: when that was queued, Unix ms, and its id."""
    own = [(slug, keys.runs(slug, status, where)) for slug in slugs for where in partitions(slug)]
    rows = await wire.looks(*(("ZRANGE", key, 0, 0, "WITHSCORES") for _, key in own))
    found: dict[str, tuple[int, str]] = {}
    for (slug, _), row in zip(own, rows, strict=True):
        if row:
            first = codec.whole(row[1]), codec.text(row[0])
            found[slug] = min(found.get(slug, first), first)
    return found
