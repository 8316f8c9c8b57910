"""Fitting: does a value fit a JSON Schema, and if not, which field is wrong?

The only module that imports jsonschema_rs, with the first schema that is needed: a process that has the types of what
it sends needs none.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from stepstream.bus.errors import EventInvalid

INTEGER = r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$"
NUMBER = r"^\s*[-+]?([0-9._]+([eE][-+]?[0-9]+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])\s*$"
BOOLEAN = r"^\s*([01tTfFyYnN]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[yY][eE][sS]|[nN][oO]|[oO][nN]|[oO][fF][fF])\s*$"
"""Text that Pydantic takes for an int, a float, a bool."""

AS_TEXT = {INTEGER: "integer", NUMBER: "number", BOOLEAN: "boolean"}
PYTHON_PATTERN = "pythonPattern"
"""Our own keyword: a pattern that Python looks for. JSON Schema's `pattern` is another language."""

_LONGEST = 200
_READ_AS = {
    "date-time": datetime, "date": date, "time": time, "duration": timedelta, "uuid": UUID, "decimal": Decimal,
}  # fmt: skip
"""Formats that are checked, by what reads them in the application too."""


def misfit(schema: bytes, value: object) -> EventInvalid | None:
    """Return why a value does not fit a schema; None when it does, or when this validator cannot tell."""
    validator = _validator(schema)
    if validator is None:
        return None
    try:
        error = next(iter(validator.iter_errors(value)), None)
    except (OverflowError, RecursionError, ValueError):  # deeper or larger than it goes
        return None
    if error is None:
        return None
    reason, path = _told(error)
    return EventInvalid(reason, field=f"data{path}")


@lru_cache(maxsize=1_024)
def _validator(schema: bytes) -> Any:
    """Return a compiled schema; None where it cannot be compiled: a pattern that only Python knows."""
    import jsonschema_rs

    formats = {name: _reader(kind) for name, kind in _READ_AS.items()}
    keywords: Any = {PYTHON_PATTERN: _PythonPattern}
    try:
        return jsonschema_rs.Draft202012Validator(
            schema.decode(), formats=formats, validate_formats=True, offline=True, keywords=keywords
        )
    except ValueError:
        return None


class _PythonPattern:
    """Checks text by a pattern, as the decoder does."""

    def __init__(self, _parent: object, pattern: str, _path: object) -> None:
        try:
            self._pattern = re.compile(pattern)
        except (re.error, TypeError):  # written by hand, or one that only another Python knows
            self._pattern = re.compile("")

    def validate(self, instance: object) -> None:
        """Raise ValueError for text in which it is not found."""
        if isinstance(instance, str) and not self._pattern.search(instance):
            raise ValueError(f"expected text matching {self._pattern.pattern!r}, got {_shown(instance)}")


def _reader(kind: Any) -> Callable[..., bool]:
    def reads(text: object) -> bool:
        try:
            msgspec.convert(text, kind)
        except msgspec.ValidationError:
            return False
        return True

    return reads


def _told(error: Any) -> tuple[str, str]:
    """Return what is wrong in words, and where."""
    kind, path = error.kind, _path(error.instance_path)
    if kind.name in ("anyOf", "oneOf") and hasattr(kind, "context"):
        return _told_of_choice(error, kind.context)
    if kind.name == "required":
        return "is missing", f"{path}.{kind.property}"
    if kind.name == "type":
        return _expected(kind.types, error.instance), path
    if kind.name == "additionalProperties":
        return "is no field of it", f"{path}.{kind.unexpected[0]}"
    if kind.name in ("enum", "const"):
        options = kind.options if kind.name == "enum" else [kind.expected_value]
        return f"expected {' or '.join(map(_shown, options))}, got {_shown(error.instance)}"[:_LONGEST], path
    if kind.name == "format":
        return f"expected {kind.format}, got {_shown(error.instance)}", path
    if kind.name == "pattern" and kind.pattern in AS_TEXT:
        return _expected([AS_TEXT[kind.pattern]], error.instance), path
    return str(error.message)[:_LONGEST], path


def _told_of_choice(error: Any, branches: Sequence[Sequence[Any]]) -> tuple[str, str]:
    """Return what is wrong where one of several schemas must fit: of the one that came farthest, or of all."""
    here = len(error.instance_path)
    firsts = [branch[0] for branch in branches if branch]
    farther = [one for one in firsts if one.kind.name != "type" or len(one.instance_path) > here]
    if farther:
        return _told(max(farther, key=lambda one: len(one.instance_path)))
    types = [kind for one in firsts for kind in one.kind.types]
    return _expected(list(dict.fromkeys(types)), error.instance), _path(error.instance_path)


def _expected(types: Sequence[str], value: object) -> str:
    return f"expected {' or '.join(types)}, got {_kind(value)}"


def _kind(value: object) -> str:
    names: dict[type[Any], str] = {
        dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", type(None): "null",
    }  # fmt: skip
    return names.get(type(value), "number")


def _shown(value: object) -> str:
    return repr(value)[:60]


def _path(parts: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
