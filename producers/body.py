"""Body: reads the body of an HTTP request, within bounds. What it holds is checked in producers/strict.py."""

import anyio
from starlette.requests import Request

from stepstream.bus.errors import BusError

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0


class RequestRefused(BusError):
    """A refused request; `status` is the HTTP status of the answer."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Return the body; RequestRefused when it is compressed, longer than `most` bytes, or not complete within 30 s."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestRefused(415, "compressed bodies are not accepted; send plain JSON")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdecimal() and int(length[:16]) > most:
        raise RequestRefused(413, f"the body is {length} bytes; at most {most}")
    chunks: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise RequestRefused(413, f"the body is longer than {most} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise RequestRefused(408, f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    return b"".join(chunks)
