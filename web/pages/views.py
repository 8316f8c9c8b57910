"""Views: what the pages show, as plain values, so that it can be tested without HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.checkpoint.limits.backlogs import Backlog, Backlogs, Buffer
from stepstream.checkpoint.read.listing import RunLine
from stepstream.checkpoint.registry import Registered
from stepstream.checkpoint.run.record import RunSummary
from stepstream.web.live.feed import Topic
from stepstream.web.pages.page import View

SHOWN_CHARS = 16_384
"""How much of a payload a page shows; the rest is in the API."""


class Text(msgspec.Struct, frozen=True):
    """A payload as a page shows it; `cut` says how long it was when it had to be cut."""

    text: str
    cut: str = ""


class FunctionRow(msgspec.Struct, frozen=True):
    """A function with its triggers and how many runs it has."""

    slug: str
    name: str
    on: tuple[str, ...]
    active: int
    waiting: int
    completed: int
    failed: int


class RunRow(msgspec.Struct, frozen=True):
    """A run in a list."""

    id: str
    function: str
    status: str
    queued: int
    waited: str
    took: str
    why: str = ""
    ago: str = ""
    event: str = ""
    keys: tuple[str, ...] = ()
    error: str = ""


class LineRow(msgspec.Struct, frozen=True):
    """The backlog of one limit key: the key's value, and the limit in words."""

    key: str
    rule: str
    waiting: int
    running: int


class FunctionPage(View, frozen=True):
    """The page `/functions/{slug}`."""

    slug: str
    name: str
    on: tuple[str, ...]
    limits: tuple[str, ...]
    retries: int
    counts: tuple[tuple[str, int], ...]
    workers: int
    lines: tuple[LineRow, ...]
    more_lines: int
    buffers: tuple[str, ...]
    disagreements: tuple[str, ...]
    runs: tuple[RunRow, ...]


def shown(raw: Raw | str | None) -> Text | None:
    """Return JSON indented, cut at 16,384 characters."""
    if raw is None:
        return None
    source = raw if isinstance(raw, str) else bytes(raw)
    text = (
        codec.pretty(source)
        if len(source) <= 4 * SHOWN_CHARS
        else str(source, "utf-8", "replace")
        if isinstance(source, bytes)
        else source
    )
    if len(text) <= SHOWN_CHARS:
        return Text(text)
    return Text(text[:SHOWN_CHARS], f"{len(source):,} bytes; the first {SHOWN_CHARS:,} characters are shown")


def when(ms: int | None) -> str:
    """Return a moment as text, UTC, to the millisecond."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def rows(functions: Sequence[Registered], counts: dict[str, dict[str, int]]) -> tuple[FunctionRow, ...]:
    """Return functions with their counts; what is queued counts as active."""
    return tuple(
        FunctionRow(
            slug=function.slug,
            name=function.name,
            on=function.on,
            active=counts[function.slug]["running"] + counts[function.slug]["queued"],
            waiting=counts[function.slug]["waiting"],
            completed=counts[function.slug]["completed"],
            failed=counts[function.slug]["failed"],
        )
        for function in functions
    )


def listed(runs: Sequence[RunSummary], now: int) -> tuple[RunRow, ...]:
    """Return runs as a list shows them."""
    return tuple(_row(run, now) for run in runs)


def _row(run: RunSummary, now: int) -> RunRow:
    more = (run.event_name, run.keys, run.error_line) if isinstance(run, RunLine) else ("", (), "")
    ago = f"{in_words(max(0, now - run.queued))} ago"
    return RunRow(run.id, run.function, run.status, run.queued, _waited(run), _took(run, now), run.why, ago, *more)


def function_page(
    function: Registered,
    counts: dict[str, int],
    found: Backlogs,
    workers: int,
    runs: Sequence[RunSummary],
    now: int,
    apart: Sequence[Disagreement] = (),
) -> FunctionPage:
    """Return the page of a function: its limits, its backlogs, its latest runs."""
    return FunctionPage(
        slug=function.slug,
        name=function.name,
        on=function.on,
        limits=function.flow,
        retries=function.retries,
        counts=tuple((status, count) for status, count in counts.items() if count),
        workers=workers,
        lines=tuple(_line(line, function.flow) for line in found.backlogs),
        more_lines=found.keys - len(found.backlogs),
        buffers=tuple(_buffer(held, now) for held in found.buffers),
        disagreements=tuple(one.words for one in apart),
        runs=listed(runs, now),
        topic=Topic(function.slug).text,
    )


def _line(line: Backlog, limits: Sequence[str]) -> LineRow:
    """Return a backlog with its limit in words and its key as the event has it."""
    kind, _, value = line.key.partition(":")
    if kind == "t":
        rule = next((words for words in limits if " starts in " in words), "")
    else:
        rule = limits[int(kind[1])] if kind[1:2].isdecimal() and int(kind[1]) < len(limits) else ""
    return LineRow(unquote(value), rule, line.waiting, line.running)


def _buffer(held: Buffer, now: int) -> str:
    kind, _, key = held.key.partition(":")
    when_due = f"in {in_words(max(0, held.due - now))}"
    named = f" for {unquote(key)}" if key else ""
    if kind == "b":
        return f"a batch of {held.events}{named} runs {when_due}, or when it is full"
    return f"an event{named} is held back; it runs {when_due}, if no other comes"


def _waited(run: RunSummary) -> str:
    return "" if run.started is None else in_words(max(0, run.started - run.queued))


def _took(run: RunSummary, now: int) -> str:
    if run.started is None:
        return ""
    return in_words(max(0, (run.ended or now) - run.started))
