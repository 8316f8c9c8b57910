"""Start: which delivered entries may have their runs' code run, and from where. One script per function and read."""

from collections.abc import Callable, Sequence
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
    `parent` (`<slug>|<run>|<step>`) is the step that waits for the run's end.
    A run `not_before` (server ms) waits on a timer first. `cancels` are its words in the index of what cancels it.
    `rerun_of` is the run it runs again: it may have memos from its beginning.
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
    parent: str = ""
    not_before: int = 0
    cancels: str = ""
    rerun_of: str = ""


class Started(msgspec.Struct):
    """What start answers. `word` is `go`, or why nothing is run (docs/state-machine.md).

    `expires`: when the run must have ended, server ms, or 0.
    `resumed` when the run has begun before; `error` when Redis refused this run's keys, with what it said in `why`.
    """

    word: str
    turn: int = 1
    now: int = 0
    attempt: int = 0
    crashes: int = 0
    wake: int = 0
    event: bytes | None = None
    memos: dict[str, Memo] = {}
    open: dict[str, Open] = {}
    expires: int = 0
    resumed: bool = False
    why: str = ""


def start(
    wire: Wire,
    function: Function,
    asked: Sequence[Asked],
    suspects: int,
    heard: str,
    then: Callable[[list[Started], BaseException | None], None],
) -> None:
    """Start runs and call `then` when Redis has answered, however long that takes: with the answers, or an error.

    At most `suspects` runs that have crashed twice are let through.
    """
    flat: list[str | bytes | int] = [
        function.code, wire.settings.keep_ms, suspects, MAX_CRASHES, heard,
        function.timeouts.start_ms, function.timeouts.finish_ms,
    ]  # fmt: skip
    for one in asked:
        flat += (
            one.run, one.turn, one.entry, one.owner, one.consumer, one.fence, one.event, one.source, one.queued,
            one.parent, one.not_before, one.cancels, one.rerun_of,
        )  # fmt: skip

    def answered(replies: Any, error: BaseException | None) -> None:
        then([] if error is not None else [_started(reply, function.timeouts.finish_ms) for reply in replies], error)

    wire.lasting_script_then(answered, "run_start", (keys.function(function.slug),), flat)


def _started(reply: Sequence[Any], finish_ms: int) -> Started:
    """Return an answer; one whose memos cannot be read is that run's error alone."""
    try:
        return _read(reply, finish_ms)
    except (ValueError, UnicodeDecodeError) as error:
        return Started("error", why=str(error))


def _read(reply: Sequence[Any], finish_ms: int) -> Started:
    word = reply[0].decode()
    if word == "error":
        return Started(word, why=reply[1].decode(errors="replace"))
    if word != "go":
        return Started(word)
    if len(reply) == 3:
        now = int(reply[2])
        return Started(word, int(reply[1]), now, expires=now + finish_ms if finish_ms else 0)
    memos, opened = reply[7], reply[8]
    return Started(
        word,
        resumed=True,
        turn=int(reply[1]),
        now=int(reply[2]),
        attempt=int(reply[3]),
        crashes=int(reply[4]),
        wake=int(reply[5]),
        event=reply[6],
        memos={memos[i].decode(): memo_of(memos[i + 1]) for i in range(0, len(memos), 2)},
        expires=int(reply[9]),
        open={opened[i].decode(): open_of(opened[i + 1]) for i in range(0, len(opened), 2)},
    )
