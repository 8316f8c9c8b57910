"""`bus send`, `bus trigger` and `bus delayed`."""

import difflib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from stepstream.bus import environment
from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import moment_of
from stepstream.bus.observe.tracing import begun_in
from stepstream.bus.process.terminal import say, say_json
from stepstream.bus.values import codec
from stepstream.bus.values.arguments import HELP, data_of, flags_of, sent_as_fits
from stepstream.bus.values.clock import utc
from stepstream.bus.wire.once import once
from stepstream.bus.wire.publishing import Stored
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.delayed import list_delayed, take_back
from stepstream.checkpoint.read.event.outcomes import Outcome, outcomes
from stepstream.checkpoint.registry import functions


def send(
    name: Annotated[str, typer.Argument(help="The event's name, for example order/paid.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[JSON] [key=value …]", help=HELP)] = None,
    id: Annotated[str | None, typer.Option(help="Your own id: sent twice within 24 h, it is stored once.")] = None,
    wait: Annotated[float, typer.Option(help="Wait up to this many seconds for its runs to end.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    delay: Annotated[str | None, typer.Option(help="Publish it later: seconds, 10m, 2d.")] = None,
    at: Annotated[str | None, typer.Option(help="Publish it then: 2026-12-01T09:00:00+01:00.")] = None,
) -> None:
    """Publish an event: bus send order/paid '{"cents": 995}', or bus send order/paid cents=995 gift=true.

    With --wait the exit code is 1 when a run has failed, and 2 when one has not ended in time.
    """
    data = data_of(words or [])
    if wait and (delay is not None or at is not None):
        raise ConfigError("--wait waits for runs that begin now; leave it out with --delay and --at")
    event = NewEvent(name, data, id, delay=_delay(delay), at=None if at is None else moment_of(at))
    _publish(event, data, words or [], wait, as_json=as_json)


def trigger(
    name: Annotated[str, typer.Argument(help="The event's name; a colon is a slash: sync:press is sync/press.")],
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="[--flag[=value] …]", help="Its data; without a value a flag is true.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Wait up to this many seconds for its runs to end.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Publish an event as one starts a script: bus trigger sync:press --limit=50 --force.

    That is the event sync/press with {"limit": 50, "force": true}. What flags of yours are called --wait, --json or
    --help is sent with bus send. The exit code is that of bus send.
    """
    data = flags_of(flags or [])
    words = [flag.removeprefix("--") for flag in flags or ()]
    _publish(NewEvent(name.replace(":", "/"), data), data, words, wait, as_json=as_json)


def _publish(event: NewEvent, data: dict[str, Any], words: Sequence[str], wait: float, *, as_json: bool) -> None:
    """Publish an event, and tell what became of it."""
    begun_in(environment.traceparent())
    stored, ends, unheard = once(lambda wire: _send(wire, event, data, words, wait), "bus-send")
    if as_json:
        told = {
            "id": stored.id,
            "entry": stored.entry,
            "duplicate": stored.duplicate,
            "functions": stored.functions,
        } | ({"due": stored.due} if stored.due else {})
        runs = [
            {"run": end.run, "function": end.slug, "status": end.status} | ({"error": end.error} if end.error else {})
            for end in ends
        ]
        say_json(codec.encode({**told, "runs": runs} if wait else told))
    else:
        later = f"  to be published {_when(stored.due)}" if stored.due else ""
        say(f"{stored.id}{later}{'  (was stored before)' if stored.duplicate else ''}")
        if unheard:
            say(f"  {unheard}")
        if wait and not ends:
            say("  no function ran for it")
        for end in ends:
            say(f"  {end.run}  {end.slug}  {end.status}{f': {end.error}' if end.error else ''}")
    if any(not end.has_ended for end in ends):
        raise typer.Exit(2)
    if any(end.status == "failed" for end in ends):
        raise typer.Exit(1)


def _delay(text: str | None) -> float | str | None:
    """Return a delay as it was typed: a number is seconds."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _when(ms: int) -> str:
    return utc(ms).astimezone().isoformat(timespec="seconds")


def delayed(
    action: Annotated[str | None, typer.Argument(metavar="[cancel NAME ID]", help="cancel: take one back.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="", help="")] = None,
    id: Annotated[str | None, typer.Argument(metavar="", help="")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the events that are to be published later, the next first; or take one back, after which it never is.

    bus delayed cancel order/remind o1
    """
    if action is not None:
        if action != "cancel" or name is None or id is None:
            raise ConfigError("write: bus delayed, or bus delayed cancel NAME ID")
        once(lambda wire: acted(wire, "cancel_delayed", f"{name} {id}", take_back(wire, name, id)))
        if as_json:
            say_json(codec.encode({"name": name, "id": id, "status": "cancelled"}))
        else:
            say(f"{id}  is not published")
        return
    found = once(lambda wire: list_delayed(wire, limit=limit), shows=True)
    if as_json:
        say_json(codec.encode(found))
        return
    for event in found:
        say(f"{_when(event.due)}  {event.name}  {event.id}")
    if not found:
        from stepstream.checkpoint.cli.printing import print_none  # with what draws tables, which `bus send` needs not

        print_none("no event waits for its time; bus send NAME --delay 10m makes one")


async def _send(
    wire: Wire, event: NewEvent, data: dict[str, Any], words: Sequence[str], wait: float
) -> tuple[Stored, list[Outcome], str]:
    sender = Bus("cli")
    sender.connect(wire)
    [stored] = await sent_as_fits(
        words, data, lambda fitting: sender.publish([msgspec.structs.replace(event, data=fitting)])
    )
    name = str(event.event)
    ends = await outcomes(wire, name, stored.entry, wait) if wait else []
    return stored, ends, "" if stored.functions != 0 else await unheard(wire, name, waits=stored.waits)


async def unheard(wire: Wire, name: str, *, waits: bool) -> str:
    """Return what is told of an event that starts no function: who hears it all the same, or that nobody does.

    `waits` says whether runs waited for it when it was stored: by now they may have taken it.
    """
    known = await functions(wire)
    heard = ["runs wait for it"] if waits else []
    cancelled = [function.slug for function in known if name in function.cancels]
    heard += [f"it cancels runs of {', '.join(cancelled)}"] if cancelled else []
    if heard:
        return f"it starts no function; {', and '.join(heard)}"
    names = sorted({one for function in known for one in function.events})
    near = difflib.get_close_matches(name, names, 1)
    if not names:
        return "no function listens to it: none is registered yet; a worker does that: bus worker APP"
    hint = f"; did you mean {near[0]}?" if near else "; bus functions tells what each listens to"
    return f"no function listens to it{hint}"
