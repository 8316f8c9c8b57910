"""Cost: how much work an expression is of an event, counted before it is evaluated.

CEL always ends, but not soon: it copies a value each time that a variable is named, macros within macros multiply, and
`map` and `filter` copy what they have so far for each member. So the work is counted first, in values that are copied:
from the tree of the expression, and from how long and how large what it looks at is. That is an upper bound and no
measurement: it is the same on every machine, busy or not.

For each part of an expression it is followed how large its value may be: the largest one, and all together over the
rounds of the loops it is in. What a loop goes over is shared by its rounds; what is
named from outside is copied in each.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

from stepstream.bus.values.cel.pattern import to_compile, to_look
from stepstream.bus.values.cel.tree import MACROS, Node, NotRead, tokens_of, tree_of

MOST_WORK = 2_000_000
"""How many values an expression may copy: a third of a second at most, on a machine of 2026."""
MOST_JOINS = 16
"""How many `+` an expression may have."""
_FEW_NAMES = 4
"""An expression that only names so few fields is not counted: it goes over each once."""
_WORK = MACROS | {"matches", "json_parse"}
"""What may be much work though little is named."""
_ROOTS = frozenset({"event", "async", "output"})
_ESCAPES = re.compile(r"\\[xXuU0-3]")
_CHARACTERS = 128
"""So many characters of a text are copied and looked through as one value."""
_ROUND = 10
"""What a round of a loop is, beside what it copies."""
_TEXT_IN, _ENTRY_IN, _VALUE_IN = 40, 90, 8
"""What it is to give CEL a text, an entry of a map, another value."""
_CALLED_BACK = 60
"""What it is to give a value to a function of Python, and take one."""
_SMALL = frozenset({
    "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "bool", "type", "has", "truthy",
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
    "getSeconds", "getMilliseconds", "date", "now", "now_plus", "now_minus", "timestamp", "duration",
})  # fmt: skip
"""Functions whose value is small, whatever they are called with."""
_OF_PYTHON = frozenset({
    "truthy", "lowercase", "uppercase", "b64decode", "json_parse", "date", "now", "now_plus", "now_minus",
})  # fmt: skip
"""The functions of the SDKs' dialect."""


class TooMuch(ValueError):
    """An expression that is too much work whatever event it is evaluated over: what is, and what to write instead."""


class Cost:
    """How the work of one expression grows with what it looks at."""

    def __init__(self, tree: Node, times: int = 1) -> None:
        """Take its tree, and how often it may be evaluated for one event."""
        self._tree = tree
        self._times = times
        smallest = _Count({name: _Size(1, 1, 1, {}) for name in _ROOTS})
        self.least = smallest.total_of(tree) * times
        """Its work with the smallest event."""
        self.has_made_patterns = smallest.has_made_patterns
        """Whether it looks for a pattern that is not known before it is evaluated."""
        self._is_free_to = max((size for size in (8, 32, 128, 512) if self._at_most(size) <= MOST_WORK), default=0)
        """With roots up to this size together it is never too much, whatever is in them."""

    def _at_most(self, size: int) -> int:
        roots = {name: _Size(size, size, size) for name in _ROOTS}
        return (_ENTRY_IN * size + _Count(roots).total_of(self._tree)) * self._times

    def of(self, seen: Mapping[str, Any]) -> int:
        """Return how many values are copied at most when it is evaluated over the roots it sees, by their names.

        0 where so little is seen that it need not be counted.
        """
        measured: dict[int, _Measure] = {}
        left = self._is_free_to
        try:
            for value in seen.values():
                left = _left(value, left)
            if left >= 0:
                return 0
            all_of = {name: _measured(value, measured) for name, value in seen.items()}
        except RecursionError:  # nested too deep to be counted
            return MOST_WORK + 1
        roots = {name: _Size(one.size, one.size, one.long, seen[name]) for name, one in all_of.items()}
        given = sum(one.given for one in all_of.values())
        return (given + _Count(roots, measured).total_of(self._tree)) * self._times


