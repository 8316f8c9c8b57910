"""Dialect: how expressions of the Inngest SDKs differ from plain CEL, and how they are made into it.

Their server takes what is missing for null instead of failing, so `event.data.x != 1` is true without an x; it lets any
value be a condition, as JavaScript does (`event.data.a || event.data.b`, `!event.data.done`); and it has functions of
its own. An expression of that dialect is marked, so that it is evaluated so wherever it is stored.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from stepstream.bus.values.durations import milliseconds

_MARK = "//sdk\n"
_OWN = "//cel\n"
_TOKEN = re.compile(
    r"""\s+|[rR]?"(?:[^"\\]|\\.)*"|[rR]?'(?:[^'\\]|\\.)*'|\|\||&&|[=!<>]=|[A-Za-z_]\w*"""
    r"""|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|.""",
    re.DOTALL,
)
_COMPARES = frozenset({"==", "!=", "<=", ">=", "<", ">", "in"})
_ARITHMETIC = frozenset("+-*/%")
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")
_LONGEST = 65_536
"""Characters of an expression in plain CEL: what may be any value is written twice, and within brackets again."""
_BOOLEAN = frozenset({"has", "startsWith", "endsWith", "contains", "matches", "exists", "exists_one", "all", "bool"})
"""Functions that return true or false."""


def of_sdk(text: str) -> str:
    """Return an expression of an SDK, marked as one; one that is marked as plain CEL becomes that."""
    return text.removeprefix(_OWN) if text.startswith(_OWN) else _MARK + text


def of_own(text: str) -> str:
    """Return an expression in plain CEL, marked as such where those of SDKs are expected."""
    return _OWN + text


def is_of_sdk(text: str) -> bool:
    """Whether an expression is marked as one of an SDK."""
    return text.startswith(_MARK)


def as_written(text: str) -> str:
    """Return an expression as its author wrote it."""
    return text.removeprefix(_MARK)


def truthy(value: Any) -> bool:
    """Whether a value counts as true in JavaScript."""
    return not (value is None or value is False or (isinstance(value, int | float | str) and not value))


class Plain(NamedTuple):
    """An expression as plain CEL, in which `truthy` is a function; whether its value is true or false and no other."""

    text: str
    is_boolean: bool


def plain(text: str) -> Plain:
    """Return an expression of the dialect as plain CEL; ValueError for one that becomes too long."""
    return _plain(_TOKEN.findall(text))


def _plain(tokens: Sequence[str]) -> Plain:
    asks = _place(tokens, "?")
    if asks is not None:
        otherwise = _otherwise(tokens, asks)
        condition, yes, no = (
            _plain(tokens[:asks]),
            _plain(tokens[asks + 1 : otherwise]),
            _plain(tokens[otherwise + 1 :]),
        )
        return Plain(f"({_as_condition(condition)} ? {yes.text} : {no.text})", yes.is_boolean and no.is_boolean)
    for operator, form in (("||", "({0} ? {1} : {2})"), ("&&", "({0} ? {2} : {1})")):
        split = _split(tokens, operator)
        if len(split) > 1:
            parts = list(map(_plain, split))
            if all(part.is_boolean for part in parts):
                return Plain(f"({f' {operator} '.join(part.text for part in parts)})", is_boolean=True)
            found = parts[-1].text
            for part in reversed(parts[:-1]):
                found = form.format(_as_condition(part), part.text, found)
                if len(found) > _LONGEST:
                    raise ValueError(f"its && and || in brackets make more than {_LONGEST} characters of plain CEL")
            return Plain(found, is_boolean=False)
    return _operand(tokens)


def _as_condition(one: Plain) -> str:
    return one.text if one.is_boolean else f"truthy({one.text})"


