"""Strict JSON: every body that comes in over HTTP is validated here, once, for what a later reader could not handle.

NaN, duplicate keys, lone surrogates, deep nesting, very long numbers: each passes some parser and breaks another.
The text is parsed first, by C code that takes any text in one pass; the other checks look at the parsed values.
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
    """The body is not JSON at all."""


def parse(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; EventInvalid says what is wrong."""
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
    """Return the value of a JSON text as a type; EventInvalid says what is wrong, and in which field."""
    parse(body)
    try:
        return codec.decode_as(body, shape)
    except msgspec.DecodeError as error:
        raise invalid(error, "") from None


def _check(level: list[Any]) -> None:
    """Refuse deep nesting, and numbers that readers cannot hold. Looks at each value once, level by level."""
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
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise EventInvalid(f"the body has key {twice[:80]!r} twice in one object")
    return fields


def _no_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise EventInvalid("the body holds half of a surrogate pair (\\ud800 … \\udfff alone)") from None