def cost_of(text: str, *, times: int = 1) -> Cost | None:
    """Return what counts the work of an expression that CEL has compiled; None where there is nothing to count.

    `times` is how often it may be evaluated for one event.

    TooMuch for one that is too much work with the smallest event.
    """
    try:
        tokens = tokens_of(text)
        if (joins := sum(one.text == "+" for one in tokens)) > MOST_JOINS:
            raise TooMuch(
                f"it has {joins} `+`, and may have {MOST_JOINS}; let the publisher send the joined text, or the sum"
            )
        calls = {one.text for one, following in pairwise(tokens) if following.text == "("}
        if not calls & _WORK and sum(one.text in _ROOTS for one in tokens) <= _FEW_NAMES:
            return None
        cost = Cost(tree_of(tokens), times)
    except NotRead as error:
        raise TooMuch(f"its work cannot be counted: {error}; write it simpler") from None
    if cost.has_made_patterns:
        raise TooMuch("what `matches` looks for must be a text in it or a field of the event, or several joined by `+`")
    if cost.least > MOST_WORK:
        raise TooMuch(
            f"it copies up to {told(cost.least)} values with the smallest event, and may {told(MOST_WORK)}; "
            "use `in` for a list, nest fewer macros, or let the publisher send a field that has the answer"
        )
    return cost


def told(work: int) -> str:
    """Return a count of values as it is told: a very large one by its size alone."""
    return f"{work:,}" if work < 10**15 else "more than 10^15"


# -- how large values are ----------------------------------------------------------------------------------------------


_UNKNOWN: Any = object()
"""In place of a value that is not known before the expression is evaluated."""


class _Size(NamedTuple):
    """How large the values of a part of an expression are."""

    total: int
    """All together, over all rounds of the loop it is in."""
    most: int
    """The largest."""
    long: int
    """How many members the longest list or map has that is in one of them."""
    there: Any = _UNKNOWN
    """The value itself, where it is known: a part of the event."""


class _Named(NamedTuple):
    """A variable, and the loop it belongs to: 0 is none."""

    size: _Size
    loop: int


_Names = dict[str, _Named]


class _Count:
    """Counts the work of one evaluation."""

    def __init__(self, roots: "Mapping[str, _Size]", measured: "dict[int, _Measure] | None" = None) -> None:
        self.has_made_patterns = False
        self._names = {name: _Named(size, 0) for name, size in roots.items()}
        self._measured = {} if measured is None else measured
        self._work = self._loops = 0

    def total_of(self, tree: Node) -> int:
        """Return how many values are copied to evaluate an expression once."""
        self._rate(tree, self._names, 0, 1)
        return self._work

    def _rate(self, node: Node, names: _Names, loop: int, rounds: int) -> _Size:
        """Return how large a part's values are; count what is copied to make them in so many rounds of a loop."""
        if node.kind == "text":
            size = 1 + len(node.name) // _CHARACTERS
            return self._made(_Size(size * rounds, size, 0, _text_of(node.name)))
        if node.kind == "name":
            known = names.get(node.name)
            if known is None:  # `true`, a type, or an event of which nothing is known
                return self._made(_Size(rounds, 1, 1))
            total = known.size.total if known.loop == loop else known.size.most * rounds
            return self._made(known.size._replace(total=total))
        if node.kind == "field":
            return self._field(self._rate(node.parts[0], names, loop, rounds), node.fields, rounds)
        if node.kind == "macro":
            return self._loop(node, names, loop, rounds)
        sizes = [self._rate(one, names, loop, rounds) for one in node.parts]
        if node.kind == "call":
            return self._call(node, sizes, rounds)
        if node.kind == "part":
            return self._made(sizes[0]._replace(there=_UNKNOWN))
        if node.kind == "plain":
            return self._made(_Size(rounds, 1, 0))
        total, most, long = (sum(one[n] for one in sizes) for n in range(3))
        if node.kind == "list":
            return self._made(_Size(total + rounds, most + 1, max([len(sizes), *(one.long for one in sizes)])))
        if node.kind == "join":
            self._work += total * (len(sizes) - 1)
            texts = [one.there for one in sizes]
            joined = _UNKNOWN if _UNKNOWN in texts else _joined(texts)
            return self._made(_Size(total, most, long, joined))
        return self._made(_Size(total, max(one.most for one in sizes), max(one.long for one in sizes)))

    def _made(self, size: _Size) -> _Size:
        self._work += size.total
        return size

    def _field(self, of: _Size, fields: tuple[str, ...], rounds: int) -> _Size:
        value = of.there
        if not isinstance(value, dict):
            return self._made(of._replace(there=_UNKNOWN))
        for name in fields:
            value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
        size, long, *_ = _measured(value, self._measured)
        return self._made(_Size(size * rounds, size, long, value))

    def _call(self, node: Node, sizes: list[_Size], rounds: int) -> _Size:
        total, most, long = (sum(one[n] for one in sizes) for n in range(3))
        if node.name in _OF_PYTHON:
            self._work += _CALLED_BACK * (total + rounds)
        if node.name == "matches":
            pattern = sizes[-1].there if sizes else None
            if isinstance(pattern, str):
                self._work += rounds * to_compile(pattern) + to_look(pattern, sizes[0].total * _CHARACTERS)
            elif pattern is _UNKNOWN:
                self.has_made_patterns = True
                self._work += MOST_WORK
        if node.name in _SMALL:
            return self._made(_Size(rounds, 1, 0))
        if node.name == "json_parse":  # each second character may be a value
            total, most, long = (one * _CHARACTERS for one in (total, most, max(most, long)))
            self._work += total * _CALLED_BACK
        return self._made(_Size(total + rounds, most + 1, max(long, 1)))

    def _loop(self, node: Node, names: _Names, loop: int, rounds: int) -> _Size:
        target = self._rate(node.parts[0], names, loop, rounds)
        within = member = target
        there: object = target.there
        if isinstance(there, list):
            several = cast("list[Any]", there)
            length = len(several)
            of_all = _measured(several, self._measured)
            member = _Size(target.total, of_all.most_within, of_all.long_within)
            turns = length * rounds
        else:
            length = target.long
            turns = min(target.total, length * rounds)
        self._loops += 1
        inner = self._loops
        self._work += _ROUND * turns
        inside = names | {node.parts[1].name: _Named(member._replace(there=_UNKNOWN), inner)}
        made = [self._rate(one, inside, inner, turns) for one in node.parts[2:]]
        if node.name == "map":
            body = made[-1]
            within = _Size(body.total + rounds, length * body.most + 1, max(length, body.long))
        elif node.name != "filter":
            return self._made(_Size(rounds, 1, 0))
        self._work += length * within.total  # what there is so far is copied for each member
        return self._made(within._replace(there=_UNKNOWN))


