"""`bus top` and `bus workers`: what goes on now."""

import asyncio
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.drain import Drained, drain
from stepstream.checkpoint.at_work.functions import FunctionFacts
from stepstream.checkpoint.at_work.overview import Failures, look_over
from stepstream.checkpoint.at_work.trouble import Trouble
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.filters import named
from stepstream.checkpoint.cli.printing import (
    Cell,
    ago,
    clock,
    none_seen,
    print_json,
    print_none,
    print_table,
    table_of,
    terminal,
    text,
    word,
    words,
)
from stepstream.checkpoint.facts.buckets import percentile, summed
from stepstream.checkpoint.facts.minutes import MINUTE_MS
from stepstream.checkpoint.facts.workers import WorkerView, workers_told

_MINUTES = 5
"""Over how many minutes, that are over, rates are reckoned."""
_REFRESH_S = 2.0
_HAD = 5
"""How many runs are told that a dead worker had."""
_ERRORS = 5
"""How many of the errors of the last hour are told."""
_HOW = {"bad": "wrong", "wait": "look"}
_LINE_END = "\n"
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Busy(msgspec.Struct):
    """What a function is doing: its runs by status, its workers, and what started, ended and failed in a minute."""

    function: str
    workers: int
    running: int
    queued: int
    waiting: int
    failed: int
    """Of all that are kept."""
    started_per_minute: float
    ended_per_minute: float
    failed_share: float
    """Of those that ended."""
    took_p50: float | None
    took_p95: float | None
    """How long runs took that ended in these minutes, ms."""


class Top(msgspec.Struct):
    """What goes on at a moment (server ms): what is wrong, the functions, the busiest first, and the workers."""

    at: int
    trouble: list[Trouble]
    failures: list[Failures]
    """Of what runs failed in the last hour."""
    functions: list[Busy]
    workers: list[WorkerView]


async def look(wire: Wire) -> Top:
    """Return what goes on now."""
    seen, told = await asyncio.gather(look_over(wire), workers_told(wire))
    found = [_busy(one, seen.at) for one in seen.facts]
    found.sort(key=lambda one: (-(one.running + one.queued), -one.started_per_minute, one.function))
    return Top(seen.at, seen.trouble, seen.failures, found, [one for one in told if one.alive or one.in_hand])


def _busy(one: FunctionFacts, now: int) -> Busy:
    over = [each for each in one.minutes if now - (_MINUTES + 1) * MINUTE_MS < each.at <= now - MINUTE_MS]
    runs, failed = one.runs, sum(each.failed for each in over)
    ended = failed + sum(each.completed + each.cancelled for each in over)
    took = summed(each.took for each in over)
    return Busy(
        one.function.slug, one.workers, runs["running"], runs["queued"], runs["waiting"], runs["failed"],
        started_per_minute=sum(each.started for each in over) / _MINUTES,
        ended_per_minute=ended / _MINUTES,
        failed_share=failed / ended if ended else 0.0,
        took_p50=percentile(took, 0.5),
        took_p95=percentile(took, 0.95),
    )  # fmt: skip


def top(
    is_once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: _Json = False,
) -> None:
    """Show what is wrong, then functions, the busiest first, their rates of the last 5 minutes, and workers.

    Ctrl-C ends it. It is shown anew every 2 s; once in a pipe, with --once and with --json. What is wrong alone:
    bus top --json | jq .trouble

    Which functions have no worker: bus top --json | jq '.functions[] | select(.workers == 0)'
    """
    if as_json:
        print_json(once(look, shows=True))
    elif is_once or not sys.stdout.isatty():
        terminal().print(_shown(once(look, shows=True)))
    else:
        once(_watch, shows=True)


