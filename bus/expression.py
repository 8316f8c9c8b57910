"""Expressions over `event`: CEL, compiled once. The only room that imports the CEL package.

An expression that errors is false. Paths are checked at declaration against the payload's names on the wire, so
`event.data.user_id` where the wire says `userId` is told at once, not silently null.
"""

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cel
import msgspec

from bus.errors import ConfigError

_TOKEN = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)""")
_ROOTS = frozenset({"event"})
_WITH_ASYNC = frozenset({"event", "async"})
_ENVELOPE = ("id", "name", "data", "ts", "v")


class Expression:
    """A compiled CEL expression; `text` is what the author wrote."""

    def __init__(self, text: str, where: str, *, of_two: bool = False) -> None:
        """Compile it; ConfigError names `where` it was declared. `of_two` events: `event`, and `async` that came."""
        self.text = text
        self._where = where
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise ConfigError(f"{where}: {text!r} is not an expression: {str(error).splitlines()[0]}") from None
        roots = _WITH_ASYNC if of_two else _ROOTS
        unknown = set(self._program.variables()) - roots
        if unknown:
            known = " and ".join(f"`{root}`" for root in sorted(roots, reverse=True))
            raise ConfigError(f"{where}: {text!r} names {min(unknown)!r}; an expression here knows only {known}")

    def matches(self, event: Mapping[str, Any], came: Mapping[str, Any] | None = None) -> bool:
        """Return whether it is true of an event, and of the one that `came`; an expression that errors is false."""
        try:
            values = {"event": dict(event)} if came is None else {"event": dict(event), "async": dict(came)}
            return self._program.execute(values) is True
        except Exception:  # noqa: BLE001 - the library raises KeyError, TypeError, ValueError and RuntimeError for data
            return False

    def value(self, event: Mapping[str, Any]) -> Any:
        """Return what it is of an event; an expression that errors (a missing field) is None."""
        try:
            return self._program.execute({"event": dict(event)})
        except Exception:  # noqa: BLE001 - as above
            return None

    def check(self, kind: type[Any], root: str = "event") -> None:
        """Refuse a path that events of `kind`, which `root` stands for, cannot have."""
        for literal, path in _TOKEN.findall(self.text):
            parts = path.split(".")
            if literal or parts[0] != root or len(parts) < 2:
                continue
            self._one_of(parts[1], _ENVELOPE)
            if parts[1] == "data" and len(parts) > 2:
                self._walk(kind, parts[2:])

    def _walk(self, kind: Any, parts: list[str]) -> None:
        for part in parts:
            if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
                return
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
            self._one_of(part, tuple(fields))
            kind = fields[part]

    def _one_of(self, part: str, known: tuple[str, ...]) -> None:
        if part not in known:
            near = difflib.get_close_matches(_folded(part), [_folded(name) for name in known], 1)
            twin = next((name for name in known if near and _folded(name) == near[0]), None)
            hint = f"; did you mean {twin}?" if twin else f"; known are {', '.join(known)}"
            raise ConfigError(f"{self._where}: {self.text!r} has unknown field {part}{hint}")


@lru_cache(maxsize=4_096)
def compiled(text: str, where: str, *, of_two: bool = False) -> Expression:
    """Return an expression as `Expression` does, each text compiled once: for those that come with every event."""
    return Expression(text, where, of_two=of_two)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
