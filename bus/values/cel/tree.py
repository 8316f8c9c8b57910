"""CEL tree: what an expression is made of, as far as its work depends on it (cost.py).

The CEL package compiles expressions, and does not show the tree. What it has compiled is read here a second time;
what is not understood is refused, so nothing is evaluated whose work was not counted.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)"""
    r"""|(?P<text>[bB]?[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|[bB]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))"""
    r"""|(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>\|\||&&|[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.DOTALL | re.ASCII,
)
_LEVELS = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
"""What goes over a list or a map."""
DEEPEST = 48
"""How deep brackets and calls may be nested where work is counted."""

Kind = Literal["text", "plain", "name", "field", "part", "call", "macro", "list", "join", "either"]


class Node(NamedTuple):
    """A part of an expression; `name` is a variable's, function's or field's, of a text what is written."""

    kind: Kind
    name: str = ""
    parts: "tuple[Node, ...]" = ()
    fields: tuple[str, ...] = ()
    has_target: bool = False
    """Whether the first part of a call is what it is called of: `a.f(b)`."""


class NotRead(ValueError):
    """A text that is not understood, and why."""


class Token(NamedTuple):
    """A word of an expression: a text as it is written, with its quotes; a number, a name, or a sign."""

    kind: Literal["text", "number", "name", "sign", "end"]
    text: str


def tokens_of(text: str) -> list[Token]:
    """Return the words of an expression, and an empty one behind the last; NotRead for what is none."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        one = _TOKEN.match(text, at)
        if one is None:
            raise NotRead(f"{text[at : at + 10]!r} is not understood")
        if one.lastgroup != "skip":
            found.append(Token(cast("Any", one.lastgroup), one[0]))
        at = one.end()
    return [*found, Token("end", "")]


def tree_of(tokens: Sequence[Token]) -> Node:
    """Return the tree of an expression that CEL has compiled.

    NotRead for what is not understood, or nested too deep.
    """
    reader = _Reader(tokens)
    found = reader.expression()
    if reader.sign:
        raise NotRead(f"{reader.sign!r} is not expected there")
    return found


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = self._depth = 0

    @property
    def sign(self) -> str:
        """What comes next, unless it is a text: then it begins with its quotes."""
        return self._tokens[self._at].text

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._take()[1] != sign:
            raise NotRead(f"{sign!r} is missing")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise NotRead(f"it is nested more than {DEEPEST} deep")

    def expression(self) -> Node:
        """Read one expression, up to what cannot belong to it."""
        self._deeper()
        found = self._operation(0)
        if self.sign == "?":
            self._take()
            yes = self.expression()
            self._expect(":")
            found = Node("either", parts=(found, yes, self.expression()))
        self._depth -= 1
        return found

    def _operation(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._operand()
        parts = [self._operation(level + 1)]
        signs: set[str] = set()
        while self.sign in _LEVELS[level]:
            signs.add(self._take()[1])
            parts.append(self._operation(level + 1))
        if len(parts) == 1:
            return parts[0]
        return Node("join" if "+" in signs else "plain", parts=tuple(parts))

    def _operand(self) -> Node:
        while self.sign in {"!", "-"}:
            self._take()
        before = self._depth
        found = self._first()
        while self.sign in {".", "["}:
            if self._take()[1] == "[":
                index = self.expression()
                self._expect("]")
                found = Node("part", parts=(found, index))
            else:
                kind, name = self._take()
                if kind != "name":
                    raise NotRead(f"{name!r} is no field")
                if self.sign == "(":
                    found = _called(name, found, self._arguments())
                elif found.kind == "field":
                    found = found._replace(fields=(*found.fields, name))
                    continue
                else:
                    found = Node("field", parts=(found,), fields=(name,))
            self._deeper()
        self._depth = before
        return found

    def _first(self) -> Node:
        kind, text = self._take()
        if kind in {"text", "number"}:
            return Node("text", text)
        if kind == "name":
            return _called(text, None, self._arguments()) if self.sign == "(" else Node("name", text)
        if text == "(":
            found = self.expression()
            self._expect(")")
            return found
        if text in {"[", "{"}:
            return Node("list", parts=tuple(self._several("]" if text == "[" else "}")))
        raise NotRead(f"{text!r} is not expected there")

    def _arguments(self) -> list[Node]:
        self._take()
        return self._several(")")

    def _several(self, end: str) -> list[Node]:
        found: list[Node] = []
        while self.sign != end:
            found.append(self.expression())
            if self.sign == ":" and end == "}":
                self._take()
                found.append(self.expression())
            if self.sign == ",":
                self._take()
            elif self.sign != end:
                raise NotRead(f"{end!r} is missing")
        self._take()
        return found


def _called(name: str, target: Node | None, arguments: Sequence[Node]) -> Node:
    if target is not None and name in MACROS and len(arguments) in {2, 3} and arguments[0].kind == "name":
        return Node("macro", name, (target, *arguments), has_target=True)
    return Node("call", name, (*(() if target is None else (target,)), *arguments), has_target=target is not None)