async def _watch(wire: Wire) -> None:
    with Live(console=terminal(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_shown(await patiently(lambda: look(wire))), refresh=True)
            await asyncio.sleep(_REFRESH_S)


def _shown(found: Top) -> RenderableType:
    heads = ("function", "workers", "running", "queued", "waiting", "started/min", "ended/min", "failed", "p50", "p95")
    none = text(none_seen() or "no functions yet; a worker registers them: bus worker APP")
    functions = table_of(heads, map(_busy_row, found.functions)) if found.functions else none
    head = text(f"as of {clock(found.at)}; rates of the last {_MINUTES} minutes that are over")
    return Group(head, "", _wrong(found), "", functions, "", _workers_table(found.workers))


def _wrong(found: Top) -> RenderableType:
    """Return what is wrong, a line each, and of what most runs failed."""
    if not found.trouble and not found.failures:
        return text("nothing is wrong")
    rows = [(word(_HOW[one.how]), one.words, one.command or one.do) for one in found.trouble]
    rows += [
        (word("failed"), f"{one.count:,} in the last hour of {one.name}: {one.message.partition(_LINE_END)[0][:80]}",
         f"bus runs --error {one.fingerprint} --since 1h")
        for one in found.failures[:_ERRORS]
    ]  # fmt: skip
    return table_of(("", words("what is wrong"), words("look with")), rows)


def _busy_row(one: Busy) -> tuple[Cell, ...]:
    started, ended = f"{one.started_per_minute:.1f}", f"{one.ended_per_minute:.1f}"
    failed = f"{one.failed_share:.0%}" if one.ended_per_minute else ""
    return (
        one.function, one.workers or word("none"), one.running, one.queued, one.waiting, started, ended, failed,
        _ms(one.took_p50), _ms(one.took_p95),
    )  # fmt: skip


def _ms(took: float | None) -> str:
    return "" if took is None else f"~{in_words(took)}"


def workers(
    named_words: Annotated[
        list[str] | None, typer.Argument(metavar="[drain NAME]", help="A worker that shall end: as SIGTERM does.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """List the workers and what each has in hand; dead ones, with what they had in hand, for a day.

    bus workers drain NAME lets one read no more, finish what it has in hand (or leave it to another), and end its
    process; what supervises it may start another. Those that died: bus workers --json | jq '.[] | select(.alive | not)'
    """
    match named_words or []:
        case []:
            pass
        case ["drain", name]:
            told = once(lambda wire: acted(wire, "drain_worker", name, _drain(wire, name)))
            if as_json:
                print_json(told)
            else:
                say(f"{told.worker} drains, told by {told.by}; then its process ends")
            return
        case _:
            raise ConfigError("write: bus workers, or bus workers drain NAME")
    found = once(workers_told, shows=True)
    if as_json:
        print_json(found)
        return
    if not found:
        print_none("no workers; start one: bus worker APP")
        return
    terminal().print(_workers_table(found))
    held = [row for one in found for row in _held_rows(one)]
    if held:
        say("")
        print_table(("worker", "", "function", "run", "step", "since"), held)


async def _drain(wire: Wire, begins: str) -> Drained:
    """Tell the worker to drain that is called so, or begins so."""
    name = named(begins, [one.name for one in await workers_told(wire) if one.alive or one.name == begins])
    return await drain(wire, name or begins, "bus workers drain")


def _held_rows(one: WorkerView) -> list[tuple[str, ...]]:
    """Return a line for each run that a worker has in hand; of a dead one for some of those it had."""
    verb, shown = ("has", one.held) if one.alive else ("had", one.held[:_HAD])
    rows = [(one.name, verb, each.function, each.run, each.step, ago(each.since)) for each in shown]
    more = max(one.in_hand, len(one.held)) - len(shown)
    return [*rows, (one.name, verb, f"and {more:,} more", "", "", "")] if more > 0 and rows else rows


def _workers_table(found: list[WorkerView]) -> RenderableType:
    heads = ("worker", "state", "host", "pid", "version", "in hand", "slots", "since", "seen")
    return table_of(heads, map(_worker_row, found))


def _worker_row(one: WorkerView) -> tuple[Cell, ...]:
    pid, slots = str(one.pid or ""), one.slots or ""
    since, seen = ago(one.since), ago(one.seen)
    return one.name, word(_state(one)), one.host, pid, one.version, one.in_hand, slots, since, seen


def _state(one: WorkerView) -> str:
    if not one.alive:
        return "dead"
    return "draining" if one.draining else "working"
