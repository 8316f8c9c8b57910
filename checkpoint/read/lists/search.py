"""Search: which runs are asked for (RunQuery), read from text by one function, and a page of those that match.

The API's parameters, the options of `bus runs` and the forms of the page are pairs of names and texts: one parser reads
them all, and says what is wrong with one.

Runs are in an index by function, status and time. What else is asked is looked for in the runs themselves: a page looks
at ten thousand of them at most, says at how many, and goes on from there.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from stepstream.bus.blobs.reference import BLOB_MARK
from stepstream.bus.encryption.sealing import CannotOpen, opened
from stepstream.bus.errors import BadRequest, ConfigError
from stepstream.bus.event import RESERVED, RawEvent
from stepstream.bus.limits.keys import keys_like
from stepstream.bus.trigger import covers
from stepstream.bus.trust.redaction import Redaction, redaction_of
from stepstream.bus.values import codec
from stepstream.bus.values.durations import is_ago, past_moment
from stepstream.bus.values.expression import Expression, compiled
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.marks import frame_of, is_like_a_mark, mark_of
from stepstream.checkpoint.read.lists.runs import (
    ALL_BYTES,
    LINE_BYTES,
    NO_BYTES,
    STATUSES,
    Look,
    Named,
    Place,
    Row,
    RunLine,
    counts,
    error_name_of,
    event_name_of,
    lines_of,
    names,
    place_of,
    window,
)
from stepstream.checkpoint.registry import function_of, functions, slugs
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Run

MOST_LOOKED_AT = 10_000
"""How many runs a page looks at."""
MOST_BYTES = 64 * 1024 * 1024
"""How much of their events, errors and outputs it reads."""
LONGEST_WHERE = 2_000
"""Characters."""
_AT_ONCE = 1_000
SLICE_S = 0.01
"""For how long runs are looked into before others of this process get their turn."""

FILTERS: Mapping[str, str] = {
    "status": f"{', '.join(STATUSES)}; several with commas, or the parameter again",
    "function": "the slug of a function; several with commas, or the parameter again",
    "event": "the name of its event, or the beginning of one, as order/*",
    "key": "the value of a limit's key: customer-4",
    "since": "queued then or later: Unix ms, 2026-12-01T09:00:00Z, or how long ago, as 15m or 2h",
    "until": "queued then or earlier: Unix ms, 2026-12-01T09:00:00Z, or how long ago, as 15m or 2h",
    "error": "the name of the error it ended with, as TimeoutError, or the mark of a group of errors",
    "code": "the code version it was begun with",
    "worker": "the name of the worker that has it in hand; with status: that had it last",
    "source": "what made it: event, batch, debounce, cron, invoke, failure, rerun or replay",
    "where": "a condition in CEL: event.data.total > 100 && output.paid",
}
"""The filters there are, by the names of their parameters, and what each takes."""

_IN_HAND = ("running",)
"""What a worker has: a run that waits names the worker that had it last."""
_SEVERAL = frozenset({"status", "function"})
_PLAIN = ("event", "key", "error", "code", "worker", "source", "where")
SOURCES = ("event", "batch", "debounce", "cron", "invoke", "failure", "rerun", "replay")
"""What makes runs."""


class RunQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which runs are asked for: those that match every filter that is given. Empty texts are no filters."""

    statuses: tuple[str, ...] = ()
    """One of these; empty: any."""
    functions: tuple[str, ...] = ()
    """Of one of these slugs; empty: of any function."""
    event: str = ""
    """Their event has this name, or one that begins so: `order/*`."""
    key: str = ""
    """The value of a limit's key under which they count."""
    since: int | None = None
    """Queued then or later, Unix ms."""
    until: int | None = None
    """Queued then or earlier, Unix ms."""
    error: str = ""
    """The name of the error they ended with, or the mark (`fingerprint`) of the group that it belongs to."""
    code: str = ""
    """The version of the code they were begun with."""
    worker: str = ""
    """The worker that has them in hand; with statuses: that had them last."""
    source: str = ""
    """What made them: event, batch, debounce, cron, invoke, failure, rerun or replay."""
    where: str = ""
    """CEL over `event` and `output`."""
    hidden: tuple[str, ...] = ()
    """The rules of what the one who asks does not see: `where` does not see it either, or its answer would tell."""

    @property
    def is_indexed(self) -> bool:
        """Whether the index alone tells which runs match, and so how many there are."""
        return not any(getattr(self, name) for name in _PLAIN)

    def pairs(self) -> list[tuple[str, str]]:
        """Return the parameters it would be read from, for a link or a command."""
        found = [("status", one) for one in self.statuses] + [("function", one) for one in self.functions]
        found += [(name, str(value)) for name in ("since", "until") if (value := getattr(self, name)) is not None]
        return found + [(name, value) for name in _PLAIN if (value := getattr(self, name))]


