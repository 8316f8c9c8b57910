"""Rerun: a new run for the event of an old one; whole, or from a step on, with the memos before it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Raw

from stepstream.bus.blobs.reference import BLOB_MARK
from stepstream.bus.encryption.sealing import sealed
from stepstream.bus.errors import NotBegun, NotEnded, RunNotFound, StepNotFound, StoreError
from stepstream.bus.event import RawEvent, as_data
from stepstream.bus.values import codec
from stepstream.bus.values.ids import partition_of, run_id, ulid, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import IS_GONE
from stepstream.checkpoint.blobs.keeping import taken_over
from stepstream.checkpoint.read.lists.runs import RunLine
from stepstream.checkpoint.read.lists.search import MOST_LOOKED_AT, RunQuery, search_names
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.run.memo import memo_of

RUN_AGAIN_ALREADY = "it has been run again already"
NO_EVENT = "it has no event that can be read"
_WHY_NOT = {"gone": IS_GONE, "unreadable": NO_EVENT, "again": RUN_AGAIN_ALREADY}
_AT_ONCE = 50
"""Runs per script call: with small events it takes the server half a millisecond."""
_IN_FLIGHT = 4
_NAMES_AT_ONCE = 1_000
"""Runs by name a call, where they are counted."""
_ENOUGH_BYTES = 1024 * 1024
"""How many bytes of events one call queues, about: it takes the server a millisecond."""


class _Again(NamedTuple):
    """What is sent of one run: its id, that of the new one, and the event of that; empty: the same."""

    run: str
    new: str
    event: bytes = b""


_COPY = script(__file__, "run_copy")
_AGAIN = script(__file__, "runs_again", item=_Again)


async def rerun(
    wire: Wire, run: str, from_step: str = "", request: str = "", data: Raw | None = None, *, beside: bool = False
) -> str:
    """Begin a new run; return its id. RunNotFound, StepNotFound, or NotBegun when it has no event yet.

    NotEnded while the old one goes on, unless the new one may go on `beside` it.

    `from_step` keeps the memos of the steps that finished before it. The same `request` (an id of the caller's) makes
    the same run, however often it is repeated. With `data`, a JSON object, its event has that in place of its own;
    EventInvalid for what no event has.
    """
    found = await get(wire, run)
    event = _event(found.event)
    if event is None:
        raise NotBegun(run)
    if not (found.has_ended or beside):
        raise NotEnded(run, found.status)
    if data is not None:
        event = msgspec.structs.replace(event, data=Raw(sealed(as_data(data))))
    if request:
        new = of_request(found.function, run, request)
    else:
        new = _new_id(found.function, run, ulid(), await patiently(wire.moment, 2.0))
    if from_step:
        steps = await _finished_steps(wire, found.function, run)
        if from_step not in steps:
            raise StepNotFound(run, from_step, steps)
        before = steps[: steps.index(from_step)]
        own = await _with_blobs_of_its_own(wire, found.function, run, new, before)
        if not await wire.lasting_script(_COPY, [keys.function(found.function, new)], run, new, *before, patience=10.0):
            raise RunNotFound(run)  # forgotten meanwhile
        for step, memo in own.items():
            put = partial(wire.call, "HSET", keys.steps(found.function, new), step, memo)
            await patiently(put, 10.0)
    prefix, sent = keys.function(found.function, new), codec.encode(event)
    _, *why = _words(await wire.lasting_script(_AGAIN, [prefix], 1, _ENOUGH_BYTES, run, new, sent, patience=10.0))[0]
    if why:
        raise StoreError(why[0])
    return new


async def rerun_several(
    wire: Wire, slug: str, runs: Sequence[str], request: str, *, again: bool = False
) -> Counter[str]:
    """Begin a new run for each run of a function, for the same event; the same request makes the same runs.

    Those that another request has run again are left out, unless they are to be run `again`.

    Returns for how many that was not possible, by why. It waits until Redis answers.
    """
    failures = Counter[str]()
    left = [
        (prefix, some[start : start + _AT_ONCE])
        for prefix, some in keys.by_partition(slug, runs, str)
        for start in range(0, len(some), _AT_ONCE)
    ]
    while left:
        together, left = left[:_IN_FLIGHT], left[_IN_FLIGHT:]
        several = await asyncio.gather(*(_again(wire, slug, prefix, some, request, again) for prefix, some in together))
        for (prefix, some), words in zip(together, several, strict=True):
            failures.update(_WHY_NOT.get(word, word) for word in words if word not in ("queued", "later"))
            if later := [run for run, word in zip(some, words, strict=True) if word == "later"]:
                left.append((prefix, later))
    return failures


async def _again(wire: Wire, slug: str, prefix: str, runs: Sequence[str], request: str, again: bool) -> list[str]:
    arguments = [word for run in runs for word in _Again(run, of_request(slug, run, request))]
    answers = await wire.lasting_script(_AGAIN, [prefix], int(again), _ENOUGH_BYTES, *arguments)
    return [words[-1] for words in _words(answers)]


def _words(answers: Any) -> list[list[str]]:
    """Return what was answered for each run: a word, or `error` and why."""
    several = cast("list[bytes | list[bytes]]", answers)
    return [[*map(codec.text, one)] if isinstance(one, list) else [codec.text(one)] for one in several]


async def run_again_among(wire: Wire, query: RunQuery, found: Sequence[RunLine]) -> int:
    """Return how many runs have been run again, of those that were found: where the index has counted, it asks."""
    if not query.is_indexed:
        return sum(bool(run.reran) for run in found)
    count, looked_at, cursor = 0, 0, None
    while looked_at < MOST_LOOKED_AT:
        page = await search_names(wire, query, limit=_NAMES_AT_ONCE, cursor=cursor, field="reran")
        count, looked_at, cursor = (
            count + sum(bool(run.field) for run in page.runs),
            looked_at + page.looked_at,
            page.cursor,
        )
        if cursor is None:
            break
    return count


def of_request(slug: str, run: str, request: str) -> str:
    """Return the id of the run that a request makes of a run.

    A run's time is part of its id: of a request, which may be repeated, it is that of the old run.
    """
    return _new_id(slug, run, request, ulid_ms(run) or 0)


def _new_id(slug: str, run: str, request: str, ms: int) -> str:
    # beside the old one: its memos are copied
    return run_id(slug, "rerun", f"{run}|{request}", ms, partition_of(run))


async def _with_blobs_of_its_own(wire: Wire, slug: str, run: str, new: str, steps: Sequence[str]) -> dict[str, bytes]:
    """Copy the large results that a new run takes over, for those of the old one go with it; return their memos.

    It comes before anything is stored of the new run: a store that cannot be asked leaves nothing behind.
    """
    found: dict[str, bytes] = {}
    for part in parts(steps):
        memos: list[bytes | None] = await wire.load("HMGET", keys.steps(slug, run), *part, patience=10.0)
        for step, memo in zip(part, memos, strict=True):
            if memo is not None and BLOB_MARK in memo:
                found[step] = await taken_over(wire, slug, new, memo)
    return found


async def _finished_steps(wire: Wire, slug: str, run: str) -> list[str]:
    """Return the finished steps of a run, in the order in which they finished."""
    flat: list[bytes] = await wire.load("HGETALL", keys.steps(slug, run), patience=10.0)
    places = {name.decode(): memo_of(memo).n for name, memo in fields_of(flat).items()}
    return sorted(places, key=lambda name: places[name])


def _event(raw: Raw | None) -> RawEvent | None:
    try:
        return codec.decode_as(raw, RawEvent) if raw is not None else None
    except ValueError:
        return None
