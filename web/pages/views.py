"""Views: what the pages show, as plain values, so that it can be tested without HTTP."""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from stepstream.bus.values import codec
from stepstream.bus.values.clock import utc
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.read.lists.runs import RunLine
from stepstream.checkpoint.registry import Registered
from stepstream.checkpoint.run.record import RunSummary
from stepstream.web.trust.hiding import hide

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


def shown(raw: Raw | str | None) -> Text | None:
    """Return JSON indented, cut at 16,384 characters, without what is hidden from the one who asks."""
    if raw is None:
        return None
    raw = hide(raw)
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
    return utc(ms).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


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
    more = (run.event_name, run.keys, hide(run.error_line)) if isinstance(run, RunLine) else ("", (), "")
    ago = f"{in_words(max(0, now - run.queued))} ago"
    return RunRow(run.id, run.function, run.status, run.queued, _waited(run), _took(run, now), run.why, ago, *more)


def _waited(run: RunSummary) -> str:
    return "" if run.started is None else in_words(max(0, run.started - run.queued))


def _took(run: RunSummary, now: int) -> str:
    if run.started is None:
        return ""
    return in_words(max(0, (run.ended or now) - run.started))
