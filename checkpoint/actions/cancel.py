"""Cancel a run from outside. Where a worker has it, the worker is asked to end it, and does within a second or two."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from stepstream.bus.errors import BusError, HasEnded, RunNotFound
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Run


class _Item(NamedTuple):
    """What is sent of one run: its id and, when no worker has written it yet, what is known of it."""

    run: str
    event: bytes = b""
    source: str = ""
    parent: str = ""
    queued: int = 0
    rerun_of: str = ""


_CANCEL = script(__file__, "run_cancel", item=_Item)

CancelAnswer = Literal["cancelled", "asked", "ended", "gone"]
AT_ONCE = 50
_FEW = 20
"""Runs per script call: one takes it a millisecond or two. What comes on one connection, the server does in a row."""
_IN_FLIGHT = 3


async def cancel(wire: Wire, run: str, why: str) -> CancelAnswer:
    """Cancel a run by its id: `asked` when its worker was told to end it, `gone` when there is no such run."""
    shown = await find(wire, run)
    if shown is None:
        return "gone"
    is_unstarted = shown.status == "queued" and shown.started is None
    return await cancel_of(wire, shown.function, run, why, unstarted=shown if is_unstarted else None, patience=10.0)


async def cancel_now(wire: Wire, run: str, why: str) -> Literal["cancelled", "asked"]:
    """Cancel a run as `cancel` does; RunNotFound when there is no such run, HasEnded when it is too late."""
    word = await cancel(wire, run, why)
    if word == "gone":
        raise RunNotFound(run)
    if word == "ended":
        raise HasEnded(run)
    return word


async def cancel_of(
    wire: Wire, slug: str, run: str, why: str, *, unstarted: Run | None = None, patience: float | None = None
) -> CancelAnswer:
    """Cancel a run of a function. `unstarted` is the run as found, when no worker may have recorded it yet."""
    item = _Item(run)
    if unstarted is not None:
        item = _Item(
            run=run,
            event=bytes(unstarted.event or b"null"),
            source=unstarted.source,
            parent=unstarted.parent,
            queued=unstarted.queued,
            rerun_of=unstarted.rerun_of,
        )
    return await _cancel(wire, keys.function(slug, run), why, item, patience)


class Several(NamedTuple):
    """What several runs have come to: how many have ended by it, or will; and how many did not, by why."""

    cancelled: int
    failures: Counter[str]
    """`HAS_ENDED`, `IS_GONE`, or what Redis says where it refuses (a key written by hand)."""

    @property
    def refused(self) -> str:
        """What Redis says of one that it refuses; empty when it refuses none."""
        return next((why for why in self.failures if why not in _WHY_NOT.values()), "")


HAS_ENDED, IS_GONE = "it has ended meanwhile", "it is gone"
_WHY_NOT = {"ended": HAS_ENDED, "gone": IS_GONE}


async def cancel_several(wire: Wire, slug: str, runs: Sequence[str], why: str) -> Several:
    """Cancel runs of a function that have begun, several per call; waits until Redis answers."""
    meant, failures = 0, Counter[str]()
    calls = [
        (prefix, [one for run in some[start : start + _FEW] for one in _Item(run)])
        for prefix, some in keys.by_partition(slug, runs, str)
        for start in range(0, len(some), _FEW)
    ]
    for start in range(0, len(calls), _IN_FLIGHT):
        together = calls[start : start + _IN_FLIGHT]
        several = await asyncio.gather(*(_answers(wire, prefix, why, arguments) for prefix, arguments in together))
        for answer in [one for answers in several for one in answers]:
            if answer in ("cancelled", "asked"):
                meant += 1
            else:
                failures[str(answer) if isinstance(answer, BusError) else _WHY_NOT[answer]] += 1
    return Several(meant, failures)


async def _cancel(
    wire: Wire, prefix: str, why: str, arguments: Sequence[Argument], patience: float | None = None
) -> CancelAnswer:
    [answer] = await _answers(wire, prefix, why, arguments, patience)
    if isinstance(answer, BusError):
        raise answer
    return answer


async def _answers(
    wire: Wire, prefix: str, why: str, arguments: Sequence[Argument], patience: float | None = None
) -> list[CancelAnswer | BusError]:
    common = (wire.settings.keep_ms, codec.encode(Failure("cancelled", why)))
    answers = await wire.lasting_script(_CANCEL, [prefix], *common, *arguments, patience=patience)
    return [
        BusError(codec.text(cast("list[bytes]", one)[1]))
        if isinstance(one, list)
        else cast("CancelAnswer", one.decode())
        for one in answers
    ]
