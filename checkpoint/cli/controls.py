"""`bus pause` and `bus resume`."""

import shlex
from typing import Annotated

import typer

from stepstream.bus.errors import BadRequest
from stepstream.bus.process.terminal import say
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.streams import streams
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import print_json, print_none
from stepstream.checkpoint.controls.ordered import Controls, controls
from stepstream.checkpoint.controls.pauses import pause_event, pause_function, resume_event, resume_function
from stepstream.checkpoint.controls.run_one import LetThrough, run_one
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.read.lists.event_names import all_names
from stepstream.checkpoint.registry import function_of, functions

_BY = "bus pause"
_STREAMS = 1_000
"""How many streams are looked into for what is in line."""
_SLUG = typer.Argument(metavar="[SLUG]", help="The function: <bus id>-<function id>.")
_EVENT = typer.Option("--event", help="An event's name instead: no function begins a run for it.")
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pause(slug: Annotated[str, _SLUG] = "", event: Annotated[str, _EVENT] = "", as_json: _Json = False) -> None:
    """Pause a function, or the events of a name: work stays in line. Without either, list what is paused.

    What a worker has in hand goes on until the run waits for something. Runs can still be cancelled.
    bus pause shop-refund, bus pause --event order/paid
    """
    if slug and event:
        raise BadRequest(_both(slug, event))
    nobody = False
    if slug:
        once(lambda wire: acted(wire, "pause_function", slug, pause_function(wire, slug, _BY)))
    elif event:
        nobody = once(lambda wire: acted(wire, "pause_event", event, _pause_event(wire, event)))
    if as_json:
        print_json({**_what(slug, event), "paused": True} if slug or event else once(controls, shows=True).paused)
    elif slug:
        say(f"{slug} is paused; go on with: bus resume {slug}")
    elif event:
        say(f"events {event} are paused; go on with: bus resume --event {shlex.quote(event)}")
        if nobody:
            say("no function listens to such events, and none is known to have been published: is the name right?")
    else:
        _list(once(controls, shows=True))


def resume(
    slug: Annotated[str, _SLUG] = "",
    event: Annotated[str, _EVENT] = "",
    one: Annotated[bool, typer.Option("--one", help="Only one run of the function; it stays paused.")] = False,
    as_json: _Json = False,
) -> None:
    """Resume a function, or the events of a name, that bus pause has paused.

    bus resume shop-refund, bus resume --event order/paid
    """
    if bool(slug) == bool(event):
        raise BadRequest(_both(slug, event) if slug else "say what is resumed: bus resume SLUG, or --event NAME")
    if one:
        _one(slug, as_json=as_json)
        return

    async def done(wire: Wire) -> bool:
        if event:
            return await acted(wire, "resume_event", event, resume_event(wire, event))
        was = await acted(wire, "resume_function", slug, resume_function(wire, slug))
        if not was:
            await function_of(wire, slug)  # one that is no more may be paused still; a slug that never was is mistyped
        return was

    was = once(done)
    what = slug or f"events {event}"
    if as_json:
        print_json({**_what(slug, event), "paused": False, "was_paused": bool(was)})
    else:
        say(f"{what}: resumed" if was else f"{what}: not paused")


def _one(slug: str, *, as_json: bool) -> None:
    if not slug:
        raise BadRequest("--one lets one run of a function go on: bus resume SLUG --one")

    async def asked(wire: Wire) -> tuple[LetThrough, int | None]:
        in_line = await _in_line(wire, slug)
        return await acted(wire, "run_one", slug, run_one(wire, slug, _BY)), in_line

    made, in_line = once(asked)
    if as_json:
        print_json(made)
    elif in_line is None:
        say(f"{slug}: one run is let through, if one is in line; the others stay")
    elif in_line:
        say(f"{slug}: one run is let through; {in_line:,} in line before that, of which the others stay")
    else:
        say(f"{slug}: nothing was in line that could be let through")


async def _in_line(wire: Wire, slug: str) -> int | None:
    """Return how many turns, events and runs of a function wait for it to go on; None where that is not known."""
    page = await streams(wire, limit=_STREAMS)
    readers = [reader for one in page.streams for reader in one.readers if reader.function == slug]
    unread = [reader.unread for reader in readers if reader.unread is not None]
    if page.cursor is not None or not readers or len(unread) < len(readers) or any(one.in_hand for one in readers):
        return None
    return sum(unread) + sum(line.waiting for line in (await backlogs_of(wire, slug)).backlogs)


async def _pause_event(wire: Wire, name: str) -> bool:
    """Pause events of a name; return whether nobody is known to publish, await or hear such."""
    await pause_event(wire, name, _BY)
    names = await all_names(wire, await functions(wire))
    is_known = name in {*names.heard, *names.unheard} or names.listeners.hears(name)
    return not is_known and not names.cut


def _what(slug: str, event: str) -> dict[str, str]:
    return {"function": slug} if slug else {"event": event}


def _both(slug: str, event: str) -> str:
    return f"either a function or an event, not both: got {slug!r} and --event {event!r}"


def _list(ordered: Controls) -> None:
    now = now_ms()
    rows = [
        *((slug, f"bus resume {slug}", one) for slug, one in ordered.functions.items()),
        *((f"events {name}", f"bus resume --event {shlex.quote(name)}", one) for name, one in ordered.events.items()),
    ]
    for what, way_out, one in rows:
        since = in_words(max(0, now - one.since))
        say(f"{what}  paused {since} ago by {one.by}; go on with: {way_out}")
    if not rows:
        print_none("nothing is paused; bus pause SLUG pauses a function")
