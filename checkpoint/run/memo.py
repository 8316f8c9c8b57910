"""Memo: what one step returned or raised, written once; and Open: what is not finished yet."""

import asyncio
import concurrent.futures
import os
import traceback
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from msgspec import Raw

from stepstream.bus.encryption import sealing
from stepstream.bus.errors import ProcessError, ProcessFailed, StepFailed, StoreError, StoreUnavailable
from stepstream.bus.values import codec

MAX_STEPS = 1_000
MAX_STATE_BYTES = 32 * 1024 * 1024
MAX_RESULT_BYTES = 4 * 1024 * 1024
_LONGEST_TEXT = 8_000
_ROOT = Path(__file__).parents[2]
_ENGINE = (
    *(f"{_ROOT / floor}{os.sep}" for floor in ("bus", "checkpoint", "producers", "consumers", "web")),
    f"{Path(asyncio.__file__).parent}{os.sep}",
    f"{Path(concurrent.futures.__file__).parent}{os.sep}",
)
"""Where the frames are from that stand between the author's: this package's, and those of the loop and its threads."""


class ProcessEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a command of a step ended: with a code, or by a signal; neither when it did not begin."""

    code: int | None = None
    signal: str = ""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it is stored: the exception's class name, its message, its stack (each at most 8,000 characters).

    Of a command (`process`) the stack is the end of what it wrote. `original` is the error object, JSON, as the SDK of
    an application behind HTTP told it: there may be more to it, and the SDK gets it back.
    """

    name: str
    message: str
    stack: str = ""
    process: ProcessEnd | None = None
    original: str = ""

    def told(self) -> str:
        """Return it as a line of a log tells it."""
        return f"{self.name}: {self.message}"

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Return an exception as it is stored; of a group, all exceptions inside it."""
        if isinstance(error, RemoteError):
            return error.stored
        found = leaves(error)
        if isinstance(error, StepFailed):
            end = ProcessEnd(error.exit_code, error.signal) if isinstance(error, ProcessFailed) else None
            return cls(error.name, f"step '{error.step}': {error.message}"[:_LONGEST_TEXT], error.stack, end)
        if isinstance(error, ProcessError):
            end = ProcessEnd(error.exit_code, error.signal)
            return cls(error.name, str(error)[:_LONGEST_TEXT], error.output[-_LONGEST_TEXT:], end)
        several = len(found) > 1
        message = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found) if several else str(found[0])
        stack = _stack(error)
        return cls(type(found[0]).__name__, message[:_LONGEST_TEXT], stack[-_LONGEST_TEXT:])


class RemoteError(Exception):
    """An error of code that runs elsewhere; it is stored as that code told it, without the stack of who called.

    `has_more`: that code counts the attempts itself and says that there are more, however many the function has here.
    """

    def __init__(self, stored: Failure, *, has_more: bool = False) -> None:
        super().__init__(stored.message)
        self.stored = stored
        self.has_more = has_more


def _stack(error: BaseException) -> str:
    """Return the traceback of an exception: the author's frames, and what they call, without the engine's between."""
    told = traceback.TracebackException.from_exception(error)
    rest, seen = [told], set[int]()
    for one in rest:  # the list grows while it is walked
        if id(one) in seen:
            continue
        seen.add(id(one))
        own = [frame for frame in one.stack if not frame.filename.startswith(_ENGINE)]
        if own:
            one.stack = traceback.StackSummary.from_list(own)
        rest += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
    return "".join(told.format())


def step_failed(step: str, failure: Failure) -> StepFailed:
    """Return the error that a handler sees of a step that has failed for good."""
    if (end := failure.process) is not None:
        return ProcessFailed(step, failure.name, failure.message, failure.stack, end.code, end.signal)
    return StepFailed(step, failure.name, failure.message, failure.stack)


def leaves(error: BaseException) -> list[BaseException]:
    """Return all exceptions inside a group, however deep; for any other exception, a list of itself."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in leaves(inner)]
    return [error]


