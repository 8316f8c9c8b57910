"""`bus runs`, `bus run ID`, `bus cancel`, `bus rerun`, `bus invoke`, `bus functions`, `bus check` and `bus doctor`."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from stepstream.bus.errors import ConfigError
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.arguments import HELP, data_of, sent_as_fits
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.doctor import Finding, examine
from stepstream.bus.wire.once import once
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.actions.invoke import invoke as invoke_function
from stepstream.checkpoint.actions.rerun import rerun as rerun_run
from stepstream.checkpoint.limits.backlogs import Backlogs, backlogs_of
from stepstream.checkpoint.read.find import get, wait_for_end
from stepstream.checkpoint.read.listing import STATUSES, counts
from stepstream.checkpoint.read.log import RunLog, log_of
from stepstream.checkpoint.read.recording import record
from stepstream.checkpoint.read.search import query_of, search
from stepstream.checkpoint.read.steps import StepView, in_words_of, steps
from stepstream.checkpoint.registry import Registered, function_of
from stepstream.checkpoint.registry import functions as registered
from stepstream.checkpoint.run.record import Run, RunSummary
from stepstream.checkpoint.types import disagreements
from stepstream.checkpoint.upkeep.audit import Fault, audit, mend, still
from stepstream.checkpoint.upkeep.repair import Unheld, active, repair, unheld
from stepstream.checkpoint.upkeep.served import unserved

R = TypeVar("R")
_SHOWN_LINES = 10
_SHOWN_DATA = 400
_SHOWN_EVENTS = 3
_AGREE = "let both declare one type, or give one's event another name: until then what fits either is sent"
_COLOURS = {
    "completed": "green",
    "failed": "red",
    "running": "blue",
    "waiting": "yellow",
    "retrying": "yellow",
    "timed_out": "yellow",
}


def runs(
    function: Annotated[list[str] | None, typer.Option(help="Only runs of this function (its slug), or these.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help=f"Only runs of this status, or these: {', '.join(STATUSES)}.")
    ] = None,
    since: Annotated[str, typer.Option(help="Only runs queued then or later: 15m (ago), 2h, 2026-12-01T09:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Only runs queued then or earlier.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, newest first."""
    given = [("function", one) for one in function or ()] + [("status", one) for one in status or ()]
    given += [("since", since), ("until", until)]

    async def look(wire: Wire) -> list[RunSummary]:
        page = await search(wire, await query_of(wire, given), limit=limit)
        return page.runs

    found = once(look)
    if as_json:
        sys.stdout.write(codec.encode(found).decode() + "\n")
        return
    if not found:
        none = (
            "no such runs"
            if any(text for _, text in given)
            else "no runs yet; publish an event: bus send NAME key=value"
        )
        sys.stdout.write(f"{none}\n")
        return
    table = Table(
        Column("run", no_wrap=True, min_width=26), "function", "status", "queued", "took", box=None, pad_edge=False
    )
    for run in found:
        colour = _COLOURS.get(run.status, "default")
        table.add_row(run.id, run.function, f"[{colour}]{run.status}[/]", _when(run.queued), _took(run))
    _console().print(table)


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
        recorded = codec.pretty(codec.encode(once(lambda wire: record(wire, run_id))))
        sys.stdout.write(f"{recorded}\n")
        sys.stderr.write(
            f"{len(recorded)} bytes: the event and the results of steps as they are stored; "
            "take out what is secret or personal before you keep it\n"
        )
        return

    async def look(wire: Wire) -> tuple[Run, list[StepView], RunLog]:
        if wait:
            await wait_for_end(wire, run_id, wait)
        found = await get(wire, run_id)
        written = await log_of(wire, found.function, run_id, None if log or as_json else _SHOWN_LINES)
        return found, await steps(wire, found.function, run_id), written

    found, its_steps, written = once(look)
    if as_json:
        whole = {"run": found, "steps": its_steps, "log": written.lines, "dropped": written.dropped}
        sys.stdout.write(codec.encode(whole).decode() + "\n")
    elif log:
        _show_log(written, "dropped")
    else:
        _show(found, its_steps)
        _show_log(written, "before these: bus run ID --log")
    if found.status == "failed":
        raise typer.Exit(1)


def cancel(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
) -> None:
    """Cancel a run. One that waits or is queued ends at once; one that runs is ended by its worker within seconds."""
    word = once(lambda wire: cancel_now(wire, run_id, "cancelled with bus cancel"))
    told = "cancelled" if word == "cancelled" else "it runs; its worker has been asked to end it"
    sys.stdout.write(f"{run_id}  {told}\n")


def rerun(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    from_step: Annotated[str, typer.Option("--from", help="Keep the results of the steps before this one.")] = "",
) -> None:
    """Run again, for the same event: a new run, whose id is printed."""
    sys.stdout.write(once(lambda wire: rerun_run(wire, run_id, from_step)) + "\n")


