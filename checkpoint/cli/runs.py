"""`bus runs`, `bus run`, `bus logs` and `bus find`: what there is of runs, and of one."""

import shlex
import sys
from typing import Annotated, TypeAlias

import typer

from stepstream.bus import settings
from stepstream.bus.event import RawEvent
from stepstream.bus.process.terminal import plain, say
from stepstream.bus.values import codec
from stepstream.bus.values.expression import compiled
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.cli.filters import Given, filtered
from stepstream.checkpoint.cli.following import follow_log, follow_steps
from stepstream.checkpoint.cli.printing import clock, print_json, print_none, print_table, took_of, word, words
from stepstream.checkpoint.cli.shown import show, show_log
from stepstream.checkpoint.facts.attempts import FailedAttempt, attempts_of
from stepstream.checkpoint.read.anything import find_anything
from stepstream.checkpoint.read.event.kept import of_run
from stepstream.checkpoint.read.lists.search import Found, query_of, search
from stepstream.checkpoint.read.run.bringing import run_brought, steps_brought
from stepstream.checkpoint.read.run.find import get, wait_for_end
from stepstream.checkpoint.read.run.log import RunLog, log_of
from stepstream.checkpoint.read.run.recording import record
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.read.run.trace import trace_of_run
from stepstream.checkpoint.read.run.verdict import Verdict, verdict
from stepstream.checkpoint.run.record import Run

_SHOWN_LINES = 10
_Id = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_Whole: TypeAlias = tuple[Run, Verdict, list[StepView], RunLog, list[FailedAttempt]]


@filtered
def runs(
    *,
    given: Given,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where to go on: what the page before said.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, newest first, those that match every option: bus runs --status failed --since 2h.

    By what is in an event or an output: bus runs --where 'event.data.total > 100 && output.paid'
    """

    async def look(wire: Wire) -> Found:
        return await search(wire, await query_of(wire, given), limit=limit, cursor=cursor)

    found = once(look, shows=True)
    if as_json:
        print_json(found.runs)
    elif found.runs:
        heads = ("run", "function", "status", "queued", "took", words("error"))
        print_table(
            heads,
            (
                (one.id, one.function, word(one.status), clock(one.queued), took_of(one), one.error_line)
                for one in found.runs
            ),
        )
    elif found.cursor is None:
        looked = f": {found.looked_at:,} were looked at" if dict(given).get("where") else ""
        print_none(f"no such runs{looked}" if given else "no runs yet; publish an event: bus send NAME key=value")
    if not found.runs and (hint := _hint(dict(given).get("where", ""))):
        sys.stderr.write(f"{plain(hint)}\n")
    if found.not_evaluated:
        many = f"{found.not_evaluated:,} of the {found.looked_at:,} that were looked at"
        sys.stderr.write(
            f"where could not be evaluated for {many}: their event is too large, or has too large a number, "
            "or their result is in the store of large results\n"
        )
    if found.cursor is not None:
        of = f"{len(found.runs):,} of {'' if found.exact else 'at least '}{found.count:,} runs"
        sys.stderr.write(f"{of}; {found.looked_at:,} were looked at; go on with --cursor {found.cursor}\n")


def _hint(where: str) -> str:
    """Return what may be wrong with a condition of which nothing is true: a field of an event's data lies in `data`."""
    paths = compiled(where, "where", other="output").seen_of({}) if where else {}
    for path in paths:
        _, field, *more = path.split(".")
        if field not in RawEvent.__struct_fields__:
            return f"an event has no field {field}: did you mean {'.'.join(['event.data', field, *more])}?"
    return ""


def run(
    run_id: _Id,
    wait: Annotated[float, typer.Option(help="Wait this many seconds for its end.")] = 0.0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its steps live until its end; Ctrl-C stops.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Print what it has written, and nothing else.")] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Print it as a recording, for stepstream.testing.replay.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show one run, its steps and the end of its log: bus run 01K9… --follow. Exit code 1 when it has failed.

    With --follow and --json, or in a pipe, a line is printed for each change.
    """
    if export:
        recorded = codec.pretty(codec.encode(once(lambda wire: of_run(wire, run_id, record(wire, run_id)))))
        sys.stdout.write(f"{recorded}\n")
        sys.stderr.write(
            f"{len(recorded)} bytes: the event and the results of steps as they are stored; "
            "take out what is secret or personal before you keep it\n"
        )
        return
    if follow:
        _exit(once(lambda wire: follow_steps(wire, run_id, as_json=as_json)))
        return

    async def look(wire: Wire) -> _Whole:
        if wait:
            await wait_for_end(wire, run_id, wait)
        found = await of_run(wire, run_id, get(wire, run_id))
        written = await log_of(wire, found.function, run_id, None if log or as_json else _SHOWN_LINES)
        failed = await attempts_of(wire, found.function, run_id)
        views = await steps(wire, found.function, run_id)
        if as_json:
            found, views = await run_brought(wire, found), await steps_brought(wire, views)
        return found, await verdict(wire, found), views, written, failed

    found, told, its_steps, written, failed = once(look, shows=True)
    if as_json:
        answer = {"run": found, "verdict": told, "steps": its_steps, "attempts": failed, "log": written.lines}
        print_json({**answer, "dropped": written.dropped, "trace": trace_of_run(found).id})
    elif log:
        show_log(written, "dropped")
    else:
        show(found, told, its_steps, failed, settings.read()[0].trace_url)
        show_log(written, f"before these: bus logs {found.id}")
    _exit(found)


def logs(
    run_id: _Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until its end; Ctrl-C stops.")] = False,
    lines: Annotated[int, typer.Option(min=1, help="Only the last so many of those that are there.")] = 2_000,
    as_json: _Json = False,
) -> None:
    """Print what a run has written: bus logs 01K9… --follow. With --json a line of JSON for each."""
    if follow:
        once(lambda wire: follow_log(wire, run_id, as_json=as_json))
        return

    async def look(wire: Wire) -> RunLog:
        found = await of_run(wire, run_id, get(wire, run_id))
        return await log_of(wire, found.function, run_id, lines)

    written = once(look, shows=True)
    if as_json:
        for line in written.lines:
            print_json(line)
    elif written.lines:
        show_log(written, "came before these, or are kept no more")
    else:
        sys.stderr.write("it has written nothing: what a body logs and prints is kept with its run\n")


def find(
    text: Annotated[str, typer.Argument(metavar="WORD", help="What you have in hand.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a word names: a run, an event, a function, a limit's key. Exit code 1 when nothing has it.

    An id from a log, or a customer's: bus find 01K9ZJ3V6Q5T8W2X4Y7B0C1D2E, bus find customer-4
    """
    hits = once(lambda wire: find_anything(wire, text), shows=True)
    if as_json:
        print_json(hits)
    for hit in [] if as_json else hits.found:
        say(f"{hit.kind}  {hit.id}  {hit.words}")
    if not hits.found:
        sys.stderr.write(f"nothing is named {plain(text)[:150]!r}; looked at: {'; '.join(hits.looked)}\n")
        sys.stderr.write(f"older runs with it as a limit's key: bus runs --key {shlex.quote(plain(text)[:150])}\n")
        raise typer.Exit(1)


def _exit(found: Run) -> None:
    if found.status == "failed":
        raise typer.Exit(1)
