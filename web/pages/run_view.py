"""The page of a run as plain values: verdict, its time as bars, each step with what it got and gave, history."""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.redis_cli import of_run
from stepstream.checkpoint.facts.attempts import FailedAttempt
from stepstream.checkpoint.read.run.log import RunLog
from stepstream.checkpoint.read.run.steps import StepView, in_words_of
from stepstream.checkpoint.read.run.trace import Trace
from stepstream.checkpoint.run.record import Run
from stepstream.web.live.feed import Topic
from stepstream.web.pages.one_run.kin import Relatives
from stepstream.web.pages.one_run.stack import Stack, told
from stepstream.web.pages.one_run.zoom import Zoom, zoom_of
from stepstream.web.pages.page import View
from stepstream.web.pages.views import Text, shown, when
from stepstream.web.pages.waterfall import WAITS, Part, Scale, Window, scale_of, ticks_of

SHOWN_LINES = 200
"""How many of the newest lines of a run's log its page shows."""
SHOWN_STEPS = 300
SHOWN_EVENTS = 20
_EMPTY = RunLog([])
_FAR_MS = 300 * 86_400_000


class Attempt(msgspec.Struct, frozen=True):
    """An attempt that failed: which, when it ended (Unix ms), how long it took, of what it failed, and its bar."""

    number: int
    ended: int
    took: str
    name: str
    message: str
    stack: Stack | None
    part: Part


class Bar(msgspec.Struct, frozen=True):
    """A step: its bar, in thousandths of the run's time, and its panel.

    `waited` is the width of what came before the last attempt: earlier attempts (`tries`) and the waits between them.
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
    what: Text | None = None
    tries: tuple[Part, ...] = ()
    failed: tuple[Attempt, ...] = ()
    signal: str = ""
    """The signal it waits for, which the page can send."""
    event: str = ""
    """The name of the event it waits for, which the page of that name can send."""
    is_finished: bool = False


class LogRow(msgspec.Struct, frozen=True):
    """A line of a run's log."""

    at: str
    step: str
    source: str
    level: str
    text: str


class Moment(msgspec.Struct, frozen=True):
    """A line of a run's history."""

    at: int
    words: str
    state: str = ""
    step: str = ""


class RunPage(View, frozen=True):
    """The page `/runs/{id}`."""

    id: str
    function: str
    status: str
    queued: int
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
    error_stack: Stack | None
    error_is_final: bool
    percent: float | None
    progress: str
    source: str
    parent: str
    rerun_of: str
    reran: str
    why: str
    by: str
    trace: str
    trace_url: str
    log: tuple[LogRow, ...]
    log_before: int
    verdict: str
    run_bar: tuple[Part, ...]
    """When it was queued, then when it ran."""
    tries: tuple[Part, ...]
    breaks: tuple[Part, ...]
    failed: tuple[Attempt, ...]
    """Attempts of the code between its steps."""
    more_steps: int
    members: tuple[tuple[str, str], ...]
    """The events of its batch, by name and id."""
    more_members: int
    history: tuple[Moment, ...]
    code: str
    code_now: str
    restarts: tuple[str, ...]
    """The steps from which it can be run again."""
    input: str
    """Its event's data, to be edited; empty when it is too long for that, or has a large result in it."""
    kin: tuple[Relatives, ...]
    has_all_kin: bool
    """Whether who came later was looked for, too: reruns, and the runs of its batch."""
    may_have_more_kin: bool
    ticks: tuple[str, ...]
    """What time it is along the bars, since it was queued."""
    closer: str
    """The step that is looked at more closely."""
    zoom: Zoom


def run_page(
    run: Run,
    steps: Sequence[StepView],
    now: int,
    written: RunLog = _EMPTY,
    *,
    attempts: Sequence[FailedAttempt] = (),
    verdict: str = "",
    code_now: str = "",
    event_is_whole: bool = True,
    kin: Sequence[Relatives] = (),
    later_kin: bool | None = None,
    closer: str = "",
    window: Window | None = None,
    trace: Trace | None = None,
) -> RunPage:
    """Return the page of a run: what is to say of it, its steps as a waterfall, its event, its log, how it ended.

    `event_is_whole`: its event has no large result that is kept in the store, of which only the size is shown.
    `closer` is a step that is looked at more closely, `window` a part of its time. `later_kin`: whether there may be
    more who came later; None when nobody has looked.
    """
    near = next((step for step in steps if step.id == closer), None) if closer else None
    window = _window(near, now) if near is not None else window
    scale = scale_of(run.queued, run.ended, now, steps, attempts, window)
    event, several = _events(run.event)
    error = run.error
    progress = _progress(run.progress)
    began = run.started or (run.ended or now)
    data = shown(event.data) if bytes(event.data) else None
    return RunPage(
        id=run.id,
        function=run.function,
        status=run.status,
        queued=run.queued,
        took=in_words(max(0, (run.ended or now) - run.started)) if run.started is not None else "",
        waited=in_words(max(0, run.started - run.queued)) if run.started is not None else "",
        turn=run.turn,
        attempt=run.attempt,
        worker=run.worker if run.status == "running" else "",
        event_name=event.name,
        event_id=event.id,
        event_data=data,
        steps=tuple(_bar(step, scale, now, _of(attempts, step.id)) for step in steps[:SHOWN_STEPS]),
        output=shown(run.output) if run.status == "completed" else None,
        error_name=error.name if error else "",
        error_message=error.message if error else "",
        error_stack=told(error.stack) if error and error.stack else None,
        error_is_final=run.has_ended,
        topic="" if run.has_ended else Topic(run.function, run.id).text,
        percent=progress.percent,
        progress=", ".join(f"{name} {value}" for name, value in progress.more.items()),
        source=run.source,
        parent=run.parent.split("|")[1] if run.parent.count("|") >= 2 else "",
        rerun_of=run.rerun_of,
        reran=run.reran,
        why=run.why.replace("_", " "),
        by=run.by,
        log=tuple(LogRow(when(one.at), one.step, one.source, one.level, one.text) for one in written.lines),
        log_before=written.dropped,
        verdict=verdict,
        run_bar=(
            scale.part(run.queued, began, f"queued for {in_words(max(0, began - run.queued))}"),
            scale.part(began, run.ended or now, f"{'ran' if run.ended else 'runs'} since it was started"),
        ),
        tries=tuple(_try(one, scale) for one in _of(attempts, "")),
        breaks=scale.breaks,
        failed=tuple(_attempt(one, scale) for one in _of(attempts, "")),
        more_steps=max(0, len(steps) - SHOWN_STEPS),
        members=tuple((one.name, one.id) for one in several[:SHOWN_EVENTS]) if len(several) > 1 else (),
        more_members=max(0, len(several) - SHOWN_EVENTS),
        history=_history(run, steps, attempts),
        trace=trace.id if trace is not None and trace.is_of_use else "",
        trace_url=trace.url if trace is not None else "",
        code=run.code,
        code_now=code_now,
        looks=tuple(of_run(run.function, run.id)),
        restarts=tuple(step.id for step in steps if step.ended is not None and step.kind != "unreadable"),
        input=data.text if data is not None and not data.cut and event_is_whole else "",
        kin=tuple(kin),
        has_all_kin=later_kin is not None,
        may_have_more_kin=bool(later_kin),
        ticks=ticks_of(scale, run.queued),
        closer=closer if near is not None else "",
        zoom=zoom_of(scale),
    )