def invoke(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The function: <bus id>-<function id>.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[JSON] [key=value …]", help=HELP)] = None,
    wait: Annotated[float, typer.Option(help="Wait this many seconds for its end, and print what it returns.")] = 0.0,
) -> None:
    """Run a function by its slug, without an event: bus invoke shop-refund orderId=o1 --wait 10.

    With --wait the exit code is 1 when the run has failed, and 2 when it has not ended in time.
    """
    data = data_of(words or [])

    async def begun(wire: Wire) -> tuple[str, Run | None]:
        run = await sent_as_fits(words or [], data, lambda fitting: invoke_function(wire, slug, fitting))
        return run, await wait_for_end(wire, run, wait) if wait else None

    run, found = once(begun)
    sys.stdout.write(f"{run}{f'  {found.status}' if found else ''}\n")
    if not wait:
        return
    if found is None or not found.has_ended:
        raise typer.Exit(2)
    if found.error is not None:
        sys.stderr.write(f"{found.error.told()}\n")
    elif found.output is not None:
        sys.stdout.write(codec.pretty(bytes(found.output)) + "\n")
    raise typer.Exit(0 if found.status == "completed" else 1)


def functions(
    action: Annotated[
        str | None, typer.Argument(metavar="[forget] [SLUG]", help="One function; forget: it is no more.")
    ] = None,
    slug: Annotated[str | None, typer.Argument(metavar="", help="")] = None,
    with_runs: Annotated[
        bool, typer.Option("--with-runs", help="Forget it with runs that have not ended: they are cancelled.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the registered functions with their runs; or show one, with who waits for its limits; or forget one.

    A function that is forgotten holds back no event any more, and all its runs are deleted.
    """
    if (action == "forget") != (slug is not None):
        raise ConfigError("write: bus functions, bus functions SLUG, or bus functions forget SLUG")
    if slug is not None:
        dropped = once(lambda wire: forget(wire, slug, with_runs=with_runs))
        sys.stdout.write(f"{slug} is forgotten; groups dropped: {', '.join(dropped) or 'none'}\n")
        return
    if action is not None:
        _show_function(action, as_json=as_json)
        return

    async def look(wire: Wire) -> tuple[list[Registered], dict[str, dict[str, int]], list[Disagreement]]:
        known = await registered(wire)
        return known, await counts(wire, [function.slug for function in known]), await disagreements(wire)

    known, how_many, apart = once(look)
    if as_json:
        sys.stdout.write(
            codec.encode([{"slug": f.slug, "on": f.on, "runs": how_many[f.slug]} for f in known]).decode() + "\n"
        )
        return
    if not known:
        sys.stdout.write("no functions yet; a worker registers them: bus worker APP\n")
        return
    table = Table("function", "on", "running", "waiting", "completed", "failed", box=None, pad_edge=False)
    for function in known:
        runs = how_many[function.slug]
        numbers = (runs["running"] + runs["queued"], runs["waiting"], runs["completed"], runs["failed"])
        table.add_row(function.slug, escape(", ".join(function.on)), *(str(number) for number in numbers))
    console = _console()
    console.print(table)
    for one in apart:
        console.print(f"types: {_plain(one.words)}", markup=False, highlight=False)


def _show_function(slug: str, *, as_json: bool) -> None:
    async def look(wire: Wire) -> tuple[Registered, dict[str, int], Backlogs]:
        return await function_of(wire, slug), (await counts(wire, [slug]))[slug], await backlogs_of(wire, slug)

    function, runs, found = once(look)
    if as_json:
        told = {"slug": slug, "on": function.on, "limits": function.flow, "runs": runs}
        sys.stdout.write(codec.encode({**told, "lines": found.backlogs, "buffers": found.buffers}).decode() + "\n")
        return
    console = _console()
    console.print(f"{slug}  on {', '.join(function.on) or 'being invoked'}", markup=False, highlight=False)
    for limit in function.flow:
        console.print(f"  limit: {limit}", markup=False, highlight=False)
    console.print("  " + ", ".join(f"{count} {status}" for status, count in runs.items() if count) or "  no runs yet")
    if found.backlogs:
        table = Table("in line for", "waiting", "running", box=None, pad_edge=False)
        for line in found.backlogs:
            table.add_row(escape(_plain(line.key)), str(line.waiting), str(line.running))
        console.print(table)
    for held in found.buffers:
        console.print(
            f"  buffer {held.key}: {held.events} event(s), due {_when(held.due)}", markup=False, highlight=False
        )


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say whether this Redis is fit: version, eviction, persistence, memory, clock, rights. Exit code 1 if not."""

    async def look(wire: Wire) -> list[Finding]:
        return [
            *await examine(wire),
            *await unserved(wire),
            *(Finding("types", one.words, "advice", _AGREE) for one in await disagreements(wire)),
        ]

    findings = once(look)
    if as_json:
        sys.stdout.write(codec.encode(findings).decode() + "\n")
    else:
        table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
        for finding in findings:
            mark = {"fit": "[green]fit[/]", "advice": "[yellow]advice[/]", "unfit": "[red]unfit[/]"}[finding.verdict]
            table.add_row(mark, finding.check, escape(_plain(finding.found)), escape(finding.do))
        _console().print(table)
    if any(finding.verdict == "unfit" for finding in findings):
        raise typer.Exit(1)


def check(
    repairs: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look twice, one lease apart, whether every run has a holder, and every key an owner. Exit code 1 if one has none.

    What is lost is told of with and without --repair: a run whose record is gone cannot be put back. Leftovers of
    workers that died are shown too: they go by themselves at their deadline, and do not change the exit code.
    """

    async def look(wire: Wire) -> tuple[int, list[Unheld], list[Fault], int]:
        count = 0
        first: list[tuple[str, Unheld]] = []
        for function in await registered(wire):
            async for page in active(wire, function.slug):
                count += len(page)
                first += [(function.slug, one) for one in await unheld(wire, function.slug, page)]
        faults = await audit(wire)
        if first or faults:
            await asyncio.sleep(wire.settings.lease_ms / 1_000)
        found = [one for slug, one in first if one in await unheld(wire, slug, [one.run])]
        standing = await still(wire, faults)
        mended = 0
        if repairs:
            mended += sum([await repair(wire, one) for one in found])
            mended += sum([await mend(wire, fault) for fault in standing])
        return count, found, standing, mended

    count, found, faults, mended = once(look)
    leftovers = sum(fault.leftover for fault in faults)
    wrong = len(faults) - leftovers
    if as_json:
        answer = {
            "active": count,
            "unheld": [{"run": one.run, "function": one.slug, "found": one.words} for one in found],
            "faults": [{"key": fault.key, "found": fault.words} for fault in faults if not fault.leftover],
            "leftovers": [{"key": fault.key, "found": fault.words} for fault in faults if fault.leftover],
            "repaired": mended,
        }
        sys.stdout.write(codec.encode(answer).decode() + "\n")
    else:
        for one in found:
            sys.stdout.write(f"{one.run}  {one.slug}  {one.words}\n")
        for fault in faults:
            sys.stdout.write(f"{_plain(fault.key)}  {_plain(fault.words)}\n")
        repaired = f"; {mended} repaired" if repairs else "; bus check --repair mends that" if found or faults else ""
        left = f"; {leftovers} leftovers go by themselves at their deadline" if leftovers else ""
        seen = f"{count} runs have not ended, {len(found)} of them have no holder; {wrong} keys are not right{left}"
        sys.stdout.write(f"{seen}{repaired}\n")
    if len(found) + wrong and len(found) + len(faults) > mended:
        raise typer.Exit(1)


def _show(found: Run, its_steps: list[StepView]) -> None:
    console = _console()
    colour = _COLOURS.get(found.status, "default")
    console.print(f"{found.id}  {found.function}  [{colour}]{found.status}[/]  {_took(found)}", highlight=False)
    for name, data in _events_of(found):
        console.print(f"event  {_plain(name)}  {_plain(data)}", markup=False, highlight=False, soft_wrap=True)
    table = Table("step", "state", "attempts", "took", "what", box=None, pad_edge=False)
    for step in its_steps:
        took = in_words(step.ended - step.started) if step.ended else ""
        if step.due:
            took = f"due {_when(step.due)}"
        what = in_words_of(step.waits_for, still=step.ended is None) if step.waits_for else ""
        told = f"{step.error.name}: {step.error.message}" if step.error else what
        state = f"[{_COLOURS.get(step.state, 'default')}]{step.state}[/]"
        table.add_row(escape(_plain(step.id)), state, str(step.attempts), took, escape(_plain(told)))
    if its_steps:
        console.print(table)
    if found.error:
        console.print(f"[red]{escape(_plain(found.error.name))}[/]: {escape(_plain(found.error.message))}")
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
        words = (_when(line.at), line.step, line.level, _plain(line.text))
        sys.stdout.write("  ".join(_plain(word) for word in words if word) + "\n")


def _console() -> Console:
    """As wide as the terminal; a pipe is not cut at 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _plain(text: str) -> str:
    """Return text without control characters: a terminal must not obey what a payload says."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).astimezone().strftime("%m-%d %H:%M:%S")


def _took(found: RunSummary) -> str:
    return in_words((found.ended or now_ms()) - (found.started or found.queued))
