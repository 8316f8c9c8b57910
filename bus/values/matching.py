"""Answer: whether an event that came belongs to another: by equal value at a path, by expression, or as any does."""

from collections.abc import Mapping
from typing import Any

from stepstream.bus.values import codec
from stepstream.bus.values.expression import compiled, found_at

_OF_TWO = "an expression of two events"


def value_at(path: str, event: object) -> bytes | None:
    """Return what an event (its plain values) has at `data.a.b`, as canonical JSON.

    None: there is nothing, null, or what is nested too deep to be compared.
    """
    found = found_at(path.split("."), event)
    try:
        return None if found is None else codec.canonical(found)
    except codec.NotJson:
        return None


def answers(own: Mapping[str, Any], came: Mapping[str, Any], match: str | None, if_: str | None) -> bool:
    """Whether `came` answers `own` (both plain values): `if_` is true of the two, or both have the same at `match`.

    Raises ConfigError for an `if_` that is no expression; where it was declared, that was told already.
    """
    if if_:
        return compiled(if_, _OF_TWO, of_two=True).matches(own, came)
    if not match:
        return True
    value = value_at(match, own)
    return value is not None and value == value_at(match, came)
