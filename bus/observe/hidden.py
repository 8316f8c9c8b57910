"""Hidden: what lines of logs do not tell, in this process: nobody knows who reads them.

It is what BUS_REDACT names, and what event types of the loaded applications do (`redact=`). The configuration of logs
is the process's, and so is this: loggers are cached before an application is loaded.
"""

from collections.abc import Iterable
from typing import Any, cast

from stepstream.bus.trust.redacted_text import MASK
from stepstream.bus.trust.redaction import DEFAULT, Redaction

_OURS = frozenset(
    {"event", "level", "timestamp", "logger", "function", "run", "step", "attempt", "trace", "error", "exception", "at"}
)
"""Names that every line may have: a field of a type that is called so is hidden in their texts, and they stay."""
_DEEPEST = 50


class Hidden:
    """What is hidden at the moment."""

    def __init__(self) -> None:
        self._patterns: tuple[str, ...] = DEFAULT
        self._fields: frozenset[str] = frozenset()
        self._redaction = Redaction(DEFAULT)

    def patterns(self, patterns: Iterable[str]) -> None:
        """Hide what stands under these keys, and the fields that types have named."""
        self._patterns = tuple(patterns)
        self._redaction = Redaction(self._patterns, within=sorted(self._fields))

    def fields(self, fields: Iterable[str]) -> None:
        """Hide these fields, too, at whatever depth and in texts."""
        self._fields |= set(fields)
        self.patterns(self._patterns)

    def line(self, _logger: object, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a line without what is hidden: a processor of structlog."""
        hidden = self._redaction
        if not hidden.is_on:
            return fields
        found = cast("dict[str, Any]", hidden.plain({name: self._written(one, 0) for name, one in fields.items()}))
        for name in _OURS & found.keys():
            if found[name] == MASK:
                found[name] = hidden.text(str(fields[name]))
        return found

    def _written(self, value: Any, depth: int) -> Any:
        """Return a value as plain as it is looked through: an object as Python writes it, where that tells a secret.

        A renderer writes it so: `data=ctx.event.data` is a text in the end.
        """
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if depth < _DEEPEST and isinstance(value, dict):
            named = cast("dict[Any, Any]", value)
            return {str(name): self._written(one, depth + 1) for name, one in named.items()}
        if depth < _DEEPEST and isinstance(value, list | tuple):
            return [self._written(one, depth + 1) for one in cast("list[Any]", value)]
        written = repr(value)
        shown = self._redaction.text(written)
        return value if shown == written else shown


HIDDEN = Hidden()
"""That of this process."""
