"""Strict JSON: whatever comes in by HTTP is read here, once, and refused for anything a later reader would trip over.

NaN, duplicate keys, lone surrogates, deep nesting, endless numbers: each passes some parser and breaks the next one.
The text is parsed first, by C code that takes it in one pass whatever it is; all else is asked of the values.
"""

import json
from itertools import count
from math import isfinite
from typing import Any, TypeVar, cast

import msgspec

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import invalid
from stepstream.bus.values import codec

T = TypeVar("T")

MAX_DEPTH = 64
MAX_DIGITS = 64
_BIGGEST = 10**MAX_DIGITS
_TOO_LONG = f"the body holds an integer of more than {MAX_DIGITS} digits; send it as text"
_TOO_DEEP = f"the body is nested deeper than {MAX_DEPTH} levels"


class Malformed(EventInvalid):
    """The body is no JSON at all."""


def parse(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; EventInvalid says what is wrong with it."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise Malformed("the body begins with a byte order mark; send plain UTF-8")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise Malformed("the body is empty; send JSON")
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise EventInvalid(_TOO_DEEP) from None
    except ValueError:  # Python's own limit, of thousands of digits
        raise EventInvalid(_TOO_LONG) from None
    _check([value])
    if "\\u" in text:
        _no_surrogates(value)
    return value


def parse_as(body: bytes, shape: type[T]) -> T:
    """Return the value of a JSON text as a type; EventInvalid says what is wrong, and with which field."""
    parse(body)
    try:
        return codec.decode_as(body, shape)
    except msgspec.DecodeError as error:
        raise invalid(error, "") from None


def _check(level: list[Any]) -> None:
    """Refuse what is too deep, and numbers that readers would not take; looks at each value once, level by level."""
    for depth in count():
        if not level:
            return
        below: list[Any] = []
        for at in level:
            kind = cast("type[Any]", type(at))
            if kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    raise EventInvalid(_TOO_DEEP)
                below.extend(at.values() if kind is dict else at)
            elif kind is int:
                if not -_BIGGEST < at < _BIGGEST:
                    raise EventInvalid(_TOO_LONG)
            elif kind is float and not isfinite(at):
                raise EventInvalid("the body holds a number that is too big")
        level = below


def _no_constant(name: str) -> Any:
    raise Malformed(f"the body holds {name}, which is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise EventInvalid(f"the body has key {twice[:80]!r} twice in one object")
    return found


def _no_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise EventInvalid("the body holds half of a surrogate pair (\\ud800 … \\udfff alone)") from None