def _left(value: Any, left: int) -> int:
    """Return how much is left of a size when a value is taken from it; less than 0 as soon as there is not enough."""
    if isinstance(value, str):
        return left - 1 - len(value) // _CHARACTERS
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        left -= 2 + len(inner) + sum(map(len, inner)) // _CHARACTERS
        several: Iterable[Any] = inner.values()
    elif isinstance(value, list):
        left -= 2
        several = cast("list[Any]", value)
    else:
        return left - 1
    for one in several:
        if left < 0:
            break
        left = _left(one, left)
    return left


class _Measure(NamedTuple):
    """How large a value is, and how long the longest list or map in it; the same of the largest of its members."""

    size: int
    long: int
    most_within: int
    long_within: int
    given: int
    """What it is to make it one of CEL's."""


_ONE = _Measure(1, 1, 1, 1, _VALUE_IN)


def _measured(value: Any, known: dict[int, _Measure]) -> _Measure:
    """Return how large a value is; `known` are lists and maps that were measured before, by their `id`."""
    if isinstance(value, str):
        more = len(value) // _CHARACTERS
        return _Measure(1 + more, 1, 1, 1, _TEXT_IN + more)
    if not isinstance(value, dict | list):
        return _ONE
    inner = cast("dict[str, Any] | list[Any]", value)
    found = known.get(id(inner))
    if found is not None:
        return found
    size, given, most, long = 2, _VALUE_IN, 1, 1
    several: Any = inner
    if isinstance(inner, dict):
        several = inner.values()
        more = sum(map(len, inner)) // _CHARACTERS
        size += len(inner) + more
        given += _ENTRY_IN * (len(inner) + 1) + more
    kinds = set(map(type, several))
    if kinds & {dict, list} or len(several) < 4 or (str in kinds and len(kinds) > 1):
        for one in several:
            within = _measured(one, known)
            size += within.size
            given += within.given
            most = max(most, within.size)
            long = max(long, within.long)
    elif kinds == {str}:
        more = sum(map(len, several)) // _CHARACTERS
        most = 1 + max(map(len, several)) // _CHARACTERS
        size += len(several) + more
        given += _TEXT_IN * len(several) + more
    else:
        size += len(several)
        given += _VALUE_IN * len(several)
    found = known[id(inner)] = _Measure(size, max(len(several), long), most, long, given)
    return found


def _joined(texts: Sequence[Any]) -> str | None:
    """Return what texts are together; None where one of them is none, which is an error."""
    return "".join(texts) if all(isinstance(one, str) for one in texts) else None


def _text_of(literal: str) -> Any:
    """Return the text that is written in an expression; not where characters are written as numbers."""
    is_raw = literal[:1] in "rR"
    text = literal.lstrip("rRbB")
    quotes = 3 if text[:3] in {'"""', "'''"} and len(text) >= 6 else 1
    text = text[quotes:-quotes]
    if is_raw:
        return text
    return _UNKNOWN if _ESCAPES.search(text) else re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
