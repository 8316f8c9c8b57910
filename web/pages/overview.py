"""The front page: what is wrong, first; then each function with its last hour; then of what runs failed in it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.errors import listed
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.doctor import evicts
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.facts.buckets import percentile, summed
from stepstream.checkpoint.facts.errors import ErrorGroup, errors_of
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute, minutes_of
from stepstream.checkpoint.read.lists.pulse import oldest_queued
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.registry import functions, workers, workers_of
from stepstream.web.live.feed import ALL
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

HOUR = 60
"""Minutes of a strip."""
SHOWN_ERRORS = 20
DELAYED = 10
_LATE_MS = 60_000
"""How long a run may be queued before the page says so."""
_FEW, _SHARE = 3, 0.1
"""So many runs of an hour, and this share of those that ended, must have failed for a function to be in trouble."""
_NAMED = 4
_HIGH = 22


class Trouble(msgspec.Struct, frozen=True):
    """A line of what is wrong: how bad (`bad` or `wait`), in words, what to do, and where it leads."""

    how: str
    words: str
    do: str = ""
    function: str = ""
    run: str = ""


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
    known = await functions(wire)
    slugs = [function.slug for function in known]
    now = await wire.moment()
    how_many, minutes, errors, oldest = await asyncio.gather(
        counts(wire, slugs),
        minutes_of(wire, slugs, now - HOUR * MINUTE_MS, now),
        errors_of(wire, slugs),
        oldest_queued(wire, slugs),
    )
    at_work, unfit, later, everybody = await asyncio.gather(
        _workers(wire, slugs), evicts(wire), list_delayed(wire, limit=DELAYED), workers(wire)
    )
    hours = {slug: hour([one for one in minutes if one.function == slug], now) for slug in slugs}
    trouble = [] if unfit is None else [Trouble("bad", f"{unfit.check}: {unfit.found}", unfit.do)]
    trouble += troubles(known, how_many, at_work, oldest, hours, now_ms())
    failures = failures_of(errors, minutes)
    rows = views.rows(known, how_many)
    return Overview(
        trouble=tuple(trouble),
        rows=tuple(Row(row, at_work[row.slug], hours[row.slug]) for row in rows),
        workers=len(everybody),
        failures=tuple(failures[:SHOWN_ERRORS]),
        more_failures=max(0, len(failures) - SHOWN_ERRORS),
        delayed=tuple(Delayed(one.name, one.id, one.due) for one in later),
        topic=ALL.text,
    )


async def _workers(wire: Wire, slugs: Sequence[str]) -> dict[str, int]:
    found = await asyncio.gather(*(workers_of(wire, slug) for slug in slugs))
    return dict(zip(slugs, found, strict=True))


def troubles(
    known: Sequence[Registered],
    how_many: Mapping[str, Mapping[str, int]],
    at_work: Mapping[str, int],
    oldest: Mapping[str, tuple[int, str]],
    hours: Mapping[str, Hour],
    now: int,
) -> list[Trouble]:
    """Return what is wrong with functions: first what nobody serves, what waits longest, then what fails."""
    found: list[Trouble] = []
    idle = [one.slug for one in known if not at_work[one.slug]]
    stuck = [slug for slug in idle if any(how_many[slug][word] for word in ("queued", "running", "waiting"))]
    for slug in stuck:
        count = sum(how_many[slug][word] for word in ("queued", "running", "waiting"))
        told = f"no worker serves {slug}: {count} run{'' if count == 1 else 's'} cannot go on"
        found.append(Trouble("bad", told, "start one: bus worker APP", slug))
    late = sorted((queued, slug, run) for slug, (queued, run) in oldest.items() if now - queued > _LATE_MS)
    for queued, slug, run in late[:_NAMED]:
        told = f"the oldest queued run of {slug} has waited for {in_words(now - queued)}"
        found.append(Trouble("bad" if slug in stuck else "wait", told, "its page says for what", slug, run))
    failing = [(hours[one.slug].failed, one.slug) for one in known if _fails(hours[one.slug])]
    for _, slug in sorted(failing, reverse=True):
        hour = hours[slug]
        ended = hour.completed + hour.failed
        found.append(Trouble("bad", f"{hour.failed} of {ended} runs of {slug} failed in the last hour", "", slug))
    unused = [slug for slug in idle if slug not in stuck]
    if unused:
        told = f"no worker serves {listed(unused, _NAMED)}"
        found.append(Trouble("wait", told, "start one: bus worker APP; if it is no more: bus functions forget SLUG"))
    return found


def _fails(hour: Hour) -> bool:
    return hour.failed >= _FEW and hour.failed >= _SHARE * (hour.failed + hour.completed)


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
