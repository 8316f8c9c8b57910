"""Save: record a step's memo once. Open: note a step that is not finished."""

from typing import Any, Literal, NamedTuple, cast

import msgspec

from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import is_kept_as_it_is, kept
from stepstream.checkpoint.facts.attempts import record_of as attempt_of
from stepstream.checkpoint.run.memo import (
    MAX_STATE_BYTES,
    MAX_STEPS,
    Failure,
    Memo,
    memo_of,
    middle_of,
    open_of,
    record_of,
    result_of,
)
from stepstream.checkpoint.run.owned import Owned, Word


class _Item(NamedTuple):
    """What is sent of one step. `opened`: 1 when it may be noted as open, 2 when what is noted goes into the memo."""

    run: str
    fence: str
    turn: int
    step: str
    middle: str
    took: int
    result: bytes
    opened: int
    known: int


_SAVE = script(__file__, "run_save", item=_Item)
_OPEN = script(__file__, "run_open")
_PROGRESS = script(__file__, "run_progress")

FULL = {
    "steps": "a run holds at most 1,000 steps; let it start another function for the rest",
    "size": "the results of a run's steps hold at most 32 MiB together; store big ones, return where",
}
"""The message for each bound that a run may reach, by Saved.full."""
NAMED = frozenset({"event", "signal"})
"""The kinds of steps that wait under a name in another slot than their run's."""


class Saved(msgspec.Struct):
    """What save answers: the word, and the memo's `n`, why the run is cancelled, and the memos that were resolved since
    the caller looked; or the memo that stands already."""

    word: Word
    n: int = 0
    cancel: Failure | None = None
    resolved: dict[str, Memo] = {}
    memo: Memo | None = None
    full: str = ""


async def save(
    wire: Wire,
    owned: Owned,
    step: str,
    kind: str,
    *,
    data: bytes | None = None,
    error: Failure | None = None,
    attempts: int = 1,
    took_ms: int = 0,
    since: int | None = None,
    opened: bool = False,
    known: int = 0,
    entry: str = "",
    timed_out: bool = False,
) -> Saved:
    """Record what a step returned (`data`, JSON) or raised; waits until Redis answers.

    `took_ms` is how long the last attempt's body took, `since` when the first attempt began (server ms), `entry` the
    stream entry of an event that was waited for. `timed_out`: it waited, and nothing came.

    CannotSeal, StoreUnfit: what it returned cannot be sealed, or is large and its store does not take it.
    """
    stored = data or b"null"
    if not is_kept_as_it_is(wire, stored):
        stored = await kept(wire, owned.slug, owned.run, stored)
    reply = await wire.together(
        _SAVE,
        owned.prefix,
        (MAX_STEPS, MAX_STATE_BYTES),
        _Item(
            run=owned.run,
            fence=owned.fence,
            turn=owned.turn,
            step=step,
            middle=middle_of(kind, attempts=attempts, since=since, entry=entry, timed_out=timed_out),
            took=took_ms,
            result=result_of(stored, error),
            opened=(1 if kind == "run" else 2) if opened else 0,
            known=known,
        ),
    )
    reached("save.replied")
    word = cast("Word", reply[0].decode())
    if word == "mine":
        resolved = memos_of(reply[3])
        resolved.pop(step, None)
        cancel = codec.decode_as(reply[2], Failure) if reply[2] else None
        return Saved(word, n=int(reply[1]), cancel=cancel, resolved=resolved)
    if word == "there":
        return Saved(word, memo=memo_of(reply[1]))
    return Saved(word, full=reply[1].decode() if word == "full" else "")


class Noted(msgspec.Struct):
    """What open answers: the word, when the step is due, the server's clock, and when the step began, all ms."""

    word: Word
    due: int = 0
    now: int = 0
    since: int = 0


async def note_open(
    wire: Wire,
    owned: Owned,
    step: str,
    kind: str,
    *,
    due: str,
    attempt: int = 0,
    error: Failure | None = None,
    since: str = "-0",
    what: bytes = b"",
    took_ms: int = 0,
    again: bool = False,
    given_up: bool = False,
) -> Noted:
    """Note a wait or a failed attempt. `due`: "+<ms from now>" or "<ms since 1970>"; a wait noted before stands.

    `since` when the step is open: "-<ms ago>" or "<ms since 1970>". `what` it waits for is JSON, for people.
    `again` or `given_up`: overwrites what was noted before. With an `error` this is an attempt that took `took_ms`.
    """
    state = "given_up" if given_up else "again" if again else ""
    failed = b"" if error is None or given_up else attempt_of(step, attempt, took_ms, error)
    arguments = _open(owned, step, kind, due, attempt, error, since, what, state, failed)
    reply = await wire.lasting_script(_OPEN, *arguments)
    reached("open.replied")
    word = cast("Word", reply[0].decode())
    if word == "mine":
        return Noted(word, int(reply[1] or 0), int(reply[2]), int(reply[3]))
    if word == "there":  # by this very call, whose answer was lost
        stands = open_of(reply[1])
        return Noted("mine", stands.due or 0, int(reply[2]), stands.since)
    return Noted(word)


def tell_open(wire: Wire, owned: Owned, step: str, attempt: int, took_ms: int) -> None:
    """Send, without waiting, that a body takes long: what the page shows; a lost one costs nothing."""
    keys, *arguments = _open(owned, step, "run", "", attempt, None, f"-{took_ms}")
    wire.tell_script(_OPEN, keys, *arguments)


def tell_progress(wire: Wire, owned: Owned, progress: bytes) -> None:
    """Send, without waiting, how far a run is (JSON): what the page shows; a lost one costs nothing."""
    wire.tell_script(_PROGRESS, owned.prefix, owned.run, owned.fence, owned.turn, progress)


def tell_armed(wire: Wire, owned: Owned, step: str, kind: str, due: int, since: int, what: bytes) -> None:
    """Send, without waiting, that whoever brings what a step waits for has been told; a lost one is told again."""
    keys, *arguments = _open(owned, step, kind, str(due), 0, None, str(since), what, "armed")
    wire.tell_script(_OPEN, keys, *arguments)


def _open(
    owned: Owned,
    step: str,
    kind: str,
    due: str,
    attempt: int,
    error: Failure | None,
    since: str,
    what: bytes = b"",
    state: Literal["", "armed", "given_up", "again"] = "",
    failed: bytes = b"",
) -> tuple[tuple[str], *tuple[Any, ...]]:
    record = record_of(kind, attempt, error, what, state if state in ("armed", "given_up") else "")
    keep = "replace" if state or kind == "run" else "keep"
    has_name = 1 if kind in NAMED else 0
    return (owned.prefix, owned.run, owned.fence, owned.turn, step, keep, due, record, since, has_name, state, failed)


def memos_of(flat: list[bytes]) -> dict[str, Memo]:
    """Return step ids and memos of a flat reply."""
    return {flat[i].decode(): memo_of(flat[i + 1]) for i in range(0, len(flat), 2)}