def _operand(tokens: Sequence[str]) -> Plain:
    """Return what has no `||`, `&&` or `?` outside brackets; what is in brackets is done by itself."""
    parts: list[str] = []
    words: list[str] = []
    inner: Plain | None = None
    at = 0
    while at < len(tokens):
        word = tokens[at]
        if word == "!":
            until = _end_of_member(tokens, at + 1)
            negated = _plain(tokens[at + 1 : until])
            parts.append(f"!{_as_condition(negated)}" if negated.is_boolean else f"!truthy({negated.text})")
            words.append("!")
            at = until
            continue
        if word in _OPENS:
            until = _closing(tokens, at)
            several = [_plain(part) for part in _split(tokens[at + 1 : until], ",")]
            inner = several[0] if len(several) == 1 and word == "(" else None
            parts += [word, ", ".join(one.text for one in several), *tokens[until : until + 1]]
            at = until + 1
            continue
        parts.append(word)
        if not word.isspace():
            words.append(word)
        at += 1
    text = "".join(parts).strip()
    if not words and inner is not None:  # only brackets
        return Plain(text, inner.is_boolean)
    compares, calculates = bool(_COMPARES & set(words)), bool(_ARITHMETIC & set(words))
    is_call = text.endswith(")") and words[-1] in _BOOLEAN
    is_boolean = compares or (not calculates and (is_call or words[:1] == ["!"])) or words in (["true"], ["false"])
    return Plain(text, is_boolean)


def _end_of_member(tokens: Sequence[str], at: int) -> int:
    """Return where what a `!` negates ends: names, points, calls and indices."""
    while at < len(tokens):
        word = tokens[at]
        if word in _OPENS:
            at = _closing(tokens, at) + 1
        elif word in _COMPARES or word in _ARITHMETIC or word in {"||", "&&", "?", ":", ","} or word in _CLOSES:
            return at
        else:
            at += 1
    return at


def _closing(tokens: Sequence[str], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        depth += (tokens[place] in _OPENS) - (tokens[place] in _CLOSES)
        if depth == 0:
            return place
    return len(tokens)


def _place(tokens: Sequence[str], wanted: str) -> int | None:
    """Return the first place of a word outside brackets."""
    depth = 0
    for place, word in enumerate(tokens):
        depth += (word in _OPENS) - (word in _CLOSES)
        if depth == 0 and word == wanted:
            return place
    return None


def _otherwise(tokens: Sequence[str], asks: int) -> int:
    """Return the place of the `:` of a `?`."""
    depth = nested = 0
    for place in range(asks + 1, len(tokens)):
        word = tokens[place]
        depth += (word in _OPENS) - (word in _CLOSES)
        if depth == 0:
            nested += word == "?"
            if word == ":":
                if not nested:
                    return place
                nested -= 1
    return len(tokens)


def _split(tokens: Sequence[str], operator: str) -> list[Sequence[str]]:
    found: list[Sequence[str]] = []
    while (place := _place(tokens, operator)) is not None:
        found.append(tokens[:place])
        tokens = tokens[place + 1 :]
    return [*found, tokens]


# -- values ------------------------------------------------------------------------------------------------------------


def filled(value: Any, tree: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> Any:
    """Return the part of a value that an expression uses, with null where something is missing.

    `asked` are the fields of which it asks whether they are there: those stay away.
    """
    if tree is None:
        return value
    inside: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    found: dict[str, Any] = {}
    for name, inner in tree.items():
        if name in inside or name not in asked or asked[name]:
            found[name] = filled(inside.get(name), inner, asked.get(name, {}))
    return found


def as_doubles(value: Any) -> Any:
    """Return plain values with doubles for whole numbers, as their server has all numbers."""
    if isinstance(value, dict):
        return {name: as_doubles(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [as_doubles(inner) for inner in cast("list[Any]", value)]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _date(value: Any) -> datetime:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1_000, UTC)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moved(sign: int) -> Callable[[str], datetime]:
    return lambda duration: datetime.now(UTC) + sign * timedelta(milliseconds=milliseconds(duration))


def _lowercase(text: Any) -> str:
    return str(text).lower()


def _uppercase(text: Any) -> str:
    return str(text).upper()


def _b64decode(text: Any) -> str:
    return base64.b64decode(str(text)).decode()


def _json_parse(text: Any) -> Any:
    return json.loads(str(text))


def _now() -> datetime:
    return datetime.now(UTC)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "truthy": truthy,
    "lowercase": _lowercase,
    "uppercase": _uppercase,
    "b64decode": _b64decode,
    "json_parse": _json_parse,
    "date": _date,
    "now": _now,
    "now_plus": _moved(1),
    "now_minus": _moved(-1),
}
"""The functions that their server has beside CEL's own."""
CELS = frozenset({
    "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bool", "bytes", "type",
    "timestamp", "duration", "dyn", "has", "all", "exists", "exists_one", "filter", "map", "min", "max", "getFullYear",
    "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes", "getSeconds",
    "getMilliseconds",
})  # fmt: skip
"""CEL's own."""
