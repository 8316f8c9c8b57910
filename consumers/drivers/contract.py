"""The contract of a driver: how a function's code is called, wherever it runs.

`call(call, save) -> Outcome` calls the code once. What its steps return, and what they wait for, is recorded through
`save` while the call is open; the outcome says what came of the call as a whole. A driver decides nothing about
entries, slots or retries of runs: that is the executor's.
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
    """The code raised; `delay_ms` until its next attempt, None when there is none."""

    failure: Failure
    delay_ms: int | None


class Stopped(msgspec.Struct, frozen=True):
    """The turn ended while the call was open: the run waits, is another worker's, or was cancelled."""


Outcome = Returned | Raised | Stopped


class Driver(Protocol):
    """Calls the code of functions of one kind."""

    async def call(self, call: Call, save: Turn) -> Outcome:
        """Call the code once, in the current task, which is cancelled when the turn ends under it; raises nothing else.

        `save` is the turn: `save.recorder` records steps (save, note) and lets the run wait (suspend), `save.state` has
        what is known by now. Once `save.over`, nothing is recorded any more, and Stopped is the outcome.
        """
        ...
