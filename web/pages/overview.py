"""The front page: what is wrong, first; then each function with its last hour; then of what runs failed in it."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.functions import HOUR, FunctionFacts
from stepstream.checkpoint.at_work.overview import Failures, look_over
from stepstream.checkpoint.at_work.redis_cli import of_overview
from stepstream.checkpoint.at_work.trouble import Trouble
from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.facts.buckets import percentile, summed
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute
from stepstream.checkpoint.registry import workers
from stepstream.web.live.feed import ALL
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hide

SHOWN_ERRORS = 20
DELAYED = 10
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
    """About how long half of them took at most, and 95 of a hundred."""

    @property
    def started_drawn(self) -> str:
        """The bars of what started, as a path: one element and not sixty, of each function, at each refresh."""
        return "".join(f"M{4 * bar.x} 23v-{bar.started}h3v{bar.started}z" for bar in self.bars if bar.started)

    @property
    def failed_drawn(self) -> str:
        """The bars of what failed."""
        return "".join(f"M{4 * bar.x} 23v-{bar.failed}h3v{bar.failed}z" for bar in self.bars if bar.failed)


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


class FailureRow(msgspec.Struct, frozen=True):
    """An error of the last hour, and the query of its runs."""

    error: Failures
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
    failures: tuple[FailureRow, ...]
    more_failures: int
    delayed: tuple[Delayed, ...]


async def _read(request: Request) -> Overview:
    wire = wire_of(request)
    look, later, everybody = await asyncio.gather(look_over(wire), list_delayed(wire, limit=DELAYED), workers(wire))
    rows = views.rows([one.function for one in look.facts], {one.function.slug: one.runs for one in look.facts})
    return Overview(
        trouble=tuple(hide(look.trouble)),
        rows=tuple(_row(row, one, hour(one.minutes, look.at)) for row, one in zip(rows, look.facts, strict=True)),
        workers=len(everybody),
        failures=tuple(FailureRow(one, runs_of(one)) for one in hide(look.failures[:SHOWN_ERRORS])),
        more_failures=max(0, len(look.failures) - SHOWN_ERRORS),
        delayed=tuple(Delayed(one.name, one.id, one.due) for one in later),
        looks=tuple(of_overview([one.function.slug for one in look.facts])),
        topic=ALL.text,
    )


def runs_of(one: Failures) -> str:
    """Return the query of the runs that failed of an error in the last hour."""
    pairs = [("status", "failed"), ("error", one.fingerprint)]
    return f"?{urlencode([*pairs, *(('function', slug) for slug in one.functions), ('since', '1h')])}"


def _row(row: views.FunctionRow, one: FunctionFacts, hour: Hour) -> Row:
    least = "" if one.unread.exact else "≥ "
    in_line, running = f"{least}{one.backlog:,}" if one.backlog else "", one.runs["running"]
    told = ((in_line, "in line"), (running, "running"), (row.waiting, "waiting"), (row.failed, "failed"))
    words = " · ".join(f"{count} {word}" for count, word in told if count)
    return Row(row, one.workers, hour, in_line, running, words or "nothing under way")


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
        _about(half),
        _about(most),
    )


def _about(took: float | None) -> str:
    """Return a percentile in words: it is told by a histogram's buckets, and is not exact."""
    return "" if took is None else f"~{in_words(took)}"


def _height(count: int, highest: int) -> float:
    """Return how high a bar is; what there is is seen."""
    return round(max(1.5, _HIGH * count / highest), 1) if count else 0


routes = [page("/", "overview", _read)]
