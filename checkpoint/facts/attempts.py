"""Attempts: each time a step, or the code between steps, failed and was tried again. A memo has the last only."""

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure

MOST = 20
"""How many are kept of a run (fragment `attempts`)."""
_LONGEST_MESSAGE, _LONGEST_STACK = 1_000, 4_000


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt that failed and was followed by another.

    `step` is empty for the code between steps. `attempt` counts from 1; `began` and `ended` are server ms. Of a long
    message the beginning is kept, of a long stack the end.
    """

    step: str
    attempt: int
    began: int
    ended: int
    error: Failure


class _Stored(msgspec.Struct):
    ended: int
    step: str
    attempt: int
    took: int
    error: Failure


def record_of(step: str, attempt: int, took_ms: int, error: Failure) -> bytes:
    """Return what is noted of an attempt that failed, JSON; the script puts before it when."""
    kept = msgspec.structs.replace(
        error, message=error.message[:_LONGEST_MESSAGE], stack=error.stack[-_LONGEST_STACK:], original=""
    )
    told = {"step": step, "attempt": attempt, "took": took_ms, "error": kept}
    return codec.encode(told)[1:]


async def attempts_of(wire: Wire, slug: str, run: str) -> list[FailedAttempt]:
    """Return the last 20 attempts of a run that failed, the oldest first; what is there by hand is passed over.

    The last attempt of a step that has failed for good is its memo, and that of the code between steps the run's error.
    """
    found: list[FailedAttempt] = []
    for raw in await wire.load("LRANGE", keys.attempts(slug, run), 0, -1):
        try:
            one = codec.decode_as(raw, _Stored)
        except ValueError:
            continue
        found.append(FailedAttempt(one.step, one.attempt, one.ended - one.took, one.ended, one.error))
    return found
