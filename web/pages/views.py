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
from stepstream.checkpoint.read.log import RunLog
from stepstream.checkpoint.read.steps import StepView, in_words_of
from stepstream.checkpoint.registry import Registered
from stepstream.checkpoint.run.record import Run, RunSummary
from stepstream.web.live.feed import Topic
from stepstream.web.pages.page import View

SHOWN_CHARS = 16_384
"""How much of a payload a page shows; the rest is in the API."""

SHOWN_LINES = 200
"""How many of the newest lines of a run's log its page shows."""

_EMPTY = RunLog([])
_LEAST_BAR = 4.0
_FAR_MS = 300 * 86_400_000


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


class Bar(msgspec.Struct, frozen=True):
    """A step in the waterfall: where its bar begins and how wide it is, in thousandths of the run's time.

    `waited` is the width of what came before the last attempt: earlier attempts and the waits between them.
    """

    id: str
    kind: str
    state: str
    attempts: int
    left: float
    width: float
    waited: float
    took: str
    note: str
    child: str
    result: Text | None


class LogRow(msgspec.Struct, frozen=True):
    """A line of a run's log."""

    at: str
    step: str
    source: str
    level: str
    text: str


class RunPage(View, frozen=True):
    """The page `/runs/{id}`."""

    id: str
    function: str
    status: str
    queued: str
    took: str
    waited: str
    turn: int
    attempt: int
    worker: str
    event_name: str
    event_id: str
    event_data: Text | None
    steps: tuple[Bar, ...]
    output: Text | None
    error_name: str
    error_message: str
    error_stack: Text | None
    error_is_final: bool
    percent: float | None
    progress: str
    source: str
    parent: str
    rerun_of: str
    why: str
    by: str
    log: tuple[LogRow, ...]
    log_before: int


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


def run_page(run: Run, steps: Sequence[StepView], now: int, written: RunLog = _EMPTY) -> RunPage:
    """Return the page of a run: its event, its steps as a waterfall, its log, its output or error."""
    begin = min([run.started or run.queued, *(step.since for step in steps)])
    finish = max(run.ended or now, begin + 1)
    if run.ended is None:
        # A wait of days must not squeeze the past into one pixel: the time to come gets a third of the width at most.
        latest = max((step.due or 0 for step in steps), default=0)
        finish = max(finish, min(latest, round(finish + (finish - begin) / 2)))
    event = _event(run.event)
    error = run.error
    progress = _progress(run.progress)
    return RunPage(
        id=run.id,
        function=run.function,
        status=run.status,
        queued=when(run.queued),
        took=_took(run, now),
        waited=_waited(run),
        turn=run.turn,
        attempt=run.attempt,
        worker=run.worker if run.status == "running" else "",
        event_name=event.name,
        event_id=event.id,
        event_data=shown(event.data) if bytes(event.data) else None,
        steps=tuple(_bar(step, begin, finish, now) for step in steps),
        output=shown(run.output) if run.status == "completed" else None,
        error_name=error.name if error else "",
        error_message=error.message if error else "",
        error_stack=shown(error.stack) if error and error.stack else None,
        error_is_final=run.has_ended,
        topic="" if run.has_ended else Topic(run.function, run.id).text,
        percent=progress.percent,
        progress=", ".join(f"{name} {value}" for name, value in progress.more.items()),
        source=run.source,
        parent=run.parent.split("|")[1] if run.parent.count("|") >= 2 else "",
        rerun_of=run.rerun_of,
        why=run.why.replace("_", " "),
        by=run.by,
        log=tuple(LogRow(when(one.at), one.step, one.source, one.level, one.text) for one in written.lines),
        log_before=written.dropped,
    )


class _Progress(msgspec.Struct):
    percent: float | None = None
    more: dict[str, object] = {}


def _progress(raw: Raw | None) -> _Progress:
    try:
        fields: dict[str, object] = codec.decode_as(raw, dict[str, object]) if raw is not None else {}
    except msgspec.MsgspecError:
        return _Progress()
    percent: object = fields.pop("percent", None)
    return _Progress(float(percent), fields) if isinstance(percent, int | float) else _Progress()


class _Event(msgspec.Struct):
    id: str = ""
    name: str = ""
    data: Raw = Raw(b"")


def _event(raw: Raw | None) -> _Event:
    """Return a run's event; one that cannot be decoded is shown as text."""
    if raw is None:
        return _Event()
    try:
        return codec.decode_as(raw, _Event)
    except msgspec.MsgspecError:
        return _Event(data=raw)


def _bar(step: StepView, begin: int, finish: int, now: int) -> Bar:
    scale = 1_000 / (finish - begin)
    until = step.ended or step.due or now
    left = min(1_000 - _LEAST_BAR, (step.since - begin) * scale)
    waited = (step.started - step.since) * scale
    width = max(_LEAST_BAR, min(1_000 - left - waited, (until - step.started) * scale))
    note = ""
    if step.due is not None:
        note = f"{'tries again' if step.state == 'retrying' else 'due'} in {in_words(max(0, step.due - now))}"
    what = step.waits_for
    if what is not None:
        note = in_words_of(what, still=step.ended is None)
        if step.due is not None and step.due - now < _FAR_MS:
            note += f", at most {in_words(max(0, step.due - now))} more"
    if step.error is not None:
        note = f"{step.error.name}: {step.error.message[:200]}{f' · {note}' if note else ''}"
    return Bar(
        id=step.id,
        kind=step.kind,
        state=step.state,
        attempts=step.attempts,
        left=round(left, 1),
        width=round(width, 1),
        waited=round(waited, 1),
        took=in_words(step.ended - step.started) if step.ended is not None else "",
        note=note,
        child=what.run if what is not None else "",
        result=shown(step.data) if step.kind != "sleep" else None,
    )
