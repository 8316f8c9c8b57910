"""`bus functions`: which there are, with their runs, and who waits for their limits."""

from typing import Annotated

import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.wire.once import once
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.cli.printing import clock, print_json, print_table, words
from stepstream.checkpoint.limits.backlogs import Backlogs, backlogs_of
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
    """List the registered functions with their runs; or show one, with who waits for its limits; or forget one.

    One, with its limits: bus functions shop-refund. Gone for good: bus functions forget shop-refund. A function that is
    forgotten holds back no event any more, and all its runs are deleted.
    """
    if (action == "forget") != (slug is not None):
        raise ConfigError("write: bus functions, bus functions SLUG, or bus functions forget SLUG")
    if slug is not None:
        dropped = once(lambda wire: forget(wire, slug, with_runs=with_runs))
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
        say("no functions yet; a worker registers them: bus worker APP")
        return
    rows: list[tuple[str | int, ...]] = []
    for function in known:
        runs = how_many[function.slug]
        numbers = (runs["running"] + runs["queued"], runs["waiting"], runs["completed"], runs["failed"])
        rows.append((function.slug, ", ".join(function.on), *numbers))
    print_table(("function", words("on"), "running", "waiting", "completed", "failed"), rows)
    for one in apart:
        say(f"types: {one.words}")


def _show_function(slug: str, *, as_json: bool) -> None:
    async def look(wire: Wire) -> tuple[Registered, dict[str, int], Backlogs]:
        return await function_of(wire, slug), (await counts(wire, [slug]))[slug], await backlogs_of(wire, slug)

    function, runs, found = once(look, shows=True)
    if as_json:
        told = {
            "slug": slug,
            "on": function.on,
            "limits": function.flow,
            "retries": function.retries,
            "waits": function.waits,
            "runs": runs,
        }
        print_json({**told, "lines": found.backlogs, "buffers": found.buffers})
        return
    say(f"{slug}  on {', '.join(function.on) or 'being invoked'}")
    for limit in function.flow:
        say(f"  limit: {limit}")
    if function.retries:
        say(
            f"  a step that fails is tried {function.retries + 1} times"
            f"{f': {function.waits}' if function.waits else ''}"
        )
    say(f"  {', '.join(f'{count:,} {status}' for status, count in runs.items() if count) or 'no runs yet'}")
    if found.backlogs:
        print_table(
            ("in line for", "waiting", "running"), ((one.key, one.waiting, one.running) for one in found.backlogs)
        )
    for held in found.buffers:
        say(f"  buffer {held.key}: {held.events} event(s), due {clock(held.due)}")
