"""End: record how a run ended, once. Runs of a function that end in one tick share a call.

Also why runs end that their own code does not end: scripts and workers say each in the same words.
"""

import asyncio
from typing import Any, Literal, NamedTuple

import msgspec

from stepstream.bus.encryption.sealing import sealed
from stepstream.bus.values import codec
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.marks import told_of
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.owned import Owned

_TIMED_OUT = Failure("timeout", "the run did not %s within %.14g s")
_WORKER_CRASH = Failure("worker_crash", "the worker process died %d times in a row while it ran this")
_REPLACED = Failure("cancelled", "a newer run of this singleton took its place")

CAUSES = {
    "timed_out": codec.encode(_TIMED_OUT),
    "timed_out_told": told_of(_TIMED_OUT.name, _TIMED_OUT.message).encode(),
    "worker_crash": codec.encode(_WORKER_CRASH),
    "worker_crash_told": told_of(_WORKER_CRASH.name, _WORKER_CRASH.message).encode(),
    "replaced": codec.encode(_REPLACED),
}
"""What scripts read as `texts.…`: JSON, formatted in Lua as it is here; `…_told` is what is counted of such ends."""


class _Item(NamedTuple):
    """What is sent of one end. `field` is `output` or `error`, `value` its JSON, `told` the error that is counted."""

    run: str
    fence: str
    turn: int
    status: str
    field: str
    value: bytes
    leaves: str
    told: str


_END = script(__file__, "run_end", item=_Item)

Leaves = Literal["", "steps", "open", "steps open"]
"""Which other keys the run may own (steps, open); lets the script skip EXPIRE and DEL for those it cannot have."""


def end(
    wire: Wire,
    owned: Owned,
    status: Literal["completed", "failed", "cancelled"],
    *,
    output: bytes = b"null",
    error: Failure | None = None,
    leaves: Leaves = "steps open",
    subscribed: str = "",
) -> asyncio.Future[Any]:
    """Record an end; the future has the word (bytes). `over` may be the repeat of this very call.

    `subscribed` holds the statuses that somebody beside the run's caller is to be told of (checkpoint/ends/ends.py).
    """
    return wire.together(
        _END,
        owned.prefix,
        (wire.settings.keep_ms, subscribed),
        _Item(
            run=owned.run,
            fence=owned.fence,
            turn=owned.turn,
            status=status,
            field="output" if error is None else "error",
            value=sealed(output) if error is None else codec.encode(error),
            leaves=leaves,
            told=_counted(status, error),
        ),
    )


def _counted(status: str, error: Failure | None) -> str:
    """Return what is told of an error that somebody should look at: not why a run was cancelled, unless it was late."""
    if error is None or (status != "failed" and error.name != _TIMED_OUT.name):
        return ""
    return told_of(error.name, error.message, error.stack)


def timed_out(what: Literal["start", "finish"], within_ms: int) -> Failure:
    """Return why a run is cancelled that did not start, or finish, in time."""
    return _formatted(_TIMED_OUT, what, within_ms / 1_000)


def worker_crash(times: int) -> Failure:
    """Return why a run has failed whose worker died each time it ran it."""
    return _formatted(_WORKER_CRASH, times)


def _formatted(cause: Failure, *given: str | float) -> Failure:
    return msgspec.structs.replace(cause, message=cause.message % given)