class Found(msgspec.Struct):
    """A page of the runs that match, newest first; `cursor` is where the next begins, None when no more come.

    A page may be short, even empty, and have a cursor: then it has looked at as many runs as one may.
    """

    runs: list[RunLine]
    cursor: str | None
    looked_at: int
    """How many runs it has looked at."""
    count: int
    """How many match on all pages, where `exact`; else there are at least so many."""
    exact: bool
    not_evaluated: int = 0
    """Of how many `where` could not be evaluated: for a number in their event, its size, a key. They do not match."""


async def query_of(wire: Wire, pairs: Iterable[tuple[str, str]], hidden: Redaction | None = None) -> RunQuery:
    """Read a query from parameters: names and texts, a name as often as it is given; an empty text asks for nothing.

    `hidden` is what the one who asks does not see of data.

    BadRequest names the parameter, its value and what is expected; FunctionNotFound a function that there is not.
    """
    given = _given(pairs)
    statuses = tuple(dict.fromkeys(given.pop("status", ())))
    for status in statuses:
        _one_of("status", status, STATUSES)
    named = tuple(dict.fromkeys(given.pop("function", ())))
    for slug in named:
        await function_of(wire, slug)
    single = {name: texts[0] for name, texts in given.items() if texts}
    bounds = {name: text for name in ("since", "until") if (text := single.pop(name, ""))}
    now = await patiently(wire.moment, 2.0) if any(map(is_ago, bounds.values())) else 0
    since, until = (past_moment(bounds[name], name, now) if name in bounds else None for name in ("since", "until"))
    plain = {name: single.get(name, "") for name in _PLAIN}
    unseen = hidden.rules if hidden is not None and plain["where"] else ()
    query = RunQuery(statuses=statuses, functions=named, since=since, until=until, **plain, hidden=unseen)
    if query.since is not None and query.until is not None and query.since > query.until:
        raise BadRequest(f"since {bounds['since'][:40]!r} is later than until {bounds['until'][:40]!r}: no run is both")
    if query.source:
        _one_of("source", query.source, SOURCES)
    if len(query.where) > LONGEST_WHERE:
        raise BadRequest(f"where is {len(query.where)} characters long; write at most {LONGEST_WHERE}")
    _condition(query)
    return query


