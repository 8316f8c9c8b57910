"""End: record how a run ended, once."""

from typing import Literal, cast

from bus import codec
from bus.failpoints import reached
from bus.wire.wire import Wire
from checkpoint.memo import Failure
from checkpoint.owned import Owned, Word


async def end(
    wire: Wire,
    owned: Owned,
    status: Literal["completed", "failed", "cancelled"],
    *,
    output: bytes = b"null",
    error: Failure | None = None,
) -> Word:
    """Record an end; waits until Redis answers. `over` may be the repeat of this very call."""
    word = await wire.lasting_script(
        "run_end",
        owned.prefix,
        owned.run,
        owned.fence,
        owned.turn,
        status,
        "output" if error is None else "error",
        output if error is None else codec.encode(error),
        wire.settings.keep_ms,
    )
    reached("end.replied")
    return cast("Word", word.decode())
