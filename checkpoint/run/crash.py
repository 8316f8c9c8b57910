"""Crash: a reclaimed run is charged with a crash of its worker; a worker that is alive after all takes that back."""

from collections.abc import Sequence

from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

_TAKE_BACK = script(__file__, "runs_uncharge")


async def take_back_crashes(wire: Wire, slug: str, consumer: str, runs: Sequence[str]) -> int:
    """Take back what runs were charged with when `consumer` was taken for dead; return how many had been charged.

    A run that has ended meanwhile stays as it is, also one that this very charge has ended.
    """
    back = 0
    for part in parts(runs):
        back += await wire.lasting_script(_TAKE_BACK, [keys.function(slug)], consumer, *part)
    return back
