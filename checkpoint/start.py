"""Start: which delivered entries may have their runs' code run, and from where. One script per function and read."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bus.function import Function
from bus.wire import keys
from bus.wire.wire import Wire
from checkpoint.memo import Memo, Open, memo_of, open_of

MAX_CRASHES = 5


class Asked(msgspec.Struct):
    """One delivered entry and the run it is for.

    `owner` is the consumer it was claimed from (empty: not claimed, or from oneself or @released, which is no crash).
    `event` is the event as JSON, empty for a queue entry of a run that has begun. `fence` is new for this delivery.
    """

    run: str
    turn: int
    entry: str
    owner: str
    consumer: str
    fence: str
    event: bytes
    source: str
    queued: int


class Started(msgspec.Struct):
    """What start answers. `word` is `go`, or why nothing is run (docs/state-machine.md)."""

    word: str
    turn: int = 1
    now: int = 0
    attempt: int = 0
    crashes: int = 0
    wake: int = 0
    event: bytes | None = None
    memos: dict[str, Memo] = {}
    open: dict[str, Open] = {}


async def start(wire: Wire, function: Function, asked: Sequence[Asked], suspects: int) -> list[Started]:
    """Start runs; waits until Redis answers. At most `suspects` runs that have crashed twice are let through."""
    flat: list[str | bytes | int] = []
    for one in asked:
        flat += (
            one.run, one.turn, one.entry, one.owner, one.consumer, one.fence, one.event, one.source, one.queued
        )  # fmt: skip
    replies = await wire.lasting_script(
        "run_start",
        [keys.function(function.slug)],
        function.code,
        wire.settings.keep_ms,
        suspects,
        MAX_CRASHES,
        *flat,
    )
    return [_started(reply) for reply in replies]


def _started(reply: Sequence[Any]) -> Started:
    word = reply[0].decode()
    if word != "go":
        return Started(word)
    if len(reply) == 3:
        return Started(word, int(reply[1]), int(reply[2]))
    memos, opened = reply[7], reply[8]
    return Started(
        word,
        turn=int(reply[1]),
        now=int(reply[2]),
        attempt=int(reply[3]),
        crashes=int(reply[4]),
        wake=int(reply[5]),
        event=reply[6],
        memos={memos[i].decode(): memo_of(memos[i + 1]) for i in range(0, len(memos), 2)},
        open={opened[i].decode(): open_of(opened[i + 1]) for i in range(0, len(opened), 2)},
    )
