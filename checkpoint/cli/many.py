"""Many: what `bus cancel` and `bus rerun` do with all runs that match: count them, do it, tell how far it has come."""

import asyncio
import shlex
import sys
import time
from typing import Annotated

import typer

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.process.terminal import plain, say, warn
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import HAS_ENDED, IS_GONE
from stepstream.checkpoint.actions.operations import (
    DryCount,
    Kind,
    Operation,
    abort,
    carry_on,
    dry_count,
    operate,
    operation,
)
from stepstream.checkpoint.actions.rerun import RUN_AGAIN_ALREADY
from stepstream.checkpoint.actions.told import count_told, operation_told
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.filters import Given
from stepstream.checkpoint.cli.printing import clock, print_json, print_table, word
from stepstream.checkpoint.read.lists.search import query_of

Again = Annotated[bool, typer.Option("--again", help="Also those that have been run again already.")]
_TOLD_EVERY_S = 1.0
_LOOKED_EVERY_S = 0.1
"""How often is looked whether the worker that has the operation in hand is done with it."""
_FOR_S = 60.0
_DONE = {"cancel": "cancelled", "rerun": "run again"}


def act(kind: Kind, run_id: str, given: Given, *, yes: bool, as_json: bool, again: bool = False) -> None:
    """Count the runs that match, or act on them with `yes`. BadRequest when also one run is named, or nothing is."""
    if run_id:
        raise BadRequest(f"either the run {run_id[:60]!r} or --{given[0][0] if given else 'yes'}: an id is one run")
    if not given:
        status = "waiting" if kind == "cancel" else "failed"  # what has ended is not cancelled
        said = f"bus {kind} --status {status} --since 1h"
        raise BadRequest(f"which runs? bus {kind} ID, or filters as of bus runs: {said}")
    once(lambda wire: _act(wire, kind, given, yes=yes, as_json=as_json, again=again))


async def _act(wire: Wire, kind: Kind, given: Given, *, yes: bool, as_json: bool, again: bool) -> None:
    dry = await dry_count(wire, kind, await query_of(wire, given))
    if not yes or (dry.exact and not dry.count):
        _tell_count(dry, as_json=as_json, again=again)
        return
    over = await _operated(wire, dry, again=again)
    if as_json:
        print_json(operation_told(over))
    else:
        say(_summary(over))
    if over.state != "done" or set(over.failures) - {HAS_ENDED, IS_GONE, RUN_AGAIN_ALREADY}:
        raise typer.Exit(1)


def _tell_count(dry: DryCount, *, as_json: bool, again: bool) -> None:
    if as_json:
        print_json(count_told(dry))
        return
    if dry.sample:
        rows = ((one.id, one.function, word(one.status), clock(one.queued)) for one in dry.sample)
        print_table(("run", "function", "status", "queued"), rows)
    if dry.exact and not dry.count:
        say("no such runs: nothing is done")
        return
    more = "" if dry.exact or dry.kind == "rerun" else ", and those that no worker has read yet"
    if dry.again and not again:
        had = "have" if dry.again > 1 else "has"
        more = f", but for {dry.again:,} of these, which {had} been run again already (--again: these, too)"
    say(f"{_many(dry)} would be {_DONE[dry.kind]}{more}; nothing is done yet. To do it:")
    # With the moment of the count: what is queued between the two commands is not meant.
    options = [word for name, text in dry.query.pairs() for word in (f"--{name}", text)]
    say(shlex.join(["bus", dry.kind, *options, *(["--again"] if again else []), "--yes"]))


def _many(dry: DryCount) -> str:
    return f"{'' if dry.exact else 'at least '}{dry.count:,} run{'' if dry.count == 1 else 's'}"


async def _operated(wire: Wire, dry: DryCount, *, again: bool = False) -> Operation:
    """Do it, and return what it has come to. Who ends this (Ctrl-C) aborts it, when the step in hand is done."""
    begun = operate(wire, dry.kind, dry.query, by=f"bus {dry.kind}", expected=dry.count, seconds=0.0, again=again)
    about = " ".join([dry.kind, f"{dry.count} runs", *(f"{name}={text}" for name, text in dry.query.pairs())])
    made = await acted(wire, "begin_operation", about, begun)
    sys.stderr.write(f"operation {made.id}: {_many(dry)}; Ctrl-C aborts it\n")
    carrying = asyncio.ensure_future(_carried_on(wire, made.id))
    began = time.monotonic()
    try:
        while not carrying.done():
            await asyncio.wait({carrying}, timeout=_TOLD_EVERY_S)
            _tell_progress(await operation(wire, made.id), dry, time.monotonic() - began)
        await carrying
        return await operation(wire, made.id)
    except asyncio.CancelledError:
        try:
            await abort(wire, made.id)
            await carrying
            warn(f"aborted: {_summary(await operation(wire, made.id))}")
        except BusError as error:
            carrying.cancel()
            warn(f"operation {made.id} may go on in workers, it could not be aborted: {error}")
        raise


async def _carried_on(wire: Wire, id: str) -> None:
    """Take its steps until it is over, also while workers take some."""
    while True:
        more = await carry_on(wire, id, _FOR_S)
        if (await operation(wire, id)).over:
            return
        if not more:  # a worker has it in hand
            await asyncio.sleep(_LOOKED_EVERY_S)


def _tell_progress(at: Operation, dry: DryCount, took: float) -> None:
    of = f" of {'' if dry.exact else 'at least '}{dry.count:,}"
    not_done = f", {at.failed:,} were not" if at.failed else ""
    sys.stderr.write(f"{at.done:,}{of} {_DONE[at.kind]}{not_done}; {at.done / took:,.0f}/s\n")
    sys.stderr.flush()


def _summary(over: Operation) -> str:
    why = "; ".join(f"{many:,}: {plain(told)}" for told, many in over.failures.items())
    failed = f", {over.failed:,} were not ({why})" if over.failed else ""
    runs = "run was" if over.done == 1 else "runs were"
    return f"{over.done:,} {runs} {_DONE[over.kind]}{failed}"
