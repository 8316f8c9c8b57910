"""The audit log: who has done what, to what, when and from where; the newest 10,000 acts, in a stream.

Whoever lets somebody act tells it: a route of the site, a command. What workers do by themselves is in the log.
"""

import getpass
import os
import socket
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.process.terminal import warn
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, is_entry
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import Fields, fields_of
from stepstream.bus.wire.wire import Wire

_TOLD = ("who", "way", "what", "on", "source", "outcome")
R = TypeVar("R")

MOST_ACTS = 10_000
"""How many acts are kept: the newest."""
_LONGEST = 300
"""How much of what was acted on is kept, characters: it comes from whoever asks."""
DONE = "done"
COMMAND = "a command"
"""By what somebody has acted who used the command line."""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has done. `at` is Unix ms; `id` that of its entry."""

    id: str = ""
    at: int = 0
    who: str
    """The name of a token or of a person; of a command `user@host`; empty: anybody who reaches a site without keys."""
    way: str
    """By what: the API, the status page, a command."""
    what: str
    """What was done, as the route is named that does it: `pause_function`."""
    on: str
    """To what: a function, a run, an event …; empty: to none in particular."""
    source: str
    """From where: the address of who asked, or the host of a command."""
    outcome: str
    """`done`, or why not."""


class Acts(msgspec.Struct, frozen=True):
    """A page of acts, newest first, and the cursor of the next (None: there is none)."""

    acts: list[Act]
    cursor: str | None


async def record(wire: Wire, act: Act) -> None:
    """Write down what somebody has done; StoreError where Redis does not take it: the act stands all the same."""
    pairs = [part for pair in told(act).items() for part in pair]
    await wire.call("XADD", keys.audit(), "MAXLEN", "~", MOST_ACTS, "*", *pairs)


def told(act: Act) -> dict[str, str]:
    """Return an act as it is written down, by the names of its fields."""
    return {name: getattr(act, name)[:_LONGEST] for name in _TOLD}


async def acted(wire: Wire, what: str, on: str, work: Awaitable[R]) -> R:
    """Do what a person asks for by a command, and write it down, also where it is refused."""
    outcome = "broken off"
    try:
        done = await work
        outcome = DONE
        return done
    except BusError as error:
        outcome = str(error)
        raise
    finally:
        host = socket.gethostname()
        act = Act(who=f"{user()}@{host}", way=COMMAND, what=what, on=on, source=host, outcome=outcome)
        try:
            await record(wire, act)
        except BusError as error:
            warn(f"this is not in the audit log: {error}")


async def acts(wire: Wire, *, limit: int, cursor: str = "") -> Acts:
    """Return acts, newest first, those before `cursor`; BadRequest for one that is none of ours."""
    if cursor and not is_entry(cursor):
        raise BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    end = f"({cursor}" if cursor else "+"
    rows = await wire.load("XREVRANGE", keys.audit(), end, "-", "COUNT", limit + 1)
    found = [_act(codec.text(entry), fields_of(flat)) for entry, flat in rows[:limit]]
    return Acts(found, found[-1].id if len(rows) > limit else None)


def _act(entry: str, fields: Fields) -> Act:
    told = {name: codec.text(fields.get(name.encode(), b"")) for name in _TOLD}  # what is written by hand may lack some
    return Act(id=entry, at=entry_ms(entry), **told)


def user() -> str:
    """Return the name of who has begun this process; its number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