def _given(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if name not in FILTERS:
            raise BadRequest(f"{name[:40]!r} is no filter of runs; there are {', '.join(FILTERS)}")
        parts = text.split(",") if name in _SEVERAL else [text]
        given.setdefault(name, []).extend(part for one in parts if (part := one.strip()))
    for name, texts in given.items():
        if len(texts) > 1 and name not in _SEVERAL:
            raise BadRequest(f"{name} is given {len(texts)} times, {texts[0][:40]!r} and {texts[1][:40]!r}; give one")
    return given


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadRequest(f"{name} {value[:40]!r} is not known: use one of {', '.join(known)}")


def _condition(query: RunQuery) -> Expression | None:
    try:
        return compiled(query.where, "where", other="output") if query.where else None
    except ConfigError as error:
        raise BadRequest(str(error)) from None


async def search(
    wire: Wire, query: RunQuery, *, limit: int = 50, cursor: str | None = None, looks: int = MOST_LOOKED_AT
) -> Found:
    """Return a page of the runs that match, newest first; at most `looks` are looked at.

    BadRequest for a cursor that no page gave.
    """
    place = place_of(cursor)
    among = await functions_asked(wire, query)
    wanted = _Wanted(query)
    runs: list[RunLine] = []
    looked_at = read = 0
    at_once = 2 * limit  # most pages are full soon; the rarer a match, the more are read at once
    while looked_at < looks and read < MOST_BYTES:
        most = limit - len(runs) if wanted.are_all else min(at_once, _AT_ONCE, looks - looked_at)
        at_once *= 4
        found = await window(wire, among, wanted.look, place, most, min(_AT_ONCE, looks - looked_at))
        looked_at += found.looked_at
        read += sum(row.bytes for row in found.rows)
        place = found.last
        if wanted.are_all:
            runs += [row.line for row in found.rows]
        else:
            matching, end = await _matching(found.rows, wanted, limit - len(runs))
            runs += await lines_of(wire, matching)
            place = place if end is None else end
        if len(runs) >= limit or place is None:
            break
    if query.is_indexed:
        of_each = await counts(wire, among, query.statuses or STATUSES, since=query.since, until=query.until)
        count = sum(sum(one.values()) for one in of_each.values())
    else:
        count = len(runs)
    return Found(
        runs,
        None if place is None else place.cursor,
        looked_at,
        count,
        exact=query.is_indexed or (place is None and not cursor),
        not_evaluated=wanted.not_evaluated,
    )


class FoundNames(msgspec.Struct):
    """Runs that match, newest first, by name; `cursor` is where the next begin, None when no more come."""

    runs: list[Named]
    cursor: str | None
    looked_at: int
    not_evaluated: int = 0


async def search_names(
    wire: Wire, query: RunQuery, *, limit: int, cursor: str | None = None, field: str = ""
) -> FoundNames:
    """Return runs that match by name, for who acts on each: as `search`, but the index's members are not looked at.

    `field` is one that is wanted of each, `rerun_of`.
    """
    wanted = _Wanted(query)
    if wanted.are_all:
        page = await names(wire, await functions_asked(wire, query), wanted.look, place_of(cursor), limit, field)
        return FoundNames(page.runs, None if page.last is None else page.last.cursor, page.looked_at)
    found = await search(wire, query, limit=limit, cursor=cursor)
    runs = [Named(run.function, run.id, run.rerun_of if field else "") for run in found.runs]
    return FoundNames(runs, found.cursor, found.looked_at, found.not_evaluated)


async def _matching(rows: Sequence[Row], wanted: "_Wanted", most: int) -> tuple[list[Row], Place | None]:
    """Return rows that match, and where it ended when enough were found before the last; others get their turn."""
    found: list[Row] = []
    began = time.perf_counter()
    for n, row in enumerate(rows, 1):
        if wanted.matches(row):
            found.append(row)
            if len(found) == most:
                return found, None if n == len(rows) else row.place
        if time.perf_counter() - began > SLICE_S:
            await asyncio.sleep(0)
            began = time.perf_counter()
    return found, None


async def functions_asked(wire: Wire, query: RunQuery) -> list[str]:
    """Return the slugs whose runs may match: for an event those that it starts, unless functions are given.

    An event of ours (`bus/…`) may have begun runs of any: who is invoked, or has a schedule, declares no such name.
    """
    if query.functions:
        return [*query.functions]
    if not query.event or query.event.startswith(RESERVED):
        return await slugs(wire)
    return [
        one.slug
        for one in await functions(wire)
        if any(covers(name, query.event) or covers(query.event, name) for name in one.events)
    ]


def matches_unstarted(query: RunQuery, run: Run, event: RawEvent | None) -> bool | None:
    """Whether a run that no worker has begun matches, of which its id, event and source are known.

    It has no error, worker or code version, and counts under no key yet. None: `where` could not be evaluated.
    """
    ms = run.queued
    if (query.statuses and "queued" not in query.statuses) or query.error or query.code or query.worker or query.key:
        return False
    if (query.source and query.source != run.source) or (query.functions and run.function not in query.functions):
        return False
    if (query.since is not None and ms < query.since) or (query.until is not None and ms > query.until):
        return False
    if query.event and (event is None or not covers(query.event, event.name)):
        return False
    condition = _condition(query)
    if condition is None:
        return True
    try:
        event = event and event.opened()
        if query.hidden and event is not None:
            event = codec.decode_as(redaction_of(query.hidden).json(codec.encode(event)), RawEvent)
        before = condition.refused
        return _is_true(condition, event, None) or (None if condition.refused > before else False)
    except msgspec.MsgspecError:  # an event that cannot be read
        return False
    except CannotOpen:
        return None


def _is_true(condition: Expression, event: RawEvent | None, output: Any) -> bool:
    """Whether a condition is true of an event, or of one of a batch, and an output: null where there is none."""
    return event is not None and any(condition.matches(one.plain(), output) for one in event.several())


class _Wanted:
    """What is looked for: as much of it as the script compares, and the rest, which needs what is inside of JSON."""

    def __init__(self, query: RunQuery) -> None:
        self._query = query
        self._condition = _condition(query)
        self._hidden = redaction_of(query.hidden) if query.hidden else None
        keys = (*keys_like(query.key), "")[:2] if query.key else ("", "")
        are_all = not (query.event or query.error or query.where)
        is_mark = is_like_a_mark(query.error)
        self.look = Look(
            statuses=query.statuses or (_IN_HAND if query.worker else STATUSES),
            since=query.since,
            until=query.until,
            worker=query.worker,
            code=query.code,
            source=query.source,
            keys=(keys[0], keys[1]),
            event_bytes=ALL_BYTES if query.where else LINE_BYTES if query.event or are_all else NO_BYTES,
            error_bytes=ALL_BYTES if is_mark else LINE_BYTES if query.error or are_all else NO_BYTES,
            output_bytes=ALL_BYTES if "output" in query.where else NO_BYTES,
            with_lines=are_all,
        )
        self.are_all = are_all
        """Whether all that the script finds match."""
        self._is_mark = is_mark
        self.not_evaluated = 0

    def matches(self, row: Row) -> bool:
        """Whether a run matches what the script does not look at; one that cannot be read does not."""
        before = self._condition.refused if self._condition is not None else 0
        does = self._matches(row)
        self.not_evaluated += not does and self._condition is not None and self._condition.refused > before
        return does

    def _matches(self, row: Row) -> bool:
        query = self._query
        if query.event and not covers(query.event, event_name_of(row.event)):
            return False
        try:
            if query.error and error_name_of(row.error) != query.error and not (self._is_mark and self._has_mark(row)):
                return False
            if self._condition is None:
                return True
            if BLOB_MARK in row.output or (BLOB_MARK in row.event and "result" in self._query.where):
                self.not_evaluated += 1  # what is kept in the store is not read for a search
                return False
            stored = opened(row.event)
            output = codec.decode(opened(row.output)) if row.output else None
            if self._hidden is not None:
                unseen = self._hidden.of_event(stored)
                stored, output = unseen.json(stored), unseen.plain(output)
            found = self._condition.matches_stored(stored, output)
            if found is not None:
                return found
            event = codec.decode_as(stored, RawEvent) if stored else None
            return _is_true(self._condition, event, output)
        except msgspec.MsgspecError:
            return False
        except CannotOpen:  # what is told in its place is nothing that a condition may see
            self.not_evaluated += 1
            return False

    def _has_mark(self, row: Row) -> bool:
        """Whether an error has the mark by which errors are grouped: that is made of where it was raised, too."""
        failure = codec.decode_as(row.error, Failure) if row.error else None
        return failure is not None and mark_of(failure.name, frame_of(failure.stack)) == self._query.error
