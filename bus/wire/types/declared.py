"""Declared types: what `bus:types` says of an event's name, and which of that counts."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw

from stepstream.bus.values import codec

OVERLAP_MS = 180_000
"""While a new version is rolled out, the old one counts as long as its workers have said so within this time."""

GONE_MS = 7 * 86_400_000
"""How long the types of a bus count that no worker declares any more: as long as its groups hold events."""

UNTYPED = "-"
"""In place of a hash: the bus has had a type for this name, and has none now."""


class Version(msgspec.Struct, omit_defaults=True):
    """One type of a name: its JSON Schema, and the buses that declare it, with when they last did, server ms."""

    schema: Raw
    buses: dict[str, int]
    redacted: dict[str, list[str]] = {}
    """By bus: the fields that it shows to admins only."""


Versions = dict[str, Version]


class Declared(NamedTuple):
    """A type that counts: the fingerprint of its schema, and the schema."""

    hash: str
    schema: bytes


def versions_of(raw: bytes | None) -> Versions:
    """Return the versions of a field; none, when it cannot be read: somebody has written it by hand."""
    try:
        return codec.decode_as(raw, Versions) if raw else {}
    except msgspec.DecodeError:
        return {}


def counting(versions: Versions, now: int) -> dict[str, set[str]]:
    """Return the buses whose types count at a time, each with their fingerprints.

    Of each bus: what its workers have said lately, and what those of its version before still say.
    """
    latest: dict[str, int] = {}
    for version in versions.values():
        for bus, said in version.buses.items():
            latest[bus] = max(said, latest.get(bus, 0))
    found: dict[str, set[str]] = {}
    for name, version in versions.items():
        for bus, said in version.buses.items():
            if name != UNTYPED and said >= latest[bus] - OVERLAP_MS and said > now - GONE_MS:
                found.setdefault(bus, set()).add(name)
    return found


def declared(raw: bytes | None, now: int) -> tuple[Declared, ...]:
    """Return the types of a field that count at a time; data of that name must fit one of them."""
    versions = versions_of(raw)
    hashes = {name for names in counting(versions, now).values() for name in names}
    return tuple(Declared(one, bytes(versions[one].schema)) for one in sorted(hashes))


def redacted(raw: bytes) -> tuple[str, ...]:
    """Return the fields of a name's data that some bus shows to admins only, in any version: all of that is kept."""
    versions = versions_of(raw)
    return tuple(sorted({path for one in versions.values() for paths in one.redacted.values() for path in paths}))


class Disagreement(msgspec.Struct, frozen=True):
    """A name for which no type is shared by two buses: the buses, and the fields in which their types differ."""

    event: str
    buses: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def words(self) -> str:
        """How pages and tables tell of it."""
        fields = f" in {', '.join(self.fields)}" if self.fields else ""
        return f"{' and '.join(self.buses)} disagree about the type of {self.event}{fields}"


def disagreement(event: str, raw: bytes | None, now: int) -> Disagreement | None:
    """Return whether two buses have types for a name and share none."""
    versions = versions_of(raw)
    buses = counting(versions, now)
    apart = {one for one in buses for other in buses if not buses[one] & buses[other]}
    if not apart:
        return None
    schemas = [versions[name].schema for bus in sorted(apart) for name in sorted(buses[bus])]
    return Disagreement(event, tuple(sorted(apart)), tuple(_differing(schemas)))


class _Fields(msgspec.Struct):
    properties: dict[str, Raw] = {}
    required: list[str] = []


def _differing(schemas: Iterable[Raw]) -> list[str]:
    """Return the names that not all schemas tell the same of."""
    try:
        shapes = [codec.decode_as(schema, _Fields) for schema in schemas]
    except msgspec.DecodeError:  # written by hand
        return []
    told = [{name: (bytes(one), name in shape.required) for name, one in shape.properties.items()} for shape in shapes]
    every = sorted({name for one in told for name in one})
    return [name for name in every if len({one.get(name) for one in told}) > 1]
