"""TurnExit: how a turn ended, as one value. `drive` returns it; the settlement records it and lets the entry go.

And TurnOver: how code that is still running learns of it.
"""

from typing import Literal

import msgspec

from stepstream.bus.errors import BusError
from stepstream.checkpoint.run.memo import Failure

_NOT_HERE_AGAIN_MS = 60_000


class Ended(msgspec.Struct, frozen=True):
    """The run ends with this turn; that is still to be recorded. It has an `output` (JSON) or an `error`."""

    status: Literal["completed", "failed", "cancelled"]
    output: bytes = b"null"
    error: Failure | None = None
    has_raised: bool = False
    """Whether the code between steps did, and nobody has been told of that yet."""


class TryAgain(msgspec.Struct, frozen=True):
    """The code between steps failed and has attempts left; the next one is due in `delay_ms`. Still to be recorded.

    `is_attempt` is false when none is used up: the code was not reached, or is not the code the run has begun with.
    """

    failure: Failure
    delay_ms: int
    is_attempt: bool = True


def not_here(error: BusError) -> TryAgain:
    """Return what becomes of a run that cannot have what it needs (NOT_HERE): it waits until somebody has mended it."""
    return TryAgain(Failure(error.code, str(error)), _NOT_HERE_AGAIN_MS, is_attempt=False)


class Suspended(msgspec.Struct, frozen=True):
    """The run waits, without a worker; that is recorded already. Its next turn is due in `due_in_ms`."""

    due_in_ms: int


class CodeChanged(msgspec.Struct, frozen=True):
    """The code does not call `steps`, which earlier turns have begun: the run waits for a deploy."""

    steps: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """A fenced script refused a write. `over`: the run has ended or has gone on to a later turn.

    `lost`, `absent`: another delivery has the turn, or the server has rolled back: is the entry still ours?
    """

    word: Literal["over", "lost", "absent"]


class GivenBack(msgspec.Struct, frozen=True):
    """The worker stops: any worker may have the entry at once."""


class Abandoned(msgspec.Struct, frozen=True):
    """The lease is lost, or Redis failed under the turn: the entry stays pending and is reclaimed."""


TurnExit = Ended | TryAgain | Suspended | CodeChanged | Refused | GivenBack | Abandoned


class TurnOver(BaseException):  # so that `except Exception` in a handler does not catch it
    """This turn of the run has ended: it waits, has ended, or belongs to another worker.

    Do not catch it. Nothing a handler does from here on is recorded, and every `step.…` raises this again: clean-up
    belongs in a step or in on_failure, not in `finally` or `except BaseException`.
    """

    def __init__(self) -> None:
        super().__init__(self.__doc__)
