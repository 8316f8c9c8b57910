"""Listing: runs, newest first, a page at a time, and how many there are of each status.

A list holds what is small of each run; payloads are asked for run by run. What is listed of many functions is asked for
in one call, for their keys lie on one server; on a cluster each part of them would be a call of its own.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.limits.keys import shown_key
from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Run, RunSummary, fields_read, read

STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")
ENOUGH_BYTES = 4 * 1024 * 1024
"""A page ends behind the run with which its events, errors and outputs are so many bytes."""
ALL_BYTES = -1
NO_BYTES = 0
LINE_BYTES = 3_000
"""How much of a run's event, or error, is read for a line of a list: its id and its name stand first."""

T = TypeVar("T")

_PAGE_OF_RUNS = script(__file__, "runs_page")
_COUNT = script(__file__, "runs_count")
_LINE = script(__file__, "runs_line")
_LOOKS = 1_000
"""How many runs one call of the script looks at, at least: it takes a millisecond or two of the server."""
_AT_ONCE = 250
"""How many functions one call goes through."""
_NAME = re.compile(rb'\{\s*"id"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")')
_ERROR = re.compile(rb'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"message"\s*:\s*("(?:[^"\\]|\\.)*)')
_ERROR_CHARS = 200


def statuses_of(status: str | None) -> tuple[str, ...]:
    """Return the statuses to list: the one that is given, or all; BadRequest when there is none of that name."""
    if status is None:
        return STATUSES
    if status not in STATUSES:
        raise BadRequest(f"status {status[:40]!r} is not known: use one of {', '.join(STATUSES)}")
    return (status,)


async def counts(
    wire: Wire,
    slugs: Sequence[str],
    statuses: Sequence[str] = STATUSES,
    *,
    since: int | None = None,
    until: int | None = None,
) -> dict[str, dict[str, int]]:
    """Return how many runs each function has of each status; `since` and `until` bound when they were queued, Unix ms.

    The index is counted, in which a run may stand for some minutes after its record has expired.
    """
    places = [(slug, keys.function(slug, where)) for slug in slugs for where in partitions(slug)]
    bounds = ("" if since is None else since, "" if until is None else until)
    replies = await asyncio.gather(
        *(
            wire.script(_COUNT, [key for _, key in part], *bounds, *statuses, is_big_read=True)
            for part in _calls(places)
        )
    )
    found: dict[str, dict[str, int]] = {slug: dict[str, int].fromkeys(statuses, 0) for slug in slugs}
    rows = [row for reply in replies for row in reply]
    for (slug, _), row in zip(places, rows, strict=True):
        for status, count in zip(statuses, row, strict=True):
            found[slug][status] += count
    return found


async def whole(wire: Wire, runs: Sequence[RunSummary]) -> list[Run]:
    """Return runs of a list with their event, output and error; those that are gone are left out."""
    found = await read(wire, Run, [(run.function, run.id) for run in runs])
    return [run for run in found if run is not None]


class RunLine(RunSummary):
    """What a list shows of a run: a summary of it, and of its event, limits and error what fits into a line."""

    rerun_of: str = ""
    """The run that it runs again; empty: none."""
    reran: str = ""
    """The id of the last run that has run it again; empty: none."""
    event_name: str = ""
    keys: tuple[str, ...] = ()
    """The values of the limits' keys under which it counts, as text; of one over 200 bytes `#` and a hash."""
    error_line: str = ""
    """The name of its error and the first line of its message, at most 200 characters."""


class Page(msgspec.Struct):
    """Runs, newest first, without event, output and error; and the cursor of what comes after (None: nothing does).

    A page that has a cursor may be short, even empty, when many members of the index have outlived their run.
    """

    runs: list[RunLine]
    cursor: str | None = None


class Place(NamedTuple):
    """A run's place in the list, which never changes: when it was queued, Unix ms, and its id."""

    queued: int
    run: str

    @property
    def cursor(self) -> str:
        """What a caller is given to go on from here."""
        return f"{self.queued}-{self.run}"


