"""Reply: what a call is answered: what the function returned, what it found to do, or the error that it raised."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from stepstream.bus.values import codec
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.drivers.contract import Raised
from stepstream.consumers.remote.protocol import NO_RETRY_HEADER, hashed

AFTER_HEADER = "retry-after"


class Reply(msgspec.Struct, frozen=True):
    """An answer: status, body (JSON), and headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def returned(output: bytes) -> Reply:
    """Answer with what the function returned, JSON."""
    return Reply(200, output)


def found(ops: Sequence[dict[str, Any]], headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with operations: steps that were run, or that are to be done."""
    return Reply(206, codec.encode(ops), headers or {})


def raised(error: Raised, now_ms: int) -> Reply:
    """Answer with an error of the function; the status and the headers say whether calling again may mend it."""
    headers = {NO_RETRY_HEADER: "true" if error.is_final else "false"}
    if error.asked_ms is not None:
        headers[AFTER_HEADER] = moment(now_ms + error.asked_ms)
    return Reply(400 if error.is_final else 500, codec.encode(shown(error.failure)), headers)


def failed(failure: Failure) -> Reply:
    """Answer with an error of ours, after which the function may be called again."""
    return Reply(500, codec.encode(shown(failure)), {NO_RETRY_HEADER: "false"})


def op(kind: str, step: str, **more: Any) -> dict[str, Any]:
    """Return an operation for a step."""
    return {
        "op": kind,
        "id": hashed(step),
        "name": step,
        "displayName": step,
        "userland": {"id": step},
        "opts": {},
        **more,
    }


def shown(failure: Failure) -> dict[str, str]:
    """Return an error as it goes over the wire."""
    return {"name": failure.name, "message": failure.message, "stack": failure.stack}


def moment(ms: int) -> str:
    """Return a moment (Unix ms) in the format of RFC 3339."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
