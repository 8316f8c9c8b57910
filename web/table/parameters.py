"""Parameters: what may stand behind the `?` of a route, and the one function that reads each of them.

A route names its parameters, so what is not known is refused with the nearest name, and OpenAPI tells the same.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw
from starlette.requests import Request

from stepstream.bus.errors import BadRequest, ConfigError, listed
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import milliseconds, past_moment
from stepstream.web.trust.hiding import hide

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

MOMENT = "Unix ms, 2026-12-01T09:00:00Z, or how long ago, as 15m or 2h"


class ParameterUnknown(BadRequest):
    """A route has no parameter of this name; the message has those it has, and the nearest."""

    code = "unknown_parameter"

    def __init__(self, name: str, known: Sequence[str], path: str) -> None:
        self.name = name
        near = get_close_matches(name[:80], known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        there = f"it takes {listed(known)}" if known else "it takes none"
        super().__init__(f"{path[:80]} has no parameter {name[:80]!r}; {meant}{there}")


class FieldUnknown(BadRequest):
    """The rows of a list have no field of this name; the message has those they have, and the nearest."""

    code = "unknown_field"
    status = 422

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        near = get_close_matches(name[:80], known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        super().__init__(f"fields has {name[:40]!r}; {meant}there are {', '.join(known)}")


class Parameter(Generic[T]):
    """A parameter: its name, what it is in words, its JSON Schema, and what its text is read as."""

    is_several = False
    """Whether it may be given more than once."""

    def __init__(self, name: str, words: str, schema: dict[str, Any], default: T, *, is_needed: bool = False) -> None:
        self.name = name
        self.words = words
        self.schema = schema
        self.default = default
        self.is_needed = is_needed

    def read(self, text: str) -> T:
        """Return what a text says; BadRequest names the parameter, the text and what is expected."""
        raise NotImplementedError

    def of(self, request: Request) -> T:
        """Return what a request says."""
        text = request.query_params.get(self.name)
        return self.default if text is None else self.read(text)


class Text(Parameter[str]):
    """A text, empty where it is not given; `longest` is told, and for the route to check."""

    def __init__(self, name: str, words: str, *, is_needed: bool = False, longest: int = 0) -> None:
        schema: dict[str, Any] = {"type": "string", **({"minLength": 1} if is_needed or longest else {})}
        super().__init__(
            name, words, {**schema, **({"maxLength": longest} if longest else {})}, "", is_needed=is_needed
        )

    def read(self, text: str) -> str:
        """Return it."""
        return text


class Texts(Parameter[list[str]]):
    """A text that may be given more than once."""

    is_several = True

    def __init__(self, name: str, words: str) -> None:
        super().__init__(name, words, {"type": "array", "items": {"type": "string"}}, [])

    def of(self, request: Request) -> list[str]:
        """Return each that is given."""
        return request.query_params.getlist(self.name)


class Number(Parameter[int]):
    """A whole number between two others."""

    def __init__(self, name: str, words: str, least: int, most: int, default: int) -> None:
        schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
        super().__init__(name, words, schema, default)
        self._least, self._most = least, most

    def read(self, text: str) -> int:
        """Return it."""
        if not (text.isascii() and text.isdecimal() and len(text) <= 15 and self._least <= int(text) <= self._most):
            raise BadRequest(f"{self.name} must be a number from {self._least} to {self._most}, got {text[:40]!r}")
        return int(text)


class Flag(Parameter[bool]):
    """true or false; false where it is not given."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(name, words, {"type": "boolean", "default": False}, False)

    def read(self, text: str) -> bool:
        """Return it."""
        if text not in ("true", "false"):
            raise BadRequest(f"{self.name} must be true or false, got {text[:40]!r}")
        return text == "true"


class Moment(Parameter[int | None]):
    """A moment, as Unix ms."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(name, f"{words}: {MOMENT}", {"type": "string"}, None)

    def read(self, text: str) -> int | None:
        """Return it; an empty text asks for nothing, as that of a form."""
        return past_moment(text, self.name, now_ms()) if text else None


class Wait(Parameter[float | None]):
    """How long to wait, as seconds; a longer wait is cut to `most_ms`."""

    def __init__(self, name: str, words: str, most_ms: int) -> None:
        super().__init__(name, words, {"type": "string", "minLength": 1}, None)
        self._most_ms = most_ms

    def read(self, text: str) -> float | None:
        """Return it."""
        try:
            ms = milliseconds(float(text) if text.replace(".", "", 1).isdecimal() else text, self.name)
        except ConfigError as error:
            raise BadRequest(str(error)) from None
        return min(ms, self._most_ms) / 1_000


class Fields(Parameter[tuple[str, ...]]):
    """Which fields of a row are wanted; none named: all but its payloads, which may be megabytes each."""

    is_several = True

    def __init__(self, row: type[msgspec.Struct], payloads: Sequence[str] = ()) -> None:
        self.row = row
        self.known = row.__struct_encode_fields__
        self._payloads = frozenset(payloads)
        unasked = f"; {listed(payloads)} only when named" if payloads else ""
        words = f"which fields of a row, with commas: {', '.join(self.known)}{unasked}"
        super().__init__("fields", words, {"type": "string"}, ())

    def read(self, text: str) -> tuple[str, ...]:
        """Return the names."""
        names = tuple(dict.fromkeys(name for one in text.split(",") if (name := one.strip())))
        for name in names:
            if name not in self.known:
                raise FieldUnknown(name, self.known)
        return names

    def of(self, request: Request) -> tuple[str, ...]:
        """Return the names that are given, with commas or the parameter again."""
        return self.read(",".join(request.query_params.getlist(self.name)))

    def rows(self, request: Request, rows: Sequence[S]) -> list[S]:
        """Return rows as a request wants them: without payloads, or of each the fields that it names."""
        wanted = set(self.of(request)) or set(self.known) - self._payloads
        if len(wanted) == len(self.known):
            return list(rows)
        # An event's name may be left out, and tells what of its data is hidden.
        told = [codec.decode_as(codec.encode(hide(row)), dict[str, Raw]) for row in rows]
        chosen = [{name: text for name, text in row.items() if name in wanted} for row in told]
        return cast("list[S]", chosen)  # as JSON they are rows, of which all fields may be left out


def check(request: Request, known: Sequence[Parameter[Any]], path: str) -> None:
    """Refuse what a route does not take: another name, one twice that is given once, what cannot be read as its kind.

    BadRequest says what, FieldUnknown which field.
    """
    several = {one.name: one.is_several for one in known}
    seen: set[str] = set()
    for name, text in request.query_params.multi_items():
        if name not in several:
            raise ParameterUnknown(name, list(several), path)
        if name in seen and not several[name]:
            raise BadRequest(f"{name} is given twice, the second time as {text[:40]!r}; give one")
        seen.add(name)
    for one in known:
        if one.is_needed and not request.query_params.get(one.name):
            raise BadRequest(f"{one.name} is missing: {one.words}")
        one.of(request)  # what cannot be read is refused before anything is looked for
