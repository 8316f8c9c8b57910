"""Memos: a run as an app's SDK wants it: the events, the finished steps by their hashes, and how the call stands."""

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.encryption import sealing
from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid
from stepstream.checkpoint.run.memo import Failure, Memo, WaitsFor
from stepstream.checkpoint.run.owned import Owned
from stepstream.consumers.remote.protocol import hashed
from stepstream.consumers.remote.system import sdk_event

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
    event = sdk_event(event, slug)
    shown: dict[str, Any] = {
        "data": sealing.opened_raw(event.data),
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
        return {"data": {"signal": waited.signal, "data": sealing.opened_raw(memo.data)}}
    return {"data": sealing.opened_raw(memo.data)}


def _shown_failure(failure: Failure) -> Any:
    if failure.original:
        return codec.decode(failure.original)
    shown = {"name": failure.name, "message": failure.message}
    return {**shown, "stack": failure.stack} if failure.stack else shown


def shown_steps(memos: Mapping[str, Memo]) -> dict[str, Any]:
    """Return the finished steps of a run by their hashes."""
    return {hashed(step): shown_memo(memo) for step, memo in memos.items()}


class Position(msgspec.Struct, frozen=True):
    """Where a call stands: which attempt of how many, of which step (`step`: the code between them).

    `request` is an id of this call alone.
    """

    step: str
    attempt: int
    attempts: int
    only_plan: bool
    version: int
    request: str = msgspec.field(default_factory=ulid)


class Telling:
    """What the calls of one turn tell its app of the run. Events and finished steps are encoded once, not in each call:
    a run of a thousand steps has a thousand calls, and each tells all that is finished by then.

    An app that `looks_up` itself how the run stands is told nothing of that.
    """

    def __init__(self, owned: Owned, event: RawEvent, *, looks_up: bool = False) -> None:
        self._looks_up = looks_up
        several = [codec.encode(shown_event(one, owned.slug)) for one in event.several()]
        self._first, self._events = several[0], b",".join(several)
        self._always: dict[str, Any] = {
            "env": "",
            "fn_id": uuid_of(owned.slug),
            "generation_id": 1,
            "job_id": job_of(owned),
            "qi_id": proof_of(owned),
            "run_id": owned.run,
        }
        self._known: set[str] = set()
        self._finished: list[tuple[int, bytes, bytes]] = []
        """The place of each step, its hash, and how it ended, JSON both; in the order in which they finished."""

    def body(self, memos: Mapping[str, Memo], at: Position) -> bytes:
        """Return the body of a call, as JSON. `memos`: all finished steps, those of earlier calls among them."""
        if self._looks_up:
            return self._body(at, use_api=True)
        if len(memos) != len(self._known):
            self._take(memos)
        body = self._body(at, use_api=False)
        return body if len(body) <= MAX_BODY_BYTES else self._body(at, use_api=True)

    def _body(self, at: Position, *, use_api: bool) -> bytes:
        stack = b",".join([hash_ for _, hash_, _ in self._finished])
        events = b"" if use_api else self._events
        steps = b"" if use_api else b",".join([b"%b:%b" % (hash_, memo) for _, hash_, memo in self._finished])
        ctx = codec.encode(
            {
                "attempt": at.attempt,
                "disable_immediate_execution": at.only_plan,
                **self._always,
                "max_attempts": at.attempts,
                "request_id": at.request,
                "stack": Raw(b'{"current":%d,"stack":[%b]}' % (len(self._finished), stack)),
                "step_id": at.step,
                "use_api": use_api,
            }
        )
        return b'{"ctx":%b,"defers":{},"event":%b,"events":[%b],"steps":{%b},"use_api":%b,"version":%d}' % (
            ctx, self._first, events, steps, b"true" if use_api else b"false", at.version,
        )  # fmt: skip

    def _take(self, memos: Mapping[str, Memo]) -> None:
        for step, memo in memos.items():
            if step not in self._known:
                self._known.add(step)
                self._finished.append((memo.n, codec.encode(hashed(step)), codec.encode(shown_memo(memo))))
        self._finished.sort(key=lambda one: one[0])


def job_of(owned: Owned) -> str:
    """Return the id of a turn of a run, for logs of the app."""
    return f"{owned.run}.{owned.turn}"


def proof_of(owned: Owned) -> str:
    """Return what an app sends back with the steps it saves while its call is open: whose turn that was (`qi_id`)."""
    text = codec.encode([owned.slug, owned.turn, owned.fence])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def owned_by(run: str, proof: str) -> Owned:
    """Return the turn of a run that `proof_of` named; EventInvalid for text that it did not make."""
    try:
        padded = proof + "=" * (-len(proof) % 4)
        slug, turn, fence = codec.decode_as(base64.urlsafe_b64decode(padded), tuple[str, int, str])
    except (ValueError, msgspec.MsgspecError):
        raise EventInvalid("was not given by this server", field="qi_id") from None
    return Owned(slug, run, turn, fence)
