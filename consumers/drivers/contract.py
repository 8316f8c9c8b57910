"""The contract of a driver: how a function's code is called, wherever it runs.

`call(call, turn) -> Outcome` calls the code once. What its steps return, and what they wait for, is recorded through
`turn` while the call is open; the outcome says what came of the call as a whole. A driver decides nothing about
entries, slots or retries: whether and when a run is tried again is decided in drive.py, alike for all drivers.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.checkpoint.run.memo import Failure, Memo, Open
from stepstream.consumers.turn.turn import Turn


class Call(msgspec.Struct, frozen=True):
    """What is to be called: a function for one run, and how far that has come.

    `event` holds the events of a batch too; `attempt` counts from 0. `memos` (finished steps, ordered by `n`) and
    `open` (steps that wait or failed) are those known when the call begins.
    """

    function: Function
    run: str
    event: RawEvent
    attempt: int
    memos: Mapping[str, Memo]
    open: Mapping[str, Open]


class Returned(msgspec.Struct, frozen=True):
    """The code returned: the run's output as JSON."""

    output: bytes


class Raised(msgspec.Struct, frozen=True):
    """The code raised. `is_final`: trying again cannot mend it. `asked_ms`: how long the code asks to wait for that.

    `is_steps`: it is the failure of a step, told of as such already. `has_run` is false when the code was not reached,
    so that nothing was attempted.
    """

    failure: Failure
    is_final: bool = False
    asked_ms: int | None = None
    is_steps: bool = False
    has_run: bool = True


class Stopped(msgspec.Struct, frozen=True):
    """The turn ended while the call was open: the run waits, is another worker's, or was cancelled."""


Outcome = Returned | Raised | Stopped


class Driver(Protocol):
    """Calls the code of functions of one kind."""

    async def call(self, call: Call, turn: Turn) -> Outcome:
        """Call the code once, in the current task, which is cancelled when the turn ends under it; raises nothing else.

        `turn.recorder` records steps (save, note) and lets the run wait (suspend); `turn.state` has what is known by
        now. Once `turn.over`, nothing is recorded any more, and Stopped is the outcome.
        """
        ...

    async def close(self) -> None:
        """Give up what was opened for calls."""
        ...
