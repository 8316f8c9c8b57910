"""Body: reads the body of an HTTP request, within bounds. What it holds is checked in producers/strict.py."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anyio
from starlette.requests import Request
from starlette.types import Scope

from stepstream.bus.errors import BusError

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0
_HAS_BOUNDS = "stepstream.body_has_bounds"


def bounds_its_body(scope: Scope) -> None:
    """Say that a route has bounds of its own for how long the body of this request takes."""
    scope.setdefault("state", {})[_HAS_BOUNDS] = True  # the server's own: copies of a scope share it


def has_bounds(scope: Mapping[str, Any]) -> bool:
    """Whether a route has said so: the server does not bound that body, too."""
    return _HAS_BOUNDS in scope.get("state", ())


class RequestRefused(BusError):
    """A refused request; `status` is the HTTP status of the answer."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


async def pieces(request: Request, most: int = MAX_BODY_BYTES) -> AsyncGenerator[bytes]:
    """Yield the body as it comes; RequestRefused when it is compressed or longer than `most` bytes."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestRefused(415, "compressed bodies are not accepted; send plain JSON")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdecimal() and int(length[:16]) > most:
        raise RequestRefused(413, f"the body is {length} bytes; at most {most}")
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise RequestRefused(413, f"the body is longer than {most} bytes")
        yield piece


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Return the body; RequestRefused when it is compressed, longer than `most` bytes, or not complete within 30 s."""
    try:
        with anyio.fail_after(BODY_WITHIN_S):
            return b"".join([piece async for piece in pieces(request, most)])
    except TimeoutError:
        raise RequestRefused(408, f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
