"""Cancel: end a run from outside. One that runs is asked, and ended by its worker within a second or two."""

from typing import Literal, cast

from bus import codec
from bus.wire import keys
from bus.wire.wire import Wire
from checkpoint.history import find
from checkpoint.memo import Failure

Word = Literal["cancelled", "asked", "ended", "gone"]


async def cancel(wire: Wire, run: str, why: str) -> Word:
    """Cancel a run by its id alone; `asked` when its worker is to end it, `gone` when there is none of that id."""
    found = await find(wire, run)
    if found is None:
        return "gone"
    return await cancel_of(wire, found.function, run, why, unstarted=found.event is None and found.status == "queued")


async def cancel_of(wire: Wire, slug: str, run: str, why: str, *, unstarted: bool = False) -> Word:
    """Cancel a run of a function; `unstarted` when its entry stands and no worker has started it."""
    error = codec.encode(Failure("cancelled", why))
    word = await wire.lasting_script(
        "run_cancel",
        [keys.function(slug)],
        wire.settings.keep_ms,
        run,
        error,
        1 if unstarted else 0,
        b"null",
        patience=10.0,
    )
    return cast("Word", word.decode())
