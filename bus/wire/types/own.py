"""Own types: what the functions of this process take, and how a name's field looks that nobody has written yet."""

from collections.abc import Sequence

from msgspec import Raw

from stepstream.bus.function import Function
from stepstream.bus.system_events import INVOKED, SYSTEM
from stepstream.bus.values import codec
from stepstream.bus.values.schemas import Schema, schema_of
from stepstream.bus.wire.types.declared import UNTYPED, Version

NONE = Schema(b"null", UNTYPED)
"""What is said where there is no type."""


def types_of(declaring: Sequence[Function]) -> dict[str, set[Schema]]:
    """Return what functions take: of each event's name, and of each function that is invoked; `-` where it is free."""
    found: dict[str, set[Schema]] = {}
    for function in declaring:
        for trigger in function.triggers:
            if not trigger.is_pattern and trigger.name not in SYSTEM:
                kinds = [] if trigger.kind is None else [trigger.kind]
                found.setdefault(trigger.name, set()).update(map(schema_of, kinds))
        found[f"{INVOKED} {function.slug}"] = set(map(schema_of, function.invoked_kinds))
    return {name: schemas or {NONE} for name, schemas in found.items()}


def redacted_by(bus: str, schema: Schema) -> dict[str, list[str]]:
    """Return the fields of a type that a bus shows to admins only, as they are stored; nothing where there are none."""
    return {bus: list(schema.redacted)} if schema.redacted else {}


def first_fields(declaring: Sequence[Function], now: int) -> dict[str, bytes]:
    """Return the fields of the names that functions of one bus give a type, as the first who declares one writes it."""
    found: dict[str, bytes] = {}
    for name, schemas in types_of(declaring).items():
        typed = sorted((one for one in schemas if one.hash != UNTYPED), key=lambda one: one.hash)
        if typed:
            bus = declaring[0].bus_id
            versions = {one.hash: Version(Raw(one.text), {bus: now}, redacted_by(bus, one)) for one in typed}
            found[name] = codec.encode(versions)
    return found
