"""Types: declares what events are made of to other processes, and removes what is declared by buses that are gone."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Raw

from stepstream.bus.errors import EventInvalid, StoreError, StoreUnavailable
from stepstream.bus.function import Function
from stepstream.bus.system_events import INVOKED
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.fitting import misfit
from stepstream.bus.values.schemas import Schema
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.types.declared import (
    GONE_MS,
    UNTYPED,
    Disagreement,
    Version,
    Versions,
    declared,
    disagreement,
    redacted,
    versions_of,
)
from stepstream.bus.wire.types.own import NONE, redacted_by, types_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.fields import put_if
from stepstream.checkpoint.registry import functions

SAY_AGAIN_MS = 30_000
"""Within this time a declaration is not written again: all workers of a bus say the same every minute."""

_AT_ONCE = 100


async def declare_types(wire: Wire, declaring: Sequence[Function], patience: float | None = None) -> list[Disagreement]:
    """Say what types the functions of one bus have; return the names that another bus has other types of."""
    if not declaring:
        return []
    bus, types = declaring[0].bus_id, types_of(declaring)
    now = await patiently(wire.clock, patience)
    apart: list[Disagreement] = []
    for part in parts(sorted(types)):
        for name, raw in zip(part, await patiently(_read(wire, part), patience), strict=True):

            def said(raw: bytes | None, schemas: set[Schema] = types[name]) -> bytes | None:
                return _with(raw, bus, schemas, now)

            stands = await _put(wire, name, raw, said, patience)
            found = disagreement(name, stands, now) if not name.startswith(INVOKED) else None
            apart += [found] if found is not None and bus in found.buses else []
    return apart


async def say_no_more(wire: Wire, declaring: Sequence[Function], cursor: int) -> int:
    """Of one page of names, say of those that the functions of one bus have no type of any more that they have none.

    Else what a removed function took would be asked of events until its bus is gone. Other workers of the bus, that
    have the function, say so every minute: then it counts. Return where the next page begins.
    """
    if not declaring:
        return 0
    bus, types = declaring[0].bus_id, types_of(declaring)
    now = await wire.clock()
    following, flat = await wire.load("HSCAN", keys.types(), cursor, "COUNT", _AT_ONCE)
    for name, raw in fields_of(flat).items():
        if codec.text(name) not in types:
            await _put(wire, codec.text(name), raw, lambda raw: _with(raw, bus, {NONE}, now))
    return int(following)


async def tidy_types(wire: Wire, cursor: int) -> int:
    """Remove, from one page of names, what buses declare that are gone; return where the next page begins."""
    now = await wire.clock()
    following, flat = await wire.load("HSCAN", keys.types(), cursor, "COUNT", _AT_ONCE)
    for name, raw in fields_of(flat).items():
        await _put(wire, codec.text(name), raw, lambda raw: _without_the_gone(raw, now))
    return int(following)


async def forget_types(wire: Wire, function: Registered) -> None:
    """Remove the types of a function that is forgotten, where no other function of its bus has that name."""
    others = {name for one in await functions(wire) if one.bus == function.bus and one.slug != function.slug
              for name in one.events}  # fmt: skip
    names = [name for name in function.events if name not in others]
    for part in parts([*names, f"{INVOKED} {function.slug}"]):
        for name, raw in zip(part, await _read(wire, part)(), strict=True):
            await _put(wire, name, raw, lambda raw: _without(raw, function.bus))


async def misfit_of_call(wire: Wire, slug: str, data: bytes) -> EventInvalid | None:
    """Return why a function does not take the data it is invoked with; None when it does, or nobody can tell here."""
    try:
        raw = await wire.call("HGET", keys.types(), f"{INVOKED} {slug}")
    except (StoreError, StoreUnavailable):  # it is checked again when it runs
        return None
    found: EventInvalid | None = None
    for one in declared(raw, now_ms()):
        wrong = misfit(one.schema, codec.decode(data))
        if wrong is None:
            return None
        found = found or wrong
    return found


async def schemas_of(wire: Wire, name: str) -> list[bytes]:
    """Return the JSON Schemas of the types that count for the events of a name: data must fit one of them.

    None where nobody has declared one. For what a function is invoked with: `invoked_name(slug)`.
    """
    try:
        raw = await wire.load("HGET", keys.types(), name, patience=2.0)
    except StoreError:  # no hash: whoever declares a type says so
        return []
    return [one.schema for one in declared(raw, now_ms())]


async def redacted_fields(wire: Wire) -> dict[str, tuple[str, ...]]:
    """Return by the event's name which fields of its data are shown to admins only, as the types of it say.

    What functions are invoked with is under one name, as the event of such a run does not tell whose it is.
    """
    try:
        flat = await wire.load("HGETALL", keys.types(), patience=2.0)
    except StoreError:  # no hash: whoever declares a type says so
        return {}
    found: dict[str, set[str]] = {}
    for raw_name, raw in fields_of(flat).items():
        if b'"redacted"' in raw:
            name = codec.text(raw_name)
            found.setdefault(INVOKED if name.startswith(f"{INVOKED} ") else name, set()).update(redacted(raw))
    return {name: tuple(sorted(paths)) for name, paths in found.items() if paths}


def invoked_name(slug: str) -> str:
    """Return the name under which the types stand that a function is invoked with."""
    return f"{INVOKED} {slug}"


async def disagreements(wire: Wire) -> list[Disagreement]:
    """Return the names for which two buses have types and share none."""
    now = await patiently(wire.clock, 2.0)
    try:
        flat = await wire.load("HGETALL", keys.types(), patience=2.0)
    except StoreError:  # no hash: whoever declares a type says so
        return []
    found = [disagreement(codec.text(name), raw, now) for name, raw in sorted(fields_of(flat).items())]
    return [one for one in found if one is not None]


async def disagreements_of(wire: Wire, function: Registered) -> list[Disagreement]:
    """Return the names that start a function for which two buses have types and share none."""
    now = await patiently(wire.clock, 2.0)
    found: list[Disagreement | None] = []
    for part in parts(function.events):
        try:
            raws = await patiently(_read(wire, part), 2.0)
        except StoreError:
            return []
        found += [disagreement(name, raw, now) for name, raw in zip(part, raws, strict=True)]
    return [one for one in found if one is not None]


def _read(wire: Wire, part: Sequence[str]) -> Callable[..., "asyncio.Future[list[bytes | None]]"]:
    return lambda: wire.call("HMGET", keys.types(), *part)


async def _put(
    wire: Wire,
    name: str,
    raw: bytes | None,
    change: Callable[[bytes | None], bytes | None],
    patience: float | None = 2.0,
) -> bytes | None:
    """Change a name's field unless somebody else has meanwhile: then change that. Return what stands."""
    while True:
        changed = change(raw)
        if changed is None:
            return raw
        stands = await put_if(wire, keys.types(), name, changed, raw or b"", patience)
        if stands is None:
            return changed
        raw = stands


