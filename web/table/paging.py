"""Paging: a page of a list that is read whole, from behind the row that the page before ended with."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from stepstream.bus.errors import BadRequest
from stepstream.web.table.parameters import Number, Parameter, Text

T = TypeVar("T")
Place = tuple[int | str, ...]

MOST = 1_000
CURSOR = Text("cursor", "`cursor` of the page before")
_BETWEEN = "|"
_DIGITS = 15


def not_ours(cursor: str) -> BadRequest:
    """Return the error for a cursor that no page gave."""
    return BadRequest(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")


class Paged(Generic[T]):
    """A list that is told by pages, with its parameters `limit` and `cursor`.

    A row's `place` is what it is sorted by: moments (Unix ms), the latest first, and behind them words, in their order,
    so that no two rows have the same. A row that keeps its place is told once, whatever comes and goes meanwhile.
    """

    def __init__(self, place: Callable[[T], Place], kinds: Sequence[type[int] | type[str]], default: int = 100) -> None:
        self.limit = Number("limit", "how many at most", 1, MOST, default)
        self.query: tuple[Parameter[Any], ...] = (self.limit, CURSOR)
        self._place = place
        self._kinds = tuple(kinds)

    def of(self, request: Request, rows: Iterable[T]) -> tuple[list[T], str | None]:
        """Return the rows that a request wants of all, and the cursor of the next page; BadRequest for a wrong one."""
        wanted, cursor = self.limit.of(request), CURSOR.of(request)
        ordered = sorted(rows, key=lambda row: _order(self._place(row)))
        if cursor:
            begin = _order(self._parsed(cursor))
            ordered = [row for row in ordered if _order(self._place(row)) > begin]
        page = ordered[:wanted]
        return page, _BETWEEN.join(map(str, self._place(page[-1]))) if len(ordered) > len(page) else None

    def _parsed(self, cursor: str) -> Place:
        parts = cursor.split(_BETWEEN, len(self._kinds) - 1)
        if len(parts) != len(self._kinds):
            raise not_ours(cursor)
        return tuple(_number(one, cursor) if kind is int else one for one, kind in zip(parts, self._kinds, strict=True))


def _order(place: Place) -> Place:
    return tuple(-one if isinstance(one, int) else one for one in place)


def _number(text: str, cursor: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise not_ours(cursor)
    return int(text)
