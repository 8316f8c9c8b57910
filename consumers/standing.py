"""Standing: how a worker stands at the moment, for probes and metrics. Any thread may ask."""

from collections.abc import Sequence

import msgspec

from stepstream.consumers.assembly import Assembly
from stepstream.consumers.delivery.slots import Slots


class Standing(msgspec.Struct, frozen=True):
    """How many slots there are and are taken, how many entries wait for one, and why it is not ready.

    `not_ready` is empty while it reads; `still_s` is for how long its loop has not turned, s.
    """

    slots: int
    busy: int
    waiting: int
    not_ready: str
    still_s: float = 0.0


def standing(slots: Slots, *, stops: bool, is_ready: bool, assembly: Assembly | None) -> Standing:
    """Return how one worker stands."""
    return Standing(slots.total, slots.total - slots.free, max(0, slots.waiting), _why(assembly, stops, is_ready))


def together(standings: Sequence[Standing], not_ready: str = "") -> Standing:
    """Return how several workers of one process stand; one that is not ready speaks for all, `not_ready` before it."""
    return Standing(
        sum(one.slots for one in standings),
        sum(one.busy for one in standings),
        sum(one.waiting for one in standings),
        next((why for why in (not_ready, *(one.not_ready for one in standings)) if why), ""),
    )


def _why(assembly: Assembly | None, stops: bool, is_ready: bool) -> str:
    if stops:
        return "it drains: nothing more is read"
    if not is_ready or assembly is None:
        return "it has not begun: its functions are not registered yet"
    return assembly.why_not_reading()
