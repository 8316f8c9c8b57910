"""Ordered: what people have ordered of functions and events now: what is paused, which limits are set otherwise.

Each order is one field of a hash, named here. Workers read all as they begin, and block on a stream that gets an entry
with each change (`put.py`).
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

_PATIENCE_S = 2.0
_FUNCTION, _EVENT, _LIMIT = "paused function", "paused event", "limit "

LimitName: TypeAlias = Literal["concurrency", "concurrency2", "throttle", "rate_limit"]
"""The limits of a function that can be set to another number: its first concurrency, its second, …"""


class Pause(msgspec.Struct, frozen=True):
    """Since when something is paused (server's clock, Unix ms), and by whom: `bus pause`, `the API`, a person."""

    since: int
    by: str


class Override(msgspec.Struct, frozen=True):
    """A limit that is set to another number until a moment: for each value of its key, or for one (as people write it).

    `since` when, and by whom; both moments are Unix ms by the server's clock. `request` is the id of whoever asked.
    """

    limit: LimitName
    key: str | None
    to: int
    until: int
    since: int
    by: str
    request: str = ""


class Paused(msgspec.Struct, frozen=True):
    """The functions, by slug, and the event names that are paused."""

    functions: Mapping[str, Pause]
    events: Mapping[str, Pause]


class Controls(msgspec.Struct, frozen=True):
    """What is ordered now: the functions, by slug, and the event names that are paused.

    `limits` are those that are set otherwise, by the function they belong to, or the name they are shared by (`*gpu`);
    also those whose time is over, until a worker removes them.
    """

    functions: Mapping[str, Pause] = {}
    events: Mapping[str, Pause] = {}
    limits: Mapping[str, tuple[Override, ...]] = {}

    @property
    def paused(self) -> "Paused":
        """What is paused."""
        return Paused(self.functions, self.events)


def function_field(slug: str) -> str:
    """Return the field under which stands that a function is paused."""
    return f"{_FUNCTION} {slug}"


def event_field(name: str) -> str:
    """Return the field under which stands that an event name is paused."""
    return f"{_EVENT} {name}"


def limit_field(owner: str, limit: LimitName, key: str | None) -> str:
    """Return the field under which an override stands."""
    return f"{_LIMIT}{owner} {limit}" + ("" if key is None else f" {quote(key, safe='')}")


def one_field(slug: str) -> str:
    """Return the field under which stands that one run of a paused function is let through."""
    return f"one {slug}"


async def controls(wire: Wire, patience: float | None = _PATIENCE_S) -> Controls:
    """Return what is ordered now."""
    flat: list[bytes] = await wire.load("HGETALL", keys.controls(), patience=patience)
    found: dict[str, dict[str, Pause]] = {_FUNCTION: {}, _EVENT: {}}
    limits: dict[str, tuple[Override, ...]] = {}
    for field, raw in zip(map(codec.text, flat[::2]), flat[1::2], strict=True):
        if field.startswith(_LIMIT):
            override, owner = codec.stored_as(raw, Override), field.split(" ")[1]
            if override is not None:
                limits[owner] = (*limits.get(owner, ()), override)
        else:
            kind = _EVENT if field.startswith(f"{_EVENT} ") else _FUNCTION
            pause, name = codec.stored_as(raw, Pause), field.removeprefix(f"{kind} ")  # an event's may have spaces
            if pause is not None and name != field:
                found[kind][name] = pause
    return Controls(found[_FUNCTION], found[_EVENT], limits)


async def pause_of(wire: Wire, slug: str) -> Pause | None:
    """Return how a function is paused; None when it is not."""
    return codec.stored_as(await wire.load("HGET", keys.controls(), function_field(slug), patience=_PATIENCE_S), Pause)
