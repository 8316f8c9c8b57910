"""Start: may the code of delivered entries' runs be called, and from where? One script call per function and read."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from stepstream.bus.errors import StoreError
from stepstream.bus.function import Function
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import MOST_BYTES
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import CAUSES
from stepstream.checkpoint.run.memo import Memo, Open, memo_of, open_of

MAX_CRASHES = 5


class StartRequest(msgspec.Struct):
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


_START = script(__file__, "run_start", item=StartRequest, texts=CAUSES)


class StartReply(msgspec.Struct):
    """What start answers. `word` is `go`, or why nothing is run (docs/state-machine.md).

    `expires`: when the run must have ended, server ms, or 0.
    `to_load`: so many memos are left out, because they are large (`load_memos`).
    `began`: when the run's code was first called, server ms; 0: it is now. `resumed` when the run was there before, and
    not only its entry; `error` when Redis refused this run's keys, with what it said in `why`.
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
    began: int = 0
    resumed: bool = False
    to_load: int = 0
    why: str = ""


def start(
    wire: Wire,
    function: Function,
    asked: Sequence[StartRequest],
    suspects: int,
    subscribed: str,
    then: Callable[[list[StartReply], BaseException | None], None],
) -> None:
    """Start runs and call `then` when Redis has answered, however long that takes: with the answers, or an error.

    The runs lie together (keys.by_partition). At most `suspects` of them that have crashed twice are let through.
    """
    flat: list[str | bytes | int] = [
        function.code, wire.settings.keep_ms, suspects, MAX_CRASHES, subscribed,
        function.timeouts.start_ms, function.timeouts.finish_ms,
    ]  # fmt: skip
    for one in asked:
        flat += msgspec.structs.astuple(one)

    def answered(replies: Any, error: BaseException | None) -> None:
        then([] if error is not None else [_started(reply, function.timeouts.finish_ms) for reply in replies], error)

    wire.lasting_script_then(answered, _START, (keys.function(function.slug, asked[0].run),), flat)


class _Resumed(NamedTuple):
    """What the script answers of a run that has begun before, as it is packed there."""

    word: bytes
    turn: Any
    now: Any
    attempt: Any
    crashes: Any
    wake: Any
    event: bytes
    memos: list[bytes] | int
    open: list[bytes]
    expires: Any
    began: Any = 0


def _started(reply: Sequence[Any], finish_ms: int) -> StartReply:
    """Return an answer; one whose memos cannot be read is that run's error alone."""
    try:
        return _read(reply, finish_ms)
    except (ValueError, UnicodeDecodeError) as error:
        return StartReply("error", why=str(error))


def _read(reply: Sequence[Any], finish_ms: int) -> StartReply:
    word = reply[0].decode()
    if word == "error":
        return StartReply(word, why=reply[1].decode(errors="replace"))
    if word != "go":
        return StartReply(word)
    if len(reply) == 3:
        _, turn, at = reply
        now = int(at)
        return StartReply(word, int(turn), now, expires=now + finish_ms if finish_ms else 0)
    found = _Resumed(*reply)
    memos, opened = found.memos if isinstance(found.memos, list) else [], found.open
    return StartReply(
        word,
        resumed=True,
        to_load=0 if isinstance(found.memos, list) else int(found.memos),
        turn=int(found.turn),
        now=int(found.now),
        attempt=int(found.attempt),
        crashes=int(found.crashes),
        wake=int(found.wake),
        event=found.event,
        memos={memos[i].decode(): memo_of(memos[i + 1]) for i in range(0, len(memos), 2)},
        expires=int(found.expires),
        began=int(found.began),
        open={opened[i].decode(): open_of(opened[i + 1]) for i in range(0, len(opened), 2)},
    )


async def load_memos(wire: Wire, slug: str, run: str, started: StartReply) -> None:
    """Load the memos that start left out, a megabyte or so at a time, beside what else is asked of the server.

    StoreError when there are fewer than start saw: without them finished steps would run again.
    """
    key = keys.steps(slug, run)
    names: list[bytes] = await wire.load("HKEYS", key)
    lengths: list[int] = await wire.loads(*(("HSTRLEN", key, name) for name in names))
    start = size = 0
    for end, length in enumerate(lengths, 1):
        size += length
        if size < MOST_BYTES and end < len(names):
            continue
        part = names[start:end]
        for name, memo in zip(part, await wire.load("HMGET", key, *part), strict=True):
            if memo is not None:
                started.memos[name.decode()] = memo_of(memo)
                await asyncio.sleep(0)  # what is large takes long to read
        start, size = end, 0
    if len(started.memos) < started.to_load:
        raise StoreError(f"{started.to_load - len(started.memos)} memos of run {run} are gone")
    for step in started.open.keys() & started.memos.keys():  # finished since
        del started.open[step]
    started.to_load = 0
