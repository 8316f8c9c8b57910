"""Memos: a run as an app's SDK wants it: the events, the finished steps by their hashes, and how the call stands."""

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid
from stepstream.checkpoint.run.memo import Failure, Memo, WaitsFor
from stepstream.checkpoint.run.owned import Owned
from stepstream.consumers.remote.protocol import hashed
from stepstream.consumers.remote.system import shown as as_shown

MAX_BODY_BYTES = 4 * 1024 * 1024
"""A call that would be larger has no steps and events in it: the app fetches them."""
NEW = -1
"""The version of the protocol that the first call of a run asks for: whichever the app speaks."""
_NAMESPACE = uuid.UUID("6f1d8a52-0f0b-5c3a-9b0a-0f8a3c2f7f11")
_TIMED_OUT = "Timed out waiting for invoked function to complete"


def uuid_of(name: str) -> str:
    """Return the UUID under which an app or a function goes over the wire; the same name has always the same."""
    return str(uuid.uuid5(_NAMESPACE, name))


def shown_event(event: RawEvent, slug: str = "") -> dict[str, Any]:
    """Return an event as SDKs read it; `slug` is the function that it started."""
    event = as_shown(event, slug)
    shown: dict[str, Any] = {
        "data": event.data,
        "id": event.id,
        "name": event.name,
        "ts": event.ts,
        "user": {},
    }
    if event.v is not None:
        shown["v"] = event.v
    return shown


def shown_memo(memo: Memo) -> Any:
    """Return a finished step as SDKs read it."""
    if memo.kind == "invoke" and memo.timed_out:
        name = "InngestInvokeTimeoutError"
        return {"error": {"error": f"{name}: {_TIMED_OUT}", "message": _TIMED_OUT, "name": name}}
    if memo.error is not None:
        return {"error": _shown_failure(memo.error)}
    if memo.kind == "sleep" or (memo.kind in {"event", "signal"} and bytes(memo.data) == b"null"):
        return None
    if memo.kind == "event":
        return shown_event(codec.decode_as(memo.data, RawEvent))
    if memo.kind == "signal":
        waited = codec.decode_as(memo.was.what, WaitsFor) if memo.was is not None else WaitsFor()
        return {"data": {"signal": waited.signal, "data": memo.data}}
    return {"data": memo.data}


def _shown_failure(failure: Failure) -> Any:
    if failure.original:
        return codec.decode(failure.original)
    shown = {"name": failure.name, "message": failure.message}
    return {**shown, "stack": failure.stack} if failure.stack else shown


def shown_steps(memos: Mapping[str, Memo]) -> dict[str, Any]:
    """Return the finished steps of a run by their hashes."""
    return {hashed(step): shown_memo(memo) for step, memo in memos.items()}


def stack_of(memos: Mapping[str, Memo]) -> list[str]:
    """Return the hashes of the finished steps in the order in which they finished."""
    return [hashed(step) for step, _ in sorted(memos.items(), key=lambda item: item[1].n)]


class Position(msgspec.Struct, frozen=True):
    """Where a call stands: which attempt of how many, of which step (`step`: the code between them)."""

    step: str
    attempt: int
    attempts: int
    only_plan: bool
    version: int


def call_body(owned: Owned, event: RawEvent, memos: Mapping[str, Memo], at: Position) -> bytes:
    """Return the body of a call, as JSON."""
    events = [shown_event(one, owned.slug) for one in event.several()]
    steps, stack = shown_steps(memos), stack_of(memos)
    body = _body(owned, events, steps, stack, at, use_api=False)
    if len(body) > MAX_BODY_BYTES:
        body = _body(owned, events, steps, stack, at, use_api=True)
    return body


def _body(
    owned: Owned, events: list[Any], steps: dict[str, Any], stack: list[str], at: Position, *, use_api: bool
) -> bytes:
    return codec.encode(
        {
            "ctx": {
                "attempt": at.attempt,
                "disable_immediate_execution": at.only_plan,
                "env": "",
                "fn_id": uuid_of(owned.slug),
                "generation_id": 1,
                "job_id": f"{owned.run}.{owned.turn}",
                "max_attempts": at.attempts,
                "qi_id": proof_of(owned),
                "request_id": ulid(),
                "run_id": owned.run,
                "stack": {"current": len(stack), "stack": stack},
                "step_id": at.step,
                "use_api": use_api,
            },
            "defers": {},
            "event": events[0],
            "events": [] if use_api else events,
            "steps": {} if use_api else steps,
            "use_api": use_api,
            "version": at.version,
        }
    )


def proof_of(owned: Owned) -> str:
    """Return what an app sends back with the steps it saves while its call is open: whose turn that was (`qi_id`)."""
    text = codec.encode([owned.slug, owned.turn, owned.fence])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def owned_by(run: str, proof: str) -> Owned:
    """Return the turn of a run that `proof_of` told; EventInvalid for what it never tells."""
    try:
        padded = proof + "=" * (-len(proof) % 4)
        slug, turn, fence = codec.decode_as(base64.urlsafe_b64decode(padded), tuple[str, int, str])
    except (ValueError, msgspec.MsgspecError):
        raise EventInvalid("is none that this server has given", field="qi_id") from None
    return Owned(slug, run, turn, fence)
