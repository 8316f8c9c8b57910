"""Exact: which numbers CEL holds and compares exactly.

It holds 64-bit integers, and compares an integer with a double as doubles: beyond 2^53 it takes different numbers for
equal.
"""

from typing import Any, cast

_EXACT = 2**53
"""Up to here a double holds every integer exactly."""


def are_small(value: Any) -> bool:
    """Whether every number in a value is one that doubles hold exactly; what is nested too deep to say is not."""
    kind = cast("type[Any]", type(value))
    try:
        if kind is dict:
            return all(map(are_small, value.values()))
        if kind is list:
            return all(map(are_small, value))
    except RecursionError:
        return False
    return kind not in (int, float) or -_EXACT < value < _EXACT


def not_exact(values: Any) -> int | float | None:
    """Return a number that CEL does not hold exactly, or takes for another one of `values`; None when there is none."""
    rounded: set[float] = set()
    doubles: set[float] = set()
    rest = [values]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            continue
        if isinstance(value, dict):
            rest += cast("dict[str, Any]", value).values()
        elif isinstance(value, list):
            rest += cast("list[Any]", value)
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**64:
                return value
            if abs(value) > _EXACT and int(float(value)) != value:
                rounded.add(float(value))
        elif isinstance(value, float) and abs(value) >= _EXACT:
            doubles.add(value)
    return next(iter(rounded & doubles), None)
