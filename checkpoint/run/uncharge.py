"""Uncharge: a reclaimed run was charged with a crash of its worker; that one is alive after all, and takes it back."""

from collections.abc import Sequence

from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

_UNCHARGE = script(__file__, "runs_uncharge")


async def uncharge(wire: Wire, slug: str, consumer: str, runs: Sequence[str]) -> int:
    """Take back what runs were charged with when `consumer` was taken for dead; return how many had been charged.

    A run that has ended meanwhile stays as it is, also one that this very charge has ended.
    """
    back = 0
    for prefix, some in keys.by_partition(slug, runs, str):
        for part in parts(some):
            back += await wire.lasting_script(_UNCHARGE, [prefix], consumer, *part)
    return back
