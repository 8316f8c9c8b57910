"""`bus events`, `bus event`, `bus replay` and `bus streams`: what was published, and what became of it."""

import shlex
import sys
from typing import Annotated

import msgspec
import typer

from stepstream.bus.encryption.sealing import shown
from stepstream.bus.process.terminal import say
from stepstream.bus.values import codec
from stepstream.bus.values.durations import is_ago, past_moment
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.replay import replay as replay_event
from stepstream.checkpoint.at_work.streams import Stream
from stepstream.checkpoint.at_work.streams import streams as streams_of
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import Cell, clock, print_json, print_none, print_table, words
from stepstream.checkpoint.cli.shown import cut
from stepstream.checkpoint.read.event.kept import Clue, Kept, find_kept
from stepstream.checkpoint.read.event.story import EventStory, Part, event_story
from stepstream.checkpoint.read.lists.arrivals import Arrival, Arrivals, arrivals
from stepstream.checkpoint.read.lists.search import Found, RunQuery, search

_LINE = 80
"""How much of an event's data a line of the list has."""
_REPLAYS = 20
"""How many runs that were begun for an event later are told."""
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Run = Annotated[str, typer.Option(help="A run that was made of it: finds it though its stream has let go of it.")]
_Name = Annotated[
    str, typer.Option(help="Its name: with --entry it is found though its id is not remembered any more.")
]
_Entry = Annotated[str, typer.Option(help="Its entry in the stream of its name: bus events --json tells it.")]
_Cursor = Annotated[str, typer.Option(help="Where to go on: what the page before said.")]


def events(
    name: Annotated[str, typer.Option(help="Only events of this name.")] = "",
    since: Annotated[str, typer.Option(help="Stored then or later: 15m (ago), 2h, 2026-12-01T09:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Stored then or earlier.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    cursor: _Cursor = "",
    as_json: _Json = False,
) -> None:
    """List events, newest first: bus events --name order/paid --since 1h.

    The data of each alone: bus events --json | jq '.[].data'
    """

    async def look(wire: Wire) -> Arrivals:
        bounds = {what: text for what, text in (("since", since), ("until", until)) if text}
        now = await wire.moment() if any(map(is_ago, bounds.values())) else 0
        times = {what: past_moment(text, what, now) for what, text in bounds.items()}
        after = times["since"] - 1 if since else None
        before = times["until"] + 1 if until else None
        return await arrivals(wire, name=name or None, limit=limit, cursor=cursor or None, after=after, before=before)

    found = once(look, shows=True)
    if as_json:
        print_json([_told(one) for one in found.events])
    elif found.events:
        rows = ((one.event.id, one.name, clock(one.received), _short(one)) for one in found.events)
        print_table(("event", "name", "stored", words("data")), rows)
    else:
        asked = name or since or until
        print_none("no such events" if asked else "no events yet; publish one: bus send NAME key=value")
    if found.cursor is not None:
        sys.stderr.write(f"there are more; go on with --cursor '{found.cursor}'\n")


def event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id: its sender's own, or the one it got.")],
    run: _Run = "",
    name: _Name = "",
    entry: _Entry = "",
    as_json: _Json = False,
) -> None:
    """Show what became of an event: which functions it started, and why each other one did not begin.

    By the id it got, or its sender's own: bus event order-4711
    """

    async def look(wire: Wire) -> tuple[Kept, EventStory, Found]:
        kept = await find_kept(wire, event_id, Clue(run, name, entry))
        where = f"event.id == {codec.encode(kept.arrival.event.id).decode()}"
        replays = RunQuery(source="replay", event=kept.arrival.name, since=kept.arrival.received, where=where)
        return kept, await event_story(wire, kept), await search(wire, replays, limit=_REPLAYS)

    kept, story, replays = once(look, shows=True)
    found = kept.arrival
    if as_json:
        print_json({"event": found.event, "story": story, "replays": replays.runs})
        return
    data = cut(shown(bytes(found.event.data)).decode(errors="replace"), "bus event ID --json")
    lines = [f"{story.id}  {story.name}  {'' if kept.arrival.entry else 'about '}{clock(story.received)}", story.words]
    also = story.also if story.functions else ""  # else the words say it
    lines += [*filter(None, [story.note, also]), f"data  {data}"]
    lines += [f"{one.function}  {one.words}{_status_of(one)}" for one in story.functions]
    lines += [f"{one.function}  was replayed as run {one.id}, {one.status}" for one in replays.runs]
    for line in lines:
        say(line)
    if replays.cursor is not None:
        say(f"there may be more replays: bus runs --source replay --event {shlex.quote(found.name)}")


def _status_of(one: Part) -> str:
    """Return what has become of the run that a function made of an event."""
    return f", {one.status}" if one.status and one.kind in ("started", "merged") else ""


def replay(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    function: Annotated[str, typer.Option(help="Only to this function (its slug).")] = "",
    run: _Run = "",
    name: _Name = "",
    entry: _Entry = "",
    as_json: _Json = False,
) -> None:
    """Begin runs for an event that came before, of all functions that listen to it today or of one.

    Neither its id nor a rate limit keeps them out: bus replay order-4711 --function shop-ship. They are listed by
    bus runs --source replay
    """
    made = once(
        lambda wire: acted(
            wire,
            "replay_event",
            f"{event_id} {function}".strip(),
            replay_event(wire, event_id, function, clue=Clue(run, name, entry)),
        )
    )
    if as_json:
        print_json(made)
    else:
        for one in made.runs:
            say(f"{one.run}  {one.function}")
        for other in made.left_out:
            say(f"{other.function}  {other.why}")
    if not made.runs:
        raise typer.Exit(1)


def streams(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 100,
    cursor: _Cursor = "",
    as_json: _Json = False,
) -> None:
    """List streams, and how far each function has read them: queues of turns that are due, then events by name.

    Events that nobody listens to come last. Which functions are behind:
    bus streams --json | jq '.[].readers[] | select(.unread > 0)'
    """
    found = once(lambda wire: streams_of(wire, limit=limit, cursor=cursor or None), shows=True)
    if as_json:
        print_json(found.streams)
    elif found.streams:
        heads = ("stream", "entries", "newest", "function", "unread", "in hand", "waits for it")
        print_table(heads, (row for one in found.streams for row in _rows(one)))
    else:
        print_none("no streams yet; publish an event: bus send NAME key=value")
    if found.cursor is not None:
        sys.stderr.write(f"there are more; go on with --cursor '{found.cursor}'\n")


def _rows(one: Stream) -> list[tuple[Cell, ...]]:
    """Return a line for each function that reads a stream; a name is told in the first."""
    name = f"queue of {one.name}" if one.kind == "queue" else one.name
    about = (name, one.entries, clock(one.newest) if one.newest else "")
    readers = [(each.function, "?" if each.unread is None else each.unread, each.in_hand) for each in one.readers]
    first, *others = readers or [("nobody", "", "")]
    return [(*about, *first, one.waits or ""), *(("", "", "", *each, "") for each in others)]


def _short(one: Arrival) -> str:
    data = shown(bytes(one.event.data)).decode(errors="replace")
    return data if len(data) <= _LINE else f"{data[:_LINE]} …"


def _told(one: Arrival) -> dict[str, object]:
    told = msgspec.structs.replace(one.event, data=msgspec.Raw(shown(bytes(one.event.data))))
    return {"received": one.received, "entry": one.entry, **told.plain()}
