"""POST /e/{key}: routes around ingest."""

import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bus.errors import BusError, EventInvalid
from bus.event import Outgoing
from bus.settings import Settings
from bus.wire.streams import Publisher, PublishFailed
from producers.ingest import events_of
from producers.strict import Malformed

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Refused(BusError):
    """A request that is not served; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def routes(publisher: Callable[[], Publisher], settings: Settings) -> list[Route]:
    """Return the ingestion route; `publisher` is asked for at each request, once the application runs."""

    async def publish(request: Request) -> Response:
        try:
            _check_key(request.path_params["key"], settings)
            check_origin(request)
            body = await read_body(request)
            events = _events(body, request)
            stored = await publisher().publish(events, patience=settings.timeout_ms / 1_000)
        except Refused as error:
            return _answer(error.status, [], str(error))
        except EventInvalid as error:
            return _answer(error.status, [], str(error), field=error.field, event=error.position)
        except PublishFailed as error:
            ids = [one.id for one in error.stored]
            return _answer(503, ids, f"{error}; repeating the request with ids of your own is safe", retry_after=1)
        except BusError as error:
            return _answer(503, [], str(error), retry_after=1)
        except ClientDisconnect:
            return Response(status_code=400)
        answer: dict[str, object] = {"ids": [one.id for one in stored], "status": 200}
        if any(one.duplicate for one in stored):
            answer["duplicate"] = True
        return JSONResponse(answer)

    return [Route("/e/{key}", publish, methods=["POST"])]


def _answer(
    status: int,
    ids: list[str],
    error: str,
    *,
    field: str = "",
    event: int | None = None,
    retry_after: int | None = None,
) -> JSONResponse:
    content: dict[str, object] = {"ids": ids, "status": status, "error": error}
    if field:
        content["field"] = field
    if event is not None:
        content["event"] = event
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return JSONResponse(content, status_code=status, headers=headers)


def _check_key(key: str, settings: Settings) -> None:
    # As bytes: compare_digest raises TypeError for text that is not ASCII (reliability C 4).
    given = key.encode()
    if settings.event_keys and not any(hmac.compare_digest(given, known.encode()) for known in settings.event_keys):
        raise Refused(401, "Event key not found")


def check_origin(request: Request) -> None:
    """Refuse pages of other sites: a browser sends text/plain anywhere without asking (reliability C 33)."""
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise Refused(403, f"Origin {origin[:200]!r} may not act here")


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Return the whole body; Refused when it is compressed, over `most` bytes, or does not arrive within 30 s."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "compressed bodies are not read; send plain JSON")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdecimal() and int(length[:16]) > most:
        raise Refused(413, f"the body is {length} bytes; at most {most}")
    chunks: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise Refused(413, f"the body is longer than {most} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    return b"".join(chunks)


def _events(body: bytes, request: Request) -> list[Outgoing]:
    try:
        return events_of(body)
    except Malformed:
        # Plain `curl -d` says it is a form: so a form is only what says so and is no JSON either.
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _FORMS:
            raise Refused(415, f"{kind} is not read; send JSON") from None
        raise