def of_redis(error: BaseException) -> StoreError | StoreUnavailable | None:
    """Return Redis's error if an exception, or every one in a group, is one: then the author's code has not failed."""
    found: StoreError | StoreUnavailable | None = None
    for leaf in leaves(error):
        if not isinstance(leaf, StoreError | StoreUnavailable):
            return None
        found = found or leaf
    return found


class Open(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that is not finished: since when, until when it waits (server ms), and the error of its last attempt.

    `what` it waits for, as JSON (WaitsFor); `armed` once whoever brings it has been told; `given_up` once the author's
    code has cancelled its task.
    """

    since: int
    kind: str
    due: int | None = None
    attempt: int = 0
    error: Failure | None = None
    what: Raw = Raw(b"null")
    armed: bool = False
    given_up: bool = False


class WaitsFor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step waits for (`Open.what`): an event (whose `match` is equal, or `if` true), a signal, or a run.

    `takes` is the JSON Schema of what a signal must bring; null where anything will do, or none could be made.
    """

    event: str = ""
    match: str = ""
    if_: str = msgspec.field(default="", name="if")
    signal: str = ""
    takes: Raw = Raw(b"null")
    function: str = ""
    run: str = ""


class Memo(msgspec.Struct, frozen=True):
    """A finished step. `n` is its place in the order in which steps finished; `started` and `ended` are its last
    attempt's, `since` its first one's when there were several; `error` stands in place of `data`; `entry` is the stream
    entry of an event it waited for, `mark` tells who sent a signal its own memo; `timed_out`: what
    it waited for has not come; `was`: how it was noted while it waited; `turn`: which turn has
    it first, of what came from outside."""

    n: int
    kind: str
    attempts: int = 1
    since: int = 0
    started: int = 0
    ended: int = 0
    entry: str = ""
    mark: str = ""
    timed_out: bool = False
    was: Open | None = None
    turn: int = 0
    data: Raw = Raw(b"null")
    error: Failure | None = None

    def opened(self) -> "Memo":
        """Return it with its data as the step returned it; CannotOpen where this process cannot open that."""
        plain = sealing.opened_raw(self.data)
        return self if plain is self.data else msgspec.structs.replace(self, data=plain)

    @property
    def begun(self) -> int:
        """When its last attempt began, or it began to wait, server ms."""
        return self.was.since if self.was is not None else self.started

    def value(self, step: str, wanted: Any) -> Any:
        """Return the step's result as the wanted type, or raise StepFailed as it was raised."""
        if self.error is not None:
            raise step_failed(step, self.error)
        return codec.decode_as(self.data, wanted)


def memo_of(raw: bytes) -> Memo:
    """Return a memo as it is stored."""
    return codec.decode_as(raw, Memo)


def open_of(raw: bytes) -> Open:
    """Return an open step as it is stored."""
    return codec.decode_as(raw, Open)


def middle_of(
    kind: str,
    *,
    attempts: int | None = None,
    since: int | None = None,
    entry: str = "",
    mark: str = "",
    timed_out: bool = False,
) -> str:
    """Return the part of a memo that its writer knows, as JSON; lua/fragments/memo.lua joins it with the rest."""
    middle = f'"kind":"{kind}"'
    if attempts is not None:
        middle += f',"attempts":{attempts}'
    if since is not None:
        middle += f',"since":{since}'
    if entry:
        middle += f',"entry":{codec.encode(entry).decode()}'
    if mark:
        middle += f',"mark":"{mark}"'
    if timed_out:
        middle += ',"timed_out":true'
    return middle


def result_of(data: bytes, error: Failure | None) -> bytes:
    """Return the end of a memo: what the step returned (JSON as it is kept), or raised."""
    return b'"data":' + data if error is None else b'"error":' + codec.encode(error)


def record_of(
    kind: str, attempt: int, error: Failure | None, what: bytes, state: Literal["", "armed", "given_up"]
) -> bytes:
    """Return the part of an open step that its writer knows; lua/run_open.lua puts its times before it."""
    record = f'"kind":"{kind}","attempt":{attempt}'.encode()
    if error is not None:
        record += b',"error":' + codec.encode(error)
    if what:
        record += b',"what":' + what
    return record + f',"{state}":true'.encode() if state else record
