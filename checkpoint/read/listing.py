"""Listing: runs, newest first, a page at a time, and how many there are of each status.

A list holds what is small of each run; payloads are asked for run by run.
"""

import asyncio
import heapq
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.ids import partitions, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Run, RunSummary, read

STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")
_PAGE_OF_RUNS = script(__file__, "runs_page")
_ROUNDS = 10
"""How often a page is filled up that came out short, because members of the index outlived their run."""


def statuses_of(status: str | None) -> tuple[str, ...]:
    """Return the statuses to list: the one that is given, or all; BadRequest when there is none of that name."""
    if status is None:
        return STATUSES
    if status not in STATUSES:
        raise BadRequest(f"status {status[:40]!r} is none; there are {', '.join(STATUSES)}")
    return (status,)


async def counts(wire: Wire, slugs: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many runs each function has of each status."""
    wanted = [(slug, status, where) for slug in slugs for status in STATUSES for where in partitions(slug)]
    rows = await wire.loads(*(("ZCARD", keys.runs(*one)) for one in wanted))
    found: dict[str, dict[str, int]] = {slug: dict[str, int].fromkeys(STATUSES, 0) for slug in slugs}
    for (slug, status, _), count in zip(wanted, rows, strict=True):
        found[slug][status] += count
    return found


async def whole(wire: Wire, runs: Sequence[RunSummary]) -> list[Run]:
    """Return runs of a list with their event, output and error; those that are gone are left out."""
    found = await read(wire, Run, [(run.function, run.id) for run in runs])
    return [run for run in found if run is not None]


class Page(msgspec.Struct):
    """Runs, newest first, without event, output and error; and the cursor of what comes after (None: nothing does).

    A page that has a cursor may be short, even empty, when many members of the index have outlived their run.
    """

    runs: list[RunSummary]
    cursor: str | None = None


class _Place(NamedTuple):
    """A run's place in the list, which never changes."""

    queued: int
    run: str
    slug: str = ""


async def list_runs(
    wire: Wire,
    slugs: Sequence[str],
    statuses: Sequence[str] = STATUSES,
    *,
    limit: int = 50,
    cursor: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Page:
    """Return runs of functions, newest first; `since` and `until` bound when they were queued, Unix ms."""
    moment, run = _parse_cursor(cursor)
    if until is not None and (moment is None or until < moment):
        moment, run = until, ""
    runs: list[RunSummary] = []
    for _ in range(_ROUNDS):
        wanted = limit - len(runs)
        bounds = ("+inf" if moment is None else moment, run, "-inf" if since is None else since, wanted + 1)
        after = await _after(wire, slugs, statuses, bounds)
        looked_at = after[:wanted]
        runs += await _shown(wire, looked_at)
        if len(after) == len(looked_at):
            return Page(runs)
        moment, run, _ = looked_at[-1]
        if len(runs) == limit:
            break
    return Page(runs, f"{moment}-{run}")


def _parse_cursor(cursor: str | None) -> tuple[int | None, str]:
    if not cursor:
        return None, ""
    moment, _, run = cursor.partition("-")
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 15) or ulid_ms(run) is None:
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    return int(moment), run


async def _after(
    wire: Wire, slugs: Sequence[str], statuses: Sequence[str], bounds: tuple[int | str, ...]
) -> list[_Place]:
    """Return the places that come after one, newest first: of each partition and status as many as are wanted."""
    parts = [(slug, keys.function(slug, where)) for slug in slugs for where in partitions(slug)]
    replies = await asyncio.gather(
        *(wire.script(_PAGE_OF_RUNS, [prefix], *bounds, *statuses, is_big_read=True) for _, prefix in parts)
    )
    found = [
        [_Place(int(float(row[i + 1])), row[i].decode(), slug) for i in range(0, len(row), 2)]
        for (slug, _), reply in zip(parts, replies, strict=True)
        for row in reply
    ]
    return list(dict.fromkeys(heapq.merge(*found, reverse=True)))


async def _shown(wire: Wire, places: Sequence[_Place]) -> list[RunSummary]:
    """Return what a list shows of runs; those that are gone are left out."""
    found = await read(wire, RunSummary, [(place.slug, place.run) for place in places])
    return [run for run in found if run is not None]
