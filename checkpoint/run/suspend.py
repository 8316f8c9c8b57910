"""Suspend: a run waits without holding a worker (its failpoints are called `park.…`)."""

from typing import cast

import msgspec

from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.attempts import record_of as attempt_of
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.owned import Owned, Word
from stepstream.checkpoint.run.save import memos_of

_SUSPEND = script(__file__, "run_suspend")


class SuspendReply(msgspec.Struct):
    """What suspend answers: the word, how long until the run is due, or the memos that came since the caller looked."""

    word: Word
    due_in_ms: int = 0
    resolved: dict[str, Memo] = {}
    cancel: Failure | None = None


async def suspend(
    wire: Wire,
    owned: Owned,
    *,
    known: int,
    due: str,
    attempt: int | None = None,
    error: Failure | None = None,
    failed: tuple[int, int] | None = None,
) -> SuspendReply:
    """Let a run wait until `due` ("+<ms from now>" or "<ms since 1970>").

    With `attempt` and `error` the code between steps has failed and is tried again then; `failed` is which attempt that
    was, from 1, and how long it took, ms; None when it does not count as one.
    """
    reply = await wire.lasting_script(
        _SUSPEND,
        owned.prefix,
        owned.run,
        owned.fence,
        owned.turn,
        known,
        due,
        "" if attempt is None else attempt,
        b"" if error is None else codec.encode(error),
        b"" if error is None or failed is None else attempt_of("", *failed, error),
    )
    reached("park.replied")
    word = cast("Word", reply[0].decode())
    if word == "mine":
        return SuspendReply(word, due_in_ms=int(reply[1]))
    if word == "cancel":
        return SuspendReply(word, cancel=codec.decode_as(reply[1], Failure))
    return SuspendReply(word, resolved=memos_of(reply[1]) if word == "wake" else {})
