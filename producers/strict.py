"""Strict JSON: what a stranger sent is read once, whole, and refused for anything a later reader would trip over.

NaN, duplicate keys, lone surrogates, deep nesting, endless numbers: each passes some parser and breaks the next one
(reliability C 14-25).
"""

import json
import re
from itertools import accumulate
from typing import Any

from bus.errors import EventInvalid

MAX_DEPTH = 64
MAX_DIGITS = 64
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; EventInvalid says what is wrong with it."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise EventInvalid("the body begins with a byte order mark; send plain UTF-8")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise EventInvalid(f"the body is not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise EventInvalid("the body is empty; send an event object or a list of them")
    if _depth(body) > MAX_DEPTH:
        raise EventInvalid(f"the body is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=_no_duplicates,
        )
    except json.JSONDecodeError as error:
        raise EventInvalid(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    if b"\\u" in body or b"\\U" in body:
        _no_surrogates(value)
    return value


def _depth(body: bytes) -> int:
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _no_constant(name: str) -> Any:
    raise EventInvalid(f"the body holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise EventInvalid(f"the body holds {text[:40]}, which is too big for a number")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise EventInvalid(
            f"the body holds an integer of {len(text)} digits; {MAX_DIGITS} is the most, send it as text"
        )
    return int(text)


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
