"""Controls: what people have ordered of functions and events: what is paused, which limits are set otherwise.

Each is one field of a hash. Workers read it as they begin, and block on a stream that gets an entry with each change.
"""

import contextlib
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import function_of

_KEPT_CHANGES = 16
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


def limit_field(owner: str, limit: LimitName, key: str | None) -> str:
    """Return the field under which an override stands."""
    return f"{_LIMIT}{owner} {limit}" + ("" if key is None else f" {quote(key, safe='')}")


async def controls(wire: Wire, patience: float | None = _PATIENCE_S) -> Controls:
    """Return what is ordered now."""
    flat: list[bytes] = await wire.load("HGETALL", keys.controls(), patience=patience)
    found: dict[str, dict[str, Pause]] = {_FUNCTION: {}, _EVENT: {}}
    limits: dict[str, tuple[Override, ...]] = {}
    for field, raw in zip(map(codec.text, flat[::2]), flat[1::2], strict=True):
        with contextlib.suppress(ValueError):  # written by hand, or by another version
            if field.startswith(_LIMIT):
                owner = field.split(" ")[1]
                limits[owner] = (*limits.get(owner, ()), codec.decode_as(raw, Override))
            else:
                kind = _EVENT if field.startswith(f"{_EVENT} ") else _FUNCTION
                name = field.removeprefix(f"{kind} ")  # of an event it may have spaces
                if name != field:
                    found[kind][name] = codec.decode_as(raw, Pause)
    return Controls(found[_FUNCTION], found[_EVENT], limits)


def one_field(slug: str) -> str:
    """Return the field under which stands that one run of a paused function is let through."""
    return f"one {slug}"


async def pause_of(wire: Wire, slug: str) -> Pause | None:
    """Return how a function is paused; None when it is not."""
    raw = await wire.load("HGET", keys.controls(), f"{_FUNCTION} {slug}", patience=_PATIENCE_S)
    return _pause_read(raw)


def _pause_read(raw: bytes | None) -> Pause | None:
    """Return how something is paused; None where it is not, or where something was written by hand that is no pause."""
    try:
        return codec.decode_as(raw or b"null", Pause | None)
    except ValueError:
        return None


async def pause_function(wire: Wire, slug: str, by: str) -> Pause:
    """Let no run of a function go on beyond what is in a worker's hand; return how it is paused from now, or was.

    Its work stays in line: events in their streams, turns in the queue, runs in the backlogs of limits. What a worker
    does at the moment it goes on doing until the run waits for something. FunctionNotFound when it is not registered.
    """
    await function_of(wire, slug)
    return await _pause(wire, f"{_FUNCTION} {slug}", by)


async def resume_function(wire: Wire, slug: str) -> bool:
    """Let the runs of a function go on; return whether it was paused."""
    await patiently(lambda: wire.call("HDEL", keys.controls(), one_field(slug)), _PATIENCE_S)
    return await _resume(wire, f"{_FUNCTION} {slug}")


async def pause_event(wire: Wire, name: str, by: str) -> Pause:
    """Let no function begin a run for events of a name; return how it is paused from now, or was.

    They are published as before, and stay in their stream. Runs that wait for such an event, or are cancelled by one,
    hear of it.
    """
    if not name or "*" in name:
        raise BadRequest(f"event name {name[:150]!r} must be one name, without *: order/placed")
    return await _pause(wire, f"{_EVENT} {name}", by)


async def resume_event(wire: Wire, name: str) -> bool:
    """Let functions begin runs for events of a name; return whether it was paused."""
    return await _resume(wire, f"{_EVENT} {name}")


async def _pause(wire: Wire, field: str, by: str) -> Pause:
    made = Pause(await patiently(wire.moment, _PATIENCE_S), by)
    await patiently(lambda: wire.call("HSETNX", keys.controls(), field, codec.encode(made)), _PATIENCE_S)
    raw = await wire.load("HGET", keys.controls(), field, patience=_PATIENCE_S)
    stands = _pause_read(raw)
    if raw and stands is None:
        await patiently(lambda: wire.call("HSET", keys.controls(), field, codec.encode(made)), _PATIENCE_S)
    await tell(wire, field)
    return stands or made


async def _resume(wire: Wire, field: str) -> bool:
    gone = await patiently(lambda: wire.call("HDEL", keys.controls(), field), _PATIENCE_S)
    await tell(wire, field)  # also when it was not paused: the one who resumed it may have died before this
    return bool(gone)


async def tell(wire: Wire, field: str) -> None:
    """Tell those who follow that something is ordered, or no more: a field of the hash."""
    stream = keys.control_changes()
    await patiently(lambda: wire.call("XADD", stream, "MAXLEN", _KEPT_CHANGES, "*", "of", field), _PATIENCE_S)
