"""Reply: what a call is answered: what the function returned, what it found to do, or the error that it raised."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.values import codec
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.consumers.drivers.contract import Raised
from stepstream.consumers.remote.protocol import AFTER_HEADER, CODE_CHANGED, NO_RETRY_HEADER, NOT_FOUND, RACE, hashed


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


def raised(error: Raised) -> Reply:
    """Answer with an error of the function; the status and the headers say whether calling again may mend it."""
    headers = {NO_RETRY_HEADER: "true" if error.is_final else "false"}
    if error.asked_ms is not None:
        headers[AFTER_HEADER] = str(error.asked_ms)
    return Reply(400 if error.is_final else 500, codec.encode(shown(error.failure)), headers)


def changed(steps: Sequence[str]) -> Reply:
    """Answer that the code does not call steps that the run has begun: the run is to wait for a deploy."""
    words = f"the function does not call {', '.join(steps)}, which the run has begun: deploy a version that does"
    told = {"name": CODE_CHANGED, "message": words, "steps": steps}
    return Reply(500, codec.encode(told), {NO_RETRY_HEADER: "false"})


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


def not_found(hashed_step: str) -> Reply:
    """Answer that the function does not reach the step it was called for any more: one that ended first decided so."""
    return found([{"op": NOT_FOUND, "id": hashed_step}])


def done(step: str, memo: Memo, took_ms: int = 0) -> dict[str, Any]:
    """Return the operation that tells what a step has returned, or how it failed for good."""
    timing = {"a": (memo.ended - took_ms) * 1_000_000, "b": took_ms * 1_000_000}
    if memo.error is not None:
        return op("StepFailed", step, error=shown(memo.error), timing=timing)
    return op("StepRun", step, data=Raw(memo.data), timing=timing)


def racing(one: dict[str, Any]) -> dict[str, Any]:
    """Return an operation after whose end the bus is to ask at once, whatever else there is still to be done."""
    return {**one, "opts": {**one["opts"], "parallelMode": RACE}}


def shown(failure: Failure) -> dict[str, str]:
    """Return an error as it goes over the wire."""
    return {"name": failure.name, "message": failure.message, "stack": failure.stack}


def moment(ms: int) -> str:
    """Return a moment (Unix ms) in the format of RFC 3339."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