def _with(raw: bytes | None, bus: str, schemas: set[Schema], now: int) -> bytes | None:
    """Return a field in which a bus declares types; None when it has done so lately, or there is nothing to say."""
    versions = _kept(versions_of(raw), now)
    wanted = {schema.hash: schema for schema in schemas}
    if UNTYPED in wanted and not any(bus in version.buses for version in versions.values()):
        return None
    if all(name in versions and _is_said(versions[name], bus, schema, now) for name, schema in wanted.items()):
        return None
    for name, schema in wanted.items():
        version = versions.setdefault(name, Version(Raw(schema.text), {}))
        version.buses[bus] = now
        version.redacted = {**_redacted_by_others(version, bus), **redacted_by(bus, schema)}
    return _text(versions)


def _is_said(version: Version, bus: str, schema: Schema, now: int) -> bool:
    """Whether a bus has said lately what it says of a type."""
    is_same = version.redacted.get(bus, []) == list(schema.redacted)
    return is_same and now - version.buses.get(bus, 0) < SAY_AGAIN_MS


def _redacted_by_others(version: Version, bus: str) -> dict[str, list[str]]:
    return {one: paths for one, paths in version.redacted.items() if one != bus}


def _without_the_gone(raw: bytes | None, now: int) -> bytes | None:
    """Return a field without what counts no more; None when there is nothing of that."""
    text = _text(_kept(versions_of(raw), now))
    return None if text == raw else text


def _without(raw: bytes | None, bus: str) -> bytes | None:
    """Return a field without what a bus declares; None when it declares nothing."""
    versions = versions_of(raw)
    if not any(bus in version.buses for version in versions.values()):
        return None
    for version in versions.values():
        version.buses.pop(bus, None)
        version.redacted = _redacted_by_others(version, bus)
    return _text({name: version for name, version in versions.items() if version.buses})


def _kept(versions: Versions, now: int) -> Versions:
    """Return versions without the buses that are gone; none is said later than now: the clock was set back."""
    kept: Versions = {}
    for name, version in versions.items():
        buses = {bus: min(said, now) for bus, said in version.buses.items() if said > now - GONE_MS}
        if buses:
            paths = {bus: of_bus for bus, of_bus in version.redacted.items() if bus in buses}
            kept[name] = Version(version.schema, buses, paths)
    return kept


def _text(versions: Versions) -> bytes:
    """Return a field as it is stored; empty when nothing is left, and the field goes."""
    typed = set(versions) - {UNTYPED}
    return codec.encode(dict(sorted(versions.items()))) if typed else b""