def _window(step: StepView, now: int) -> Window:
    """Return the time of a step, with a little around it."""
    end = max(step.since + 1, step.ended or step.due or now)
    around = max(1, (end - step.since) // 50)
    return Window(step.since - around, end + around)


def _of(attempts: Sequence[FailedAttempt], step: str) -> list[FailedAttempt]:
    return [one for one in attempts if one.step == step]


def _try(one: FailedAttempt, scale: Scale) -> Part:
    words = f"attempt {one.attempt} failed after {in_words(one.ended - one.began)}: {one.error.told()[:200]}"
    return scale.part(one.began, one.ended, words)


def _attempt(one: FailedAttempt, scale: Scale) -> Attempt:
    error = one.error
    stack, took = told(error.stack) if error.stack else None, in_words(one.ended - one.began)
    return Attempt(one.attempt, one.ended, took, error.name, error.message, stack, _try(one, scale))


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


def _events(raw: Raw | None) -> tuple[_Event, list[RawEvent]]:
    """Return a run's event, and all of its batch; one that cannot be decoded is shown as text."""
    if raw is None:
        return _Event(), []
    try:
        event = codec.decode_as(raw, _Event)
    except msgspec.MsgspecError:
        return _Event(data=raw), []
    try:
        return event, codec.decode_as(raw, RawEvent).several()
    except ValueError:
        return event, []


def _bar(step: StepView, scale: Scale, now: int, attempts: Sequence[FailedAttempt]) -> Bar:
    is_wait = step.kind in WAITS
    until = step.ended or step.due or now
    began = step.since if is_wait else step.started
    before, span = scale.part(step.since, began), scale.part(began, until)
    what = step.waits_for
    last = [_final(step, scale)] if step.error is not None and step.ended is not None else []
    return Bar(
        id=step.id,
        kind=step.kind,
        state=step.state,
        attempts=step.attempts,
        left=min(before.left, span.left),
        width=span.width,
        waited=round(max(0.0, span.left - before.left), 1),
        took=in_words(max(0, step.ended - began)) if step.ended is not None else "",
        note=_note(step, now),
        child=what.run if what is not None else "",
        result=shown(step.data) if step.kind != "sleep" else None,
        what=shown(step.what) if step.what is not None and what is None else None,
        tries=tuple(_try(one, scale) for one in attempts),
        failed=(*(_attempt(one, scale) for one in attempts), *last),
        signal=what.signal if what is not None and step.ended is None else "",
        event=what.event if what is not None and step.ended is None else "",
        is_finished=step.ended is not None,
    )


def _final(step: StepView, scale: Scale) -> Attempt:
    """Return the attempt of which a step has failed for good."""
    error = step.error
    assert error is not None
    ended = step.ended or step.started
    failed = FailedAttempt(step.id, step.attempts, step.started, max(step.started, ended), error)
    return _attempt(failed, scale)


def _note(step: StepView, now: int) -> str:
    """Return in words what a step waits or waited for, and of what it failed."""
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
    return note


def _history(run: Run, steps: Sequence[StepView], attempts: Sequence[FailedAttempt]) -> tuple[Moment, ...]:
    """Return what happened to a run, one line each, in order."""
    found = [Moment(run.queued, "queued", "queued")]
    if run.started is not None:
        found.append(Moment(run.started, "started", "running"))
    for step in steps[:SHOWN_STEPS]:
        found.append(Moment(step.since, "began", step="" if step.kind == "unreadable" else step.id))
        if step.ended is not None:
            took = in_words(max(0, step.ended - (step.since if step.kind in WAITS else step.started)))
            found.append(Moment(step.ended, f"{step.state.replace('_', ' ')} after {took}", step.state, step.id))
    found += [
        Moment(one.ended, f"attempt {one.attempt} failed: {one.error.told()[:200]}", "retrying", one.step)
        for one in attempts
    ]
    found.sort(key=lambda one: one.at)
    if run.ended is not None:
        found.append(Moment(run.ended, run.status, run.status))
    return tuple(found)
