"""`bus functions`: which there are, with their runs, and who waits for their limits."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.once import once
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.at_work.functions import function_facts
from stepstream.checkpoint.at_work.overview import AtWork, at_work_of
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import ago, clock, print_json, print_none, print_table, words
from stepstream.checkpoint.controls.overrides import restoring
from stepstream.checkpoint.limits.backlogs import Backlog, Buffer, backlogs_of
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.registry import Registered, function_of
from stepstream.checkpoint.registry import functions as registered
from stepstream.checkpoint.types import disagreements


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
    """List the registered functions with their runs; or show one, with what it is doing; or forget one.

    One, with its options, its last hour, what waits for it and its workers: bus functions shop-refund. Gone for good:
    bus functions forget shop-refund. One that is forgotten holds back no event any more, and all its runs are deleted.
    """
    if (action == "forget") != (slug is not None):
        raise ConfigError("write: bus functions, bus functions SLUG, or bus functions forget SLUG")
    if slug is not None:
        dropped = once(lambda wire: acted(wire, "forget_function", slug, forget(wire, slug, with_runs=with_runs)))
        if as_json:
            print_json({"function": slug, "forgotten": True, "groups_dropped": dropped})
        else:
            say(f"{slug} is forgotten; groups dropped: {', '.join(dropped) or 'none'}")
        return
    if action is not None:
        _show_function(action, as_json=as_json)
        return

    async def look(wire: Wire) -> tuple[list[Registered], dict[str, dict[str, int]], list[Disagreement]]:
        known = await registered(wire)
        return known, await counts(wire, [function.slug for function in known]), await disagreements(wire)

    known, how_many, apart = once(look, shows=True)
    if as_json:
        print_json([{"slug": f.slug, "on": f.on, "runs": how_many[f.slug]} for f in known])
        return
    if not known:
        print_none("no functions yet; a worker registers them: bus worker APP")
        return
    rows: list[tuple[str | int, ...]] = []
    for function in known:
        runs = how_many[function.slug]
        numbers = (runs["running"] + runs["queued"], runs["waiting"], runs["completed"], runs["failed"])
        rows.append((function.slug, ", ".join(function.on), *numbers))
    print_table(("function", words("on"), "running", "waiting", "completed", "failed"), rows)
    for one in apart:
        say(f"types: {one.words}")


class FunctionShown(msgspec.Struct, frozen=True):
    """A function: its options in words, what it is doing, and who waits for its limits."""

    slug: str
    on: tuple[str, ...]
    options: tuple[str, ...]
    runs: dict[str, int]
    """How many there are of each status."""
    at_work: AtWork
    lines: list[Backlog]
    buffers: list[Buffer]


def _show_function(slug: str, *, as_json: bool) -> None:
    async def look(wire: Wire) -> FunctionShown:
        known = await function_of(wire, slug)
        [facts], found = await asyncio.gather(function_facts(wire, [known]), backlogs_of(wire, slug))
        return FunctionShown(
            slug, known.on, known.in_words, facts.runs, at_work_of(facts), found.backlogs, found.buffers
        )  # fmt: skip

    found = once(look, shows=True)
    if as_json:
        print_json(found)
        return
    say(f"{slug}  on {', '.join(found.on) or 'being invoked'}")
    for told in (*found.options, *_at_work(found.at_work)):
        say(f"  {told}")
    if found.lines:
        print_table(("in line for", "waiting", "running"), ((one.key, one.waiting, one.running) for one in found.lines))
    for held in found.buffers:
        say(f"  buffer {held.key}: {held.events} event(s), due {clock(held.due)}")


def _at_work(one: AtWork) -> Iterator[str]:
    """Say what a function is doing, a line for each fact; first what holds it up, with the command that mends it."""
    slug, hour = one.function, one.hour
    if one.paused is not None:
        yield f"paused {ago(one.paused.since)} by {one.paused.by}; it goes on with: bus resume {slug}"
    for other in one.overrides:
        whose = "" if other.key is None else f" for {other.key}"
        back = f"as it declares with: {restoring(slug, other)}"
        yield f"{other.limit}{whose} is set to {other.to} by {other.by} until {clock(other.until)}; {back}"
    if one.workers:
        codes = ", ".join(f"{code} ({count})" for code, count in sorted(one.codes.items()))
        yield f"workers: {one.workers}{f'; code versions alive: {codes}' if codes else ''}"
    else:
        yield "workers: none; start one: bus worker APP"
    yield f"runs: {', '.join(f'{count:,} {status}' for status, count in one.runs.items() if count) or 'none yet'}"
    if one.unread:
        yield f"unread: {'' if one.exact else 'at least '}{one.unread:,} event(s) that begin a run"
    if one.oldest is not None:
        yield f"the oldest queued run came {ago(one.oldest)}: bus run {one.oldest_run}"
    if hour.minutes:
        took = (
            ""
            if hour.took_p50 is None or hour.took_p95 is None
            else (f"; half took up to ~{in_words(hour.took_p50)}, 95 of 100 up to ~{in_words(hour.took_p95)}")
        )
        yield f"last hour: {hour.started:,} started, {hour.completed:,} completed, {hour.failed:,} failed{took}"
    else:
        yield "last hour: nothing happened"