class Row(NamedTuple):
    """A run of the list, with as much of its event, error and output as was asked for, JSON as it is stored."""

    place: Place
    function: str
    fields: Sequence[bytes | None]
    """What is small of it, in the order of _FIELDS; none where lines are asked for later (`lines_of`)."""
    event: bytes
    error: bytes
    output: bytes

    @property
    def bytes(self) -> int:
        """How many bytes of these were read."""
        return len(self.event) + len(self.error) + len(self.output)

    @property
    def line(self) -> RunLine:
        """What a list shows of it."""
        return _line(self.place.run, self.function, self.fields, self.event, self.error)


class Window(NamedTuple):
    """Runs that come after a place, how many were looked at for them, and where that ended: None when no more come."""

    rows: list[Row]
    looked_at: int
    last: Place | None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are looked for, and what is wanted of them. An empty text is no condition; times are Unix ms."""

    statuses: Sequence[str] = STATUSES
    since: int | None = None
    until: int | None = None
    worker: str = ""
    code: str = ""
    source: str = ""
    keys: tuple[str, str] = ("", "")
    """A limit key's value as it may be stored, in one way or the other."""
    event_bytes: int = LINE_BYTES
    error_bytes: int = LINE_BYTES
    output_bytes: int = NO_BYTES
    with_lines: bool = True
    """Whether rows have a line at once; else it is asked for of those that match."""


class Named(NamedTuple):
    """A run by its function's slug and its id, and what the field has that was asked for: empty where it has none."""

    function: str
    id: str
    field: str


class Names(NamedTuple):
    """Runs that come after a place, and where that ended: None when no more come."""

    runs: list[Named]
    looked_at: int
    last: Place | None


async def names(wire: Wire, slugs: Sequence[str], look: Look, after: Place | None, most: int, field: str = "") -> Names:
    """Return at most `most` runs that come after a place, newest first, by name; some may be gone meanwhile.

    It costs a tenth of `window`, for who acts on each and shows none.
    """
    parts, replies = await _pages(wire, slugs, look, after, most, most, field or "-")
    rows = [
        (Place(codec.whole(ms), run.decode()), part[int(n) - 1][0], codec.text(more[0] or b"") if more else "")
        for part, (_, _, _, found) in zip(parts, replies, strict=True)
        for n, ms, run, *more in found
    ]
    seen, last = _together(rows, [(ms, last) for _, ms, last, _ in replies], lambda row: row[0], most)
    return Names([Named(slug, place.run, more) for place, slug, more in seen], sum(one[0] for one in replies), last)


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
    look = Look(statuses=statuses, since=since, until=until)
    found = await window(wire, slugs, look, place_of(cursor), limit)
    return Page([row.line for row in found.rows], None if found.last is None else found.last.cursor)


async def window(
    wire: Wire, slugs: Sequence[str], look: Look, after: Place | None, most: int, looks: int = 0
) -> Window:
    """Return at most `most` runs that come after a place, newest first; at most `looks`, but a thousand, are looked at.

    It ends earlier when it has read a lot: then it has a last place, from which the next one goes on.
    """
    parts, replies = await _pages(wire, slugs, look, after, most, looks or max(_LOOKS, 2 * most), "")
    rows = [_row(part, row) for part, (_, _, _, found) in zip(parts, replies, strict=True) for row in found]
    seen, last = _together(rows, [(ms, last) for _, ms, last, _ in replies], lambda row: row.place, most)
    return Window(seen, sum(reply[0] for reply in replies), last)


async def _pages(
    wire: Wire, slugs: Sequence[str], look: Look, after: Place | None, most: int, looks: int, brief: str
) -> tuple[list[Sequence[tuple[str, str]]], list[Any]]:
    """Return what each call of the script answers, and which functions it was asked about."""
    moment, run = after or (None, "")
    if look.until is not None and (moment is None or look.until < moment):
        moment, run = look.until, ""
    arguments = (
        "" if moment is None else moment, run, "" if look.since is None else look.since,
        most, looks, ENOUGH_BYTES,
        look.worker, look.code, look.source, *look.keys,
        look.event_bytes, look.error_bytes, look.output_bytes, int(look.with_lines), brief, *look.statuses,
    )  # fmt: skip
    parts = _calls([(slug, keys.function(slug, where)) for slug in slugs for where in partitions(slug)])
    return parts, await asyncio.gather(
        *(wire.script(_PAGE_OF_RUNS, [key for _, key in part], *arguments, is_big_read=True) for part in parts)
    )


