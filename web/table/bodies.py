"""Bodies: the JSON that a route takes, read and checked in one place (producers/strict.py)."""

from typing import Generic, TypeVar

from starlette.requests import Request

from stepstream.producers.body import read_body
from stepstream.producers.strict import parse_as

T = TypeVar("T")

SMALL = 65_536
"""The longest body of a route that takes no data of events, bytes."""


class Body(Generic[T]):
    """A body: JSON of a shape, at most so many bytes; an empty one may stand for `{}`."""

    def __init__(self, shape: type[T], *, most: int = SMALL, may_be_empty: bool = False) -> None:
        self.shape = shape
        self.most = most
        self.may_be_empty = may_be_empty

    async def of(self, request: Request) -> T:
        """Return what a request says; EventInvalid names the field, RequestRefused a body that is not taken."""
        body = await read_body(request, self.most)
        return parse_as(body or b"{}" if self.may_be_empty else body, self.shape)
