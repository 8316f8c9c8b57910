"""`bus runs`, `bus run ID`, `bus event ID` and `bus find`: what there is of runs and events, and of one."""

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.printing import COLOURS, clock, plain, terminal, took_of
from stepstream.checkpoint.read.anything import find_anything
from stepstream.checkpoint.read.arrivals import Arrival, get_arrival, of_run
from stepstream.checkpoint.read.event_story import EventStory, event_story
from stepstream.checkpoint.read.find import get, wait_for_end
from stepstream.checkpoint.read.listing import STATUSES
from stepstream.checkpoint.read.log import RunLog, log_of
from stepstream.checkpoint.read.recording import record
from stepstream.checkpoint.read.search import Found, query_of, search
from stepstream.checkpoint.read.steps import StepView, in_words_of, steps
from stepstream.checkpoint.read.verdict import Verdict, verdict
from stepstream.checkpoint.run.record import Run

_SHOWN_LINES = 10
_SHOWN_DATA = 400
_SHOWN_EVENTS = 3


def runs(
    function: Annotated[list[str] | None, typer.Option(help="Of this function (its slug), or of these.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help=f"Of this status, or of these: {', '.join(STATUSES)}.")
    ] = None,
    event: Annotated[str, typer.Option(help="Begun by an event of this name, or of such: order/*.")] = "",
    key: Annotated[str, typer.Option(help="Counting under this value of a limit's key.")] = "",
    since: Annotated[str, typer.Option(help="Queued then or later: 15m (ago), 2h, 2026-12-01T09:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Queued then or earlier.")] = "",
    error: Annotated[str, typer.Option(help="Ended with an error of this name.")] = "",
    code: Annotated[str, typer.Option(help="Begun with this version of the code.")] = "",
    worker: Annotated[str, typer.Option(help="In hand of this worker.")] = "",
    source: Annotated[str, typer.Option(help="Made by: event, batch, debounce, cron, invoke, failure, rerun.")] = "",
    where: Annotated[str, typer.Option(help="A condition in CEL: event.data.total > 100 && output.paid.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where to go on: what the page before said.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, newest first: those that match every option."""
    given = [("function", one) for one in function or ()] + [("status", one) for one in status or ()]
    given += [("event", event), ("key", key), ("since", since), ("until", until), ("error", error), ("code", code)]
    given += [("worker", worker), ("source", source), ("where", where)]

    async def look(wire: Wire) -> Found:
        return await search(wire, await query_of(wire, given), limit=limit, cursor=cursor)

    found = once(look)
    if as_json:
        sys.stdout.write(codec.encode(found.runs).decode() + "\n")
    elif found.runs:
        table = Table(
            Column("run", no_wrap=True, min_width=26), "function", "status", "queued", "took", box=None, pad_edge=False
        )
        for run in found.runs:
            colour = COLOURS.get(run.status, "default")
            table.add_row(run.id, run.function, f"[{colour}]{run.status}[/]", clock(run.queued), took_of(run))
        terminal().print(table)
    elif found.cursor is None:
        is_asked = any(text for _, text in given)
        none = "no such runs" if is_asked else "no runs yet; publish an event: bus send NAME key=value"
        sys.stdout.write(f"{none}\n")
    if found.cursor is not None:
        of = f"{len(found.runs):,} of {'' if found.exact else 'at least '}{found.count:,} runs"
        sys.stderr.write(f"{of}; {found.looked_at:,} were looked at; go on with --cursor {found.cursor}\n")


def run(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    wait: Annotated[float, typer.Option(help="Wait this many seconds for its end.")] = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Print what it has written, and nothing else.")] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Print it as a recording, for stepstream.testing.replay.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one run, its steps and the end of its log. Exit code 1 when it has failed."""
    if export:
        recorded = codec.pretty(codec.encode(once(lambda wire: of_run(wire, run_id, record(wire, run_id)))))
        sys.stdout.write(f"{recorded}\n")
        sys.stderr.write(
            f"{len(recorded)} bytes: the event and the results of steps as they are stored; "
            "take out what is secret or personal before you keep it\n"
        )
        return

    async def look(wire: Wire) -> tuple[Run, Verdict, list[StepView], RunLog]:
        if wait:
            await wait_for_end(wire, run_id, wait)
        found = await of_run(wire, run_id, get(wire, run_id))
        written = await log_of(wire, found.function, run_id, None if log or as_json else _SHOWN_LINES)
        return found, await verdict(wire, found), await steps(wire, found.function, run_id), written

    found, told, its_steps, written = once(look)
    if as_json:
        whole = {"run": found, "verdict": told, "steps": its_steps, "log": written.lines, "dropped": written.dropped}
        sys.stdout.write(codec.encode(whole).decode() + "\n")
    elif log:
        _show_log(written, "dropped")
    else:
        _show(found, told, its_steps)
        _show_log(written, "before these: bus run ID --log")
    if found.status == "failed":
        raise typer.Exit(1)


def event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id: its sender's own, or the one it got.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what became of an event: which functions it started, and why each other one did not begin."""

    async def look(wire: Wire) -> tuple[Arrival, EventStory]:
        found = await get_arrival(wire, event_id)
        return found, await event_story(wire, found)

    found, story = once(look)
    if as_json:
        sys.stdout.write(codec.encode({"event": found.event, "story": story}).decode() + "\n")
        return
    console = terminal()
    data = _cut(bytes(found.event.data).decode(errors="replace"))
    lines = [f"{story.id}  {story.name}  {clock(story.received)}", story.words, f"data  {data}"]
    lines += [f"{one.function}  {one.words}" for one in story.functions]
    for line in lines:
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def find(
    text: Annotated[str, typer.Argument(metavar="WORD", help="What you have in hand.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a word names: a run, an event, a function, a limit's key. Exit code 1 when nothing has it."""
    hits = once(lambda wire: find_anything(wire, text))
    if as_json:
        sys.stdout.write(codec.encode(hits).decode() + "\n")
    for hit in [] if as_json else hits.found:
        sys.stdout.write(f"{hit.kind}  {plain(hit.id)}  {plain(hit.words)}\n")
    if not hits.found:
        sys.stderr.write(f"nothing is named {plain(text)[:150]!r}; looked at: {'; '.join(hits.looked)}\n")
        raise typer.Exit(1)


def _show(found: Run, sentence: Verdict, its_steps: list[StepView]) -> None:
    console = terminal()
    colour = COLOURS.get(found.status, "default")
    console.print(f"{found.id}  {found.function}  [{colour}]{found.status}[/]  {took_of(found)}", highlight=False)
    console.print(plain(sentence.words), markup=False, highlight=False, soft_wrap=True)
    for name, data in _events_of(found):
        console.print(f"event  {plain(name)}  {plain(data)}", markup=False, highlight=False, soft_wrap=True)
    table = Table("step", "state", "attempts", "took", "what", box=None, pad_edge=False)
    for step in its_steps:
        took = in_words(step.ended - step.started) if step.ended else ""
        if step.due:
            took = f"due {clock(step.due)}"
        what = in_words_of(step.waits_for, still=step.ended is None) if step.waits_for else ""
        told = f"{step.error.name}: {step.error.message}" if step.error else what
        state = f"[{COLOURS.get(step.state, 'default')}]{step.state}[/]"
        table.add_row(escape(plain(step.id)), state, str(step.attempts), took, escape(plain(told)))
    if its_steps:
        console.print(table)
    if found.error:
        console.print(f"[red]{escape(plain(found.error.name))}[/]: {escape(plain(found.error.message))}")
    elif found.output is not None:
        console.print(codec.pretty(bytes(found.output)), markup=False)


def _events_of(found: Run) -> list[tuple[str, str]]:
    """Return the name and the data of a run's event, or of each of its batch, as far as they are shown."""
    if found.event is None:
        return []
    try:
        event = codec.decode_as(found.event, RawEvent)
        several = event.several()
    except ValueError:  # written by hand
        return [("", bytes(found.event).decode(errors="replace")[:_SHOWN_DATA])]
    some = [(one.name, _cut(bytes(one.data).decode(errors="replace"))) for one in several[:_SHOWN_EVENTS]]
    more = len(several) - len(some)
    return [*some, (f"and {more} more", "")] if more else some


def _cut(data: str) -> str:
    return data if len(data) <= _SHOWN_DATA else f"{data[:_SHOWN_DATA]} … {len(data):,} characters: bus run ID --json"


def _show_log(written: RunLog, where: str) -> None:
    if written.dropped:
        sys.stdout.write(f"… {written.dropped:,} lines {where}\n")
    for line in written.lines:
        words = (clock(line.at), line.step, line.level, plain(line.text))
        sys.stdout.write("  ".join(plain(word) for word in words if word) + "\n")
