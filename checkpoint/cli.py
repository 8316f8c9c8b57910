"""`bus cancel`, `bus rerun`, `bus invoke`, `bus functions`, `bus check` and `bus doctor`."""

import asyncio
import sys
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from stepstream.bus.errors import ConfigError
from stepstream.bus.values import codec
from stepstream.bus.values.arguments import HELP, data_of, sent_as_fits
from stepstream.bus.wire.doctor import Finding, examine
from stepstream.bus.wire.once import once
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.actions.invoke import invoke as invoke_function
from stepstream.checkpoint.actions.rerun import rerun as rerun_run
from stepstream.checkpoint.limits.backlogs import Backlogs, backlogs_of
from stepstream.checkpoint.printing import clock, plain, terminal
from stepstream.checkpoint.read.arrivals import of_run
from stepstream.checkpoint.read.find import wait_for_end
from stepstream.checkpoint.read.listing import counts
from stepstream.checkpoint.registry import Registered, function_of
from stepstream.checkpoint.registry import functions as registered
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.types import disagreements
from stepstream.checkpoint.upkeep.audit import Fault, audit, mend, still
from stepstream.checkpoint.upkeep.repair import Unheld, active, repair, unheld
from stepstream.checkpoint.upkeep.served import unserved

R = TypeVar("R")
_AGREE = "let both declare one type, or give one's event another name: until then what fits either is sent"


def cancel(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
) -> None:
    """Cancel a run. One that waits or is queued ends at once; one that runs is ended by its worker within seconds."""
    word = once(lambda wire: of_run(wire, run_id, cancel_now(wire, run_id, "cancelled with bus cancel")))
    told = "cancelled" if word == "cancelled" else "it runs; its worker has been asked to end it"
    sys.stdout.write(f"{run_id}  {told}\n")


def rerun(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    from_step: Annotated[str, typer.Option("--from", help="Keep the results of the steps before this one.")] = "",
) -> None:
    """Run again, for the same event: a new run, whose id is printed."""
    sys.stdout.write(once(lambda wire: of_run(wire, run_id, rerun_run(wire, run_id, from_step))) + "\n")


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
    console = terminal()
    console.print(table)
    for one in apart:
        console.print(f"types: {plain(one.words)}", markup=False, highlight=False)


def _show_function(slug: str, *, as_json: bool) -> None:
    async def look(wire: Wire) -> tuple[Registered, dict[str, int], Backlogs]:
        return await function_of(wire, slug), (await counts(wire, [slug]))[slug], await backlogs_of(wire, slug)

    function, runs, found = once(look)
    if as_json:
        told = {"slug": slug, "on": function.on, "limits": function.flow, "runs": runs}
        sys.stdout.write(codec.encode({**told, "lines": found.backlogs, "buffers": found.buffers}).decode() + "\n")
        return
    console = terminal()
    console.print(f"{slug}  on {', '.join(function.on) or 'being invoked'}", markup=False, highlight=False)
    for limit in function.flow:
        console.print(f"  limit: {limit}", markup=False, highlight=False)
    console.print("  " + ", ".join(f"{count} {status}" for status, count in runs.items() if count) or "  no runs yet")
    if found.backlogs:
        table = Table("in line for", "waiting", "running", box=None, pad_edge=False)
        for line in found.backlogs:
            table.add_row(escape(plain(line.key)), str(line.waiting), str(line.running))
        console.print(table)
    for held in found.buffers:
        console.print(
            f"  buffer {held.key}: {held.events} event(s), due {clock(held.due)}", markup=False, highlight=False
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
            table.add_row(mark, finding.check, escape(plain(finding.found)), escape(finding.do))
        terminal().print(table)
    if any(finding.verdict == "unfit" for finding in findings):
        raise typer.Exit(1)


def check(
    repairs: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look whether every run has a holder, and every key an owner: twice, one lease apart. Exit code 1 if one has none.

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
            sys.stdout.write(f"{plain(fault.key)}  {plain(fault.words)}\n")
        repaired = f"; {mended} repaired" if repairs else "; bus check --repair mends that" if found or faults else ""
        left = f"; {leftovers} leftovers go by themselves at their deadline" if leftovers else ""
        seen = f"{count} runs have not ended, {len(found)} of them have no holder; {wrong} keys are not right{left}"
        sys.stdout.write(f"{seen}{repaired}\n")
    if len(found) + wrong and len(found) + len(faults) > mended:
        raise typer.Exit(1)