def _together(
    rows: list[T], ends: Sequence[tuple[bytes, bytes]], place: Callable[[T], Place], most: int
) -> tuple[list[T], Place | None]:
    """Return what several calls have found as one page, newest first, and the place that it has come to."""
    behind = [Place(codec.whole(ms), run.decode()) for ms, run in ends if run]
    horizon = max(behind, default=None)
    # What lies behind the place that one call has come to is looked at again, with what that call has not seen yet.
    seen = sorted((row for row in rows if horizon is None or place(row) >= horizon), key=place, reverse=True)
    return (seen[:most], place(seen[most - 1])) if len(seen) > most else (seen, horizon)


def place_of(cursor: str | None) -> Place | None:
    """Return the place that a cursor tells; None for the first page. BadRequest for one that no page gave."""
    if not cursor:
        return None
    moment, _, run = cursor.partition("-")
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 15) or ulid_ms(run) is None:
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    return Place(int(moment), run)


def _calls(places: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    """Return the prefixes of functions in parts, each for one call of a script that reads."""
    return [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]


class _Stored(RunSummary):
    rerun_of: str = ""
    holds: str = ""
    reran: str = ""


_FIELDS = ("status", "queued", "started", "ended", "turn", "attempt", "crashes", "worker", "code", "source", "parent",
           "why", "by", "rerun_of", "holds", "reran")  # fmt: skip
"""The fields that the script reads, in its order."""


def _row(part: Sequence[tuple[str, str]], raw: Sequence[Any]) -> Row:
    """Return a run as the script tells of it, which was asked about some functions."""
    n, ms, run, event, error, output, *fields = raw
    return Row(Place(codec.whole(ms), run.decode()), part[int(n) - 1][0], fields, event, error, output)


async def lines_of(wire: Wire, rows: Sequence[Row]) -> list[RunLine]:
    """Return the lines of rows that have none yet; those that are gone meanwhile are left out."""
    found = await asyncio.gather(
        *(wire.look_script(_LINE, [keys.function(row.function, row.place.run)], row.place.run, LINE_BYTES, LINE_BYTES)
          for row in rows)
    )  # fmt: skip
    return [
        _line(row.place.run, row.function, raw[2:], raw[0], raw[1])
        for row, raw in zip(rows, found, strict=True)
        if raw is not None
    ]


def _line(run: str, slug: str, fields: Sequence[bytes | None], event: bytes, error: bytes) -> RunLine:
    stored = fields_read(_Stored, zip(_FIELDS, fields, strict=True))
    holds = stored.pop("holds", "")
    values = dict.fromkeys(shown_key(line.partition(":")[2]) for line in holds.split("\n"))
    return RunLine(
        id=run,
        function=slug,
        **stored,
        event_name=event_name_of(event),
        keys=tuple(filter(None, values)),
        error_line=_error_line(error),
    )


class _Named(msgspec.Struct):
    name: str = ""


def event_name_of(event: bytes) -> str:
    """Return the name of a stored event, of which the beginning is enough; empty when that has none."""
    found = _NAME.match(event)
    try:
        return codec.decode_as(found[1], str) if found else codec.decode_as(event, _Named).name
    except msgspec.MsgspecError:
        return ""


def error_name_of(error: bytes) -> str:
    """Return the name of a stored error, of which the beginning is enough; empty when that has none."""
    found = _ERROR.match(error)
    try:
        return codec.decode_as(found[1], str) if found else codec.decode_as(error, _Named).name
    except msgspec.MsgspecError:
        return ""


def _error_line(error: bytes) -> str:
    """Return the name of a stored error and the first line of its message, of which the beginning is enough."""
    found = _ERROR.match(error)
    if found is None:
        return ""
    message = found[2].decode(errors="ignore")
    for shorter in range(13):  # it may be cut within an escape, of which a pair of surrogates is the longest
        try:
            told = codec.decode_as(f'{message[: len(message) - shorter]}"', str)
            return f"{codec.decode_as(found[1], str)}: {told.strip().partition(chr(10))[0]}"[:_ERROR_CHARS]
        except msgspec.MsgspecError:
            continue
    return ""
