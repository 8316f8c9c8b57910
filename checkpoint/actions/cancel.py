"""Cancel: end a run from outside. One that runs is asked, and ended by its worker within a second or two."""

from collections.abc import Sequence
from typing import Literal, cast

from stepstream.bus.errors import BusError, HasEnded, RunNotFound
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.find import find
from stepstream.checkpoint.read.history import Run
from stepstream.checkpoint.run.memo import Failure

_CANCEL = script(__file__, "run_cancel")

Word = Literal["cancelled", "asked", "ended", "gone"]
AT_ONCE = 50
"""Runs of one call: the server is not held up longer than some ms."""


async def cancel(wire: Wire, run: str, why: str) -> Word:
    """Cancel a run by its id alone; `asked` when its worker is to end it, `gone` when there is none of that id."""
    found = await find(wire, run)
    if found is None:
        return "gone"
    is_unstarted = found.status == "queued" and found.started is None
    return await cancel_of(wire, found.function, run, why, unstarted=found if is_unstarted else None, patience=10.0)


async def cancel_now(wire: Wire, run: str, why: str) -> Literal["cancelled", "asked"]:
    """Cancel a run as `cancel` does; RunNotFound when there is none of that id, HasEnded when it is too late."""
    word = await cancel(wire, run, why)
    if word == "gone":
        raise RunNotFound(run)
    if word == "ended":
        raise HasEnded(run)
    return word


async def cancel_of(
    wire: Wire, slug: str, run: str, why: str, *, unstarted: Run | None = None, patience: float | None = None
) -> Word:
    """Cancel a run of a function; `unstarted` is what is known of it when no worker may have written it yet."""
    known: list[Argument] = [b"", "", "", 0, ""]
    if unstarted is not None:
        event = bytes(unstarted.event or b"null")
        known = [event, unstarted.source, unstarted.parent, unstarted.queued, unstarted.rerun_of]
    return (await _cancel(wire, slug, why, [run, *known], patience))[0]


async def cancel_several(wire: Wire, slug: str, runs: Sequence[str], why: str) -> None:
    """Cancel runs of a function that have begun, some in one call; waits until Redis answers."""
    for start in range(0, len(runs), AT_ONCE):
        arguments = [one for run in runs[start : start + AT_ONCE] for one in (run, b"", "", "", 0, "")]
        await _cancel(wire, slug, why, arguments)


async def _cancel(
    wire: Wire, slug: str, why: str, arguments: Sequence[Argument], patience: float | None = None
) -> list[Word]:
    common = (wire.settings.keep_ms, codec.encode(Failure("cancelled", why)))
    answers = await wire.lasting_script(_CANCEL, [keys.function(slug)], *common, *arguments, patience=patience)
    for answer in answers:
        if isinstance(answer, list):
            raise BusError(codec.text(cast("list[bytes]", answer)[1]))
    return [cast("Word", answer.decode()) for answer in answers]
