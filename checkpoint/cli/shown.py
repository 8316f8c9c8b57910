"""Shown: what one run looks like at the terminal: its event, its steps, its end, its log."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from stepstream.bus.encryption import sealing
from stepstream.bus.event import RawEvent
from stepstream.bus.process.terminal import plain, say
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.cli.printing import Cell, clock, print_table, terminal, text, took_of, word, words
from stepstream.checkpoint.facts.attempts import FailedAttempt
from stepstream.checkpoint.read.run.log import RunLog
from stepstream.checkpoint.read.run.steps import StepView, in_words_of
from stepstream.checkpoint.read.run.trace import trace_of_run
from stepstream.checkpoint.read.run.verdict import Verdict
from stepstream.checkpoint.run.log import Line
from stepstream.checkpoint.run.record import Run

_SHOWN_DATA = 400
_SHOWN_EVENTS = 3
_SHOWN_STEPS = 40


def show(
    found: Run, told: Verdict, its_steps: list[StepView], attempts: Sequence[FailedAttempt] = (), trace_url: str = ""
) -> None:
    """Print a run, what there is to say of it, a line for each of its steps, and what it returned or failed of.

    `trace_url` is BUS_TRACE_URL; without it, the trace is told only where the event came with one.

    Attempts that failed and were followed by another stand below the steps, the oldest first.
    """
    console = terminal()
    console.print(head_of(found))
    console.print(text(_origin_of(found)), soft_wrap=True)
    console.print(text(told.words), soft_wrap=True)
    if found.reran:
        console.print(text(f"run again as {found.reran}"), soft_wrap=True)
    trace = trace_of_run(found, trace_url)
    if trace.is_of_use:
        console.print(text(f"trace  {trace.url or trace.id}"), soft_wrap=True)
    for name, data in _events_of(found):
        console.print(text(f"event  {name}  {data}"), soft_wrap=True)
    if its_steps:
        rows = ((one.id, word(one.state), one.attempts, took_of_step(one), about_step(one)) for one in its_steps)
        print_table(("step", "state", "attempts", "took", words("what")), rows)
    if attempts:
        print_table(("failed attempt of", "no.", "at", "took", words("error")), map(_failed, attempts))
    _show_end(found)


def _failed(one: FailedAttempt) -> tuple[Cell, ...]:
    took = in_words(one.ended - one.began)
    return (one.step or "between steps", one.attempt, clock(one.ended), took, one.error.told())


def _origin_of(found: Run) -> str:
    """Return when a run was queued, and what it runs again."""
    again = f", a rerun of {found.rerun_of}" if found.rerun_of else ""
    return f"queued {clock(found.queued)}{', a replay of its event' if found.source == 'replay' else again}"


def _show_end(found: Run) -> None:
    console = terminal()
    if found.error:
        console.print(
            Text.assemble((plain(found.error.name), "red"), f": {plain(found.error.message)}"), soft_wrap=True
        )
    elif found.output is not None:
        for line in codec.pretty(sealing.shown(bytes(found.output))).splitlines():
            console.print(text(line), soft_wrap=True)


def head_of(found: Run) -> Text:
    """Return a run's first line."""
    return Text("  ").join([text(found.id), text(found.function), word(found.status), text(took_of(found))])


def tree_of(
    found: Run, told: Verdict, its_steps: list[StepView], attempts: Sequence[FailedAttempt] = ()
) -> RenderableType:
    """Return a run and the steps below it, below a step the attempts that failed. Of many steps the last are shown."""
    tree = Tree(Group(head_of(found), text(told.words)), guide_style="dim")
    hidden = len(its_steps) - _SHOWN_STEPS
    if hidden > 0:
        tree.add(text(f"… {hidden} steps before these: bus run {found.id}"))
    for one in its_steps[max(0, hidden) :]:
        times = f"attempt {one.attempts}" if one.attempts > 1 else ""
        parts = [text(one.id), word(one.state), *(text(part) for part in (took_of_step(one), times) if part)]
        step = tree.add(Text("  ").join(parts))
        failed = [each for each in attempts if each.step == one.id]
        for each in failed:
            step.add(text(_attempt(each)))
        if (about := about_step(one)) and not (failed and one.state == "retrying"):
            step.add(text(about))
    for each in attempts:
        if not each.step:  # the code between steps
            tree.add(text(_attempt(each)))
    return tree


def _attempt(one: FailedAttempt) -> str:
    took = in_words(max(0, one.ended - one.began))
    return f"attempt {one.attempt} failed after {took}  {one.error.name}: {one.error.message}"


def line_of(step: StepView) -> str:
    """Return a step as a line of what happens, for a pipe."""
    return "  ".join(part for part in (step.id, step.state, took_of_step(step), about_step(step)) if part)


def took_of_step(step: StepView) -> str:
    """Return how long a step took, or has taken; or until when it waits."""
    if step.due:
        return f"due {clock(step.due)}"
    return in_words(max(0, (step.ended or now_ms()) - step.started))


def about_step(step: StepView) -> str:
    """Return the error of a step's last attempt, or what it waits for, or nothing."""
    if step.error:
        return f"{step.error.name}: {step.error.message}"
    return in_words_of(step.waits_for, still=step.ended is None) if step.waits_for else ""


def _events_of(found: Run) -> list[tuple[str, str]]:
    """Return the name and the data of a run's event, or of each of its batch, as far as they are shown."""
    if found.event is None:
        return []
    try:
        event = codec.decode_as(sealing.shown(bytes(found.event)), RawEvent)
        several = event.several()
    except ValueError:  # written by hand
        return [("", bytes(found.event).decode(errors="replace")[:_SHOWN_DATA])]
    some = [(one.name, cut(bytes(one.data).decode(errors="replace"))) for one in several[:_SHOWN_EVENTS]]
    more = len(several) - len(some)
    return [*some, (f"and {more} more", "")] if more else some


def cut(data: str, way_out: str = "bus run ID --json") -> str:
    """Return data as far as it is shown, and where the rest is."""
    return data if len(data) <= _SHOWN_DATA else f"{data[:_SHOWN_DATA]} … {len(data):,} characters: {way_out}"


def show_log(written: RunLog, where: str) -> None:
    """Print the lines of a log; `where` says where those are that came before."""
    if written.dropped:
        say(f"… {written.dropped:,} lines {where}")
    show_lines(written.lines)


def show_lines(lines: Iterable[Line]) -> None:
    """Print lines of a log."""
    for line in lines:
        is_later = line.attempt > 1 and line.source != "bus"  # what the engine writes says it in words
        attempt = f"attempt {line.attempt}" if is_later else ""
        words = (clock(line.at), line.step, attempt, line.level, line.text)
        say("  ".join(one for one in words if one))
