"""Matching: does an incoming event match a run's own event? By equal value at a path, by expression, or always."""

from collections.abc import Mapping
from typing import Any

from stepstream.bus.values import codec
from stepstream.bus.values.expression import compiled, found_at

_OF_TWO = "an expression of two events"


def value_at(path: str, event: object) -> bytes | None:
    """Return the value an event (as plain values) has at a path like `data.a.b`, as canonical JSON.

    None when there is nothing, null, or a value nested too deeply to be compared.
    """
    value = found_at(path.split("."), event)
    try:
        return None if value is None else codec.canonical(value)
    except codec.NotJson:
        return None


def answers(own: Mapping[str, Any], incoming: Mapping[str, Any], match: str | None, if_: str | None) -> bool:
    """Whether `incoming` matches `own`: `if_` is true of the two, or both have the same value at `match`.

    Both are plain values. Raises ConfigError for an invalid `if_`; where it was declared, it was refused already.
    """
    if if_:
        return compiled(if_, _OF_TWO, other="async").matches(own, incoming)
    if not match:
        return True
    value = value_at(match, own)
    return value is not None and value == value_at(match, incoming)


def why_not(own: Mapping[str, Any], incoming: Mapping[str, Any], if_: str | None) -> str | None:
    """Return in words why an expression cannot be evaluated for two events, which do not match then; None when it can.

    Raises ConfigError as `answers` does.
    """
    return compiled(if_, _OF_TWO, other="async").why_not(own, incoming) if if_ else None
