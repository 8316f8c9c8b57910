"""Query text: what a GraphQL request asks for, as SDKs' own tests and scripts write it: no schema, no fragments.

Fields, aliases, arguments and variables are read; what a field is worth is the caller's to say. A library would bring a
type system for four fields, and a fifth of a second to each start.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.values import codec

_MOST_DEEP = 32
_WORD = re.compile(
    r"[\s,\ufeff]+|#[^\n]*|(?P<json>\"(?:\\.|[^\"\\\n])*\"|-?\d[\d.eE+-]*)|(?P<name>[_A-Za-z]\w*)|(?P<mark>\.{3}|.)",
    re.DOTALL,
)
_CONSTANTS = {"true": True, "false": False, "null": None}


class Asked(msgspec.Struct):
    """A field that is asked for: its name, what it is called in the answer, its arguments and its own fields."""

    name: str
    alias: str
    arguments: dict[str, Any]
    fields: list["Asked"]

    def asks_for(self, name: str) -> bool:
        """Whether one of its own fields is asked for."""
        return any(field.name == name for field in self.fields)


def read_query(text: str, variables: Mapping[str, Any]) -> list[Asked]:
    """Return what the first query of a text asks for; BadRequest for what cannot be read, and for a mutation."""
    return _Reader(text, variables).query()


class _Reader:
    """Reads one text from its beginning on."""

    def __init__(self, text: str, variables: Mapping[str, Any]) -> None:
        self._words = ((found.lastgroup, found[0]) for found in _WORD.finditer(text) if found.lastgroup)
        self._variables = variables
        self._kind, self._word = "", ""
        self._next()

    def query(self) -> list[Asked]:
        """Read `{…}`, or `query Name($id: ID!) {…}`."""
        if self._kind == "name":
            word = self._next()
            if word != "query":
                raise BadRequest(f"query: {word[:40]!r} is not answered here, only queries are")
        if self._kind == "name":
            self._next()
        if self._word == "(":  # types of variables, which nobody checks
            while self._next() != ")":
                pass
        return self._selected(0)

    def _selected(self, depth: int) -> list[Asked]:
        self._expect("{", depth)
        found: list[Asked] = []
        while self._word != "}":
            alias = name = self._expect("name")
            if self._word == ":":
                self._next()
                name = self._expect("name")
            arguments = self._pairs(")", depth) if self._word == "(" and self._next() else {}
            found.append(Asked(name, alias, arguments, self._selected(depth + 1) if self._word == "{" else []))
        self._next()
        return found

    def _pairs(self, end: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._word != end:
            name = self._expect("name")
            self._expect(":", depth)
            found[name] = self._value(depth + 1)
        self._next()
        return found

    def _value(self, depth: int) -> Any:
        if self._kind == "json":
            try:
                return codec.decode(self._next())
            except msgspec.DecodeError as error:
                raise BadRequest(f"query: a value cannot be read: {error}") from None
        if self._kind == "name":
            word = self._next()
            return _CONSTANTS.get(word, word)
        if self._word == "{":
            self._next()
            return self._pairs("}", depth)
        self._expect("$", depth)
        return self._variables.get(self._expect("name"))

    def _expect(self, what: str, depth: int = 0) -> str:
        """Return the next word, which must be of a kind, or this mark."""
        if depth > _MOST_DEEP:
            raise BadRequest(f"query: is nested deeper than {_MOST_DEEP} levels")
        if what not in (self._kind, self._word) and self._kind != "end":
            raise BadRequest(f"query: {self._word[:40]!r} stands where {what} is expected")
        return self._next()

    def _next(self) -> str:
        """Go to the next word, and return the one before; BadRequest when there was none left."""
        before = self._word
        if self._kind == "end":
            raise BadRequest("query: ends too early")
        self._kind, self._word = next(self._words, ("end", ""))
        return before
