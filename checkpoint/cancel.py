"""Cancel: end a run from outside. One that runs is asked, and ended by its worker within a second or two."""

from typing import Literal, cast

from bus import codec
from bus.wire import keys
from bus.wire.pipeline import Argument
from bus.wire.wire import Wire
from checkpoint.find import find
from checkpoint.history import Run
from checkpoint.memo import Failure

Word = Literal["cancelled", "asked", "ended", "gone"]


async def cancel(wire: Wire, run: str, why: str) -> Word:
    """Cancel a run by its id alone; `asked` when its worker is to end it, `gone` when there is none of that id."""
    found = await find(wire, run)
    if found is None:
        return "gone"
    is_unstarted = found.status == "queued" and found.started is None
    return await cancel_of(wire, found.function, run, why, unstarted=found if is_unstarted else None)


async def cancel_of(wire: Wire, slug: str, run: str, why: str, *, unstarted: Run | None = None) -> Word:
    """Cancel a run of a function; `unstarted` is what is known of it when no worker may have written it yet."""
    known: list[Argument] = [""]
    if unstarted is not None:
        known = [
            bytes(unstarted.event or b"null"),
            unstarted.source,
            unstarted.parent,
            unstarted.queued,
            unstarted.rerun_of,
        ]
    arguments = (wire.settings.keep_ms, run, codec.encode(Failure("cancelled", why)), *known)
    word = await wire.lasting_script("run_cancel", [keys.function(slug)], *arguments, patience=10.0)
    return cast("Word", word.decode())
