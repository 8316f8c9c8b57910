"""The front page: what is wrong, first; then each function with its last hour; then of what runs failed in it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.doctor import evicts
from stepstream.bus.wire.leases import consumer_worker
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.functions import FunctionFacts, function_facts
from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.facts.buckets import percentile, summed
from stepstream.checkpoint.facts.errors import ErrorGroup, errors_among
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute, marks_in
from stepstream.checkpoint.facts.workers import workers_told
from stepstream.checkpoint.registry import workers
from stepstream.checkpoint.run.record import ENDED, Record, read
from stepstream.web.live.feed import ALL
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.pages.trouble import Dead, Killer, Trouble, given_up, troubles
from stepstream.web.store import wire_of

HOUR = 60
"""Minutes of a strip."""
SHOWN_ERRORS = 20
DELAYED = 10
_MOST_DEAD = 20
"""Of how many dead workers it is looked up what is still in their hand."""
_HIGH = 22


class Bar(msgspec.Struct, frozen=True):
    """A minute of a strip, as heights: what started, and of what ended that which failed."""

    x: int
    started: float
    failed: float
    words: str


class Hour(msgspec.Struct, frozen=True):
    """The last hour of a function."""

    bars: tuple[Bar, ...] = ()
    started: int = 0
    completed: int = 0
    failed: int = 0
    share: str = ""
    """Which part of those that completed or failed failed."""
    half: str = ""
    most: str = ""
    """How long half of them took at most, and 95 of a hundred."""


class Row(msgspec.Struct, frozen=True):
    """A function of the list."""

    counts: views.FunctionRow
    workers: int
    hour: Hour
    in_line: str
    """How much waits to start, events that nobody has read too; empty: nothing does."""
    running: int
    words: str
    """What there is of each, in words."""


class Failures(msgspec.Struct, frozen=True):
    """An error of the last hour, of all functions that have it."""

    name: str
    frame: str
    message: str
    count: int
    functions: tuple[str, ...]
    first: int
    last: int
    run: str
    state: str
    query: str


class Delayed(msgspec.Struct, frozen=True):
    """An event that is to be published later."""

    name: str
    id: str
    due: int


class Overview(View, frozen=True):
    """The page `/`."""

    trouble: tuple[Trouble, ...]
    rows: tuple[Row, ...]
    workers: int
    failures: tuple[Failures, ...]
    more_failures: int
    delayed: tuple[Delayed, ...]


async def _read(request: Request) -> Overview:
    wire = wire_of(request)
    facts, dead = await asyncio.gather(function_facts(wire), _dead(wire))
    minutes = [minute for one in facts for minute in one.minutes]
    now, errors, unfit, later, everybody = await asyncio.gather(
        wire.moment(),
        errors_among(wire, marks_in(minutes)),
        evicts(wire),
        list_delayed(wire, limit=DELAYED),
        workers(wire),
    )
    hours = {one.function.slug: hour(one.minutes, now) for one in facts}
    failed = failed_of(hours, errors, minutes)
    trouble = [] if unfit is None else [Trouble("bad", f"{unfit.check}: {unfit.found}", unfit.do)]
    trouble += given_up([one for one in errors if one.last > now - HOUR * MINUTE_MS])
    trouble += troubles(facts, failed, dead, now_ms())
    failures = failures_of(errors, minutes)
    rows = views.rows([one.function for one in facts], {one.function.slug: one.runs for one in facts})
    return Overview(
        trouble=tuple(trouble),
        rows=tuple(_row(row, one, hours[row.slug]) for row, one in zip(rows, facts, strict=True)),
        workers=len(everybody),
        failures=tuple(failures[:SHOWN_ERRORS]),
        more_failures=max(0, len(failures) - SHOWN_ERRORS),
        delayed=tuple(Delayed(one.name, one.id, one.due) for one in later),
        topic=ALL.text,
    )


def failed_of(
    hours: Mapping[str, Hour], errors: Sequence[ErrorGroup], minutes: Sequence[Minute]
) -> dict[str, tuple[int, int]]:
    """Return how many runs of each function failed and ended; those whose error is resolved or muted do not count."""
    settled = {(one.function, one.fingerprint) for one in errors if one.state != "open"}
    out = Counter[str]()
    for minute in minutes:
        for mark, times in minute.errors.items():
            if (minute.function, mark) in settled:
                out[minute.function] += times
    return {
        slug: (max(0, one.failed - out[slug]), one.completed + max(0, one.failed - out[slug]))
        for slug, one in hours.items()
    }


def _row(row: views.FunctionRow, one: FunctionFacts, hour: Hour) -> Row:
    least = "" if one.unread.exact else "≥ "
    in_line, running = f"{least}{one.backlog:,}" if one.backlog else "", one.runs["running"]
    told = ((in_line, "in line"), (running, "running"), (row.waiting, "waiting"), (row.failed, "failed"))
    words = " · ".join(f"{count} {word}" for count, word in told if count)
    return Row(row, one.workers, hour, in_line, running, words or "nothing under way")


class _InHand(Record):
    status: str = ""
    worker: str = ""
    crashes: int = 0


async def _dead(wire: Wire) -> list[Dead]:
    """Return the workers that are gone, with what is still in their hand."""
    gone = [one for one in await workers_told(wire) if not one.alive][:_MOST_DEAD]
    held = [(each.function, each.run) for one in gone for each in one.held]
    rows = await read(wire, _InHand, held) if held else []
    there = {row.id: row for row in rows if row is not None}
    still = {id: row for id, row in there.items() if row.status == "running"}
    killed = {id: row for id, row in there.items() if row.crashes and row.status not in ENDED}
    return [
        Dead(one, Counter(each.function for each in one.held if each.run in still
                          and consumer_worker(still[each.run].worker) == one.name),
             tuple(Killer(row.function, row.id, row.crashes) for each in one.held if (row := killed.get(each.run))))
        for one in gone
    ]  # fmt: skip


def hour(minutes: Sequence[Minute], now: int) -> Hour:
    """Return the last hour of a function from its minutes."""
    if not minutes:
        return Hour()
    first = now // MINUTE_MS - HOUR + 1
    highest = max(max(one.started, one.completed + one.failed + one.cancelled) for one in minutes) or 1
    bars = tuple(
        Bar(
            x=one.at // MINUTE_MS - first,
            started=_height(one.started, highest),
            failed=_height(one.failed, highest),
            words=f"{one.started} started, {one.completed} completed, {one.failed} failed",
        )
        for one in minutes
        if one.at // MINUTE_MS >= first
    )
    completed, failed = sum(one.completed for one in minutes), sum(one.failed for one in minutes)
    took = summed(one.took for one in minutes)
    half, most = percentile(took, 0.5), percentile(took, 0.95)
    return Hour(
        bars,
        sum(one.started for one in minutes),
        completed,
        failed,
        f"{failed / (completed + failed):.1%}" if failed else "",
        in_words(half) if half is not None else "",
        in_words(most) if most is not None else "",
    )


def _height(count: int, highest: int) -> float:
    """Return how high a bar is; what there is is seen."""
    return round(max(1.5, _HIGH * count / highest), 1) if count else 0


def failures_of(errors: Sequence[ErrorGroup], minutes: Sequence[Minute]) -> list[Failures]:
    """Return the errors of the last hour, those that came most often first; muted ones are left out."""
    count: Counter[tuple[str, str]] = Counter()
    for minute in minutes:
        for mark, times in minute.errors.items():
            count[minute.function, mark] += times
    groups: dict[str, list[ErrorGroup]] = {}
    for one in errors:
        if count[one.function, one.fingerprint] and one.state != "muted":
            groups.setdefault(one.fingerprint, []).append(one)
    found: list[Failures] = []
    for several in groups.values():
        newest = max(several, key=lambda one: one.last)
        slugs = tuple(sorted({one.function for one in several}))
        pairs = [("status", "failed"), ("error", newest.fingerprint)]
        pairs += [*(("function", slug) for slug in slugs), ("since", "1h")]
        found.append(
            Failures(
                newest.name, newest.frame, newest.message,
                sum(count[one.function, one.fingerprint] for one in several), slugs,
                min(one.first for one in several), newest.last, newest.run, newest.state, f"?{urlencode(pairs)}",
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.count, -one.last))


routes = [page("/", "overview", _read)]
