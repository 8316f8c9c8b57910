"""Run one: let one run of a paused function go on, and leave the others in line."""

import msgspec

from stepstream.bus.errors import Conflict
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import one_field, pause_of
from stepstream.checkpoint.controls.put import put_control
from stepstream.checkpoint.fields import put_field
from stepstream.checkpoint.registry import function_of

_PATIENCE_S = 2.0


class NotPaused(Conflict):
    """A function is not paused, so there is none to be let through."""

    code = "not_paused"


class LetThrough(msgspec.Struct, frozen=True):
    """An order that one run of a paused function go on: of which `function` (slug), by whom, since when (server ms).

    It stands, also when it is taken, until another is given or the function is resumed: so the same one repeated lets
    no second run through.
    """

    function: str
    by: str
    at: int
    request: str = ""
    """The id of whoever asked, by which the order is known again; empty: each asks for another run."""
    worker: str = ""
    """The worker that has taken it, by its name, and lets one through; empty: none has yet."""


async def run_one(wire: Wire, slug: str, by: str, request: str = "") -> LetThrough:
    """Let one run of a paused function go on, to its next wait: the turn that is due first, else the next event.

    Of a function with limits it is the next that gets its place. If nothing is in line, nothing happens. Asked again
    before a worker has taken it, or with the same `request`, nothing changes. FunctionNotFound, or NotPaused.
    """
    await function_of(wire, slug)
    if await pause_of(wire, slug) is None:
        raise NotPaused(f"function '{slug}' is not paused: all its runs go on")
    made = LetThrough(slug, by, await patiently(wire.moment, _PATIENCE_S), request)

    def ordered(stands: LetThrough | None) -> LetThrough:
        if stands is not None and (not stands.worker or (request and stands.request == request)):
            return stands
        return made

    return await put_control(wire, one_field(slug), LetThrough, ordered) or made


async def claim_one(wire: Wire, slug: str, worker: str) -> LetThrough | None:
    """Take for a worker what is to be let through; None when there is nothing, or another worker has it."""
    taken: LetThrough | None = None

    def claimed(stands: LetThrough | None) -> LetThrough | None:
        nonlocal taken
        if stands is None or stands.worker:
            taken = None
            return stands
        taken = msgspec.structs.replace(stands, worker=worker)
        return taken

    await put_field(wire, keys.controls(), one_field(slug), LetThrough, claimed, patience=None)
    return taken


async def leave_one(wire: Wire, taken: LetThrough) -> None:
    """Leave to others what a worker has taken, and cannot read; what was ordered meanwhile stays as it is."""
    left = msgspec.structs.replace(taken, worker="")
    field = one_field(taken.function)
    await put_control(wire, field, LetThrough, lambda stands: left if stands == taken else stands)
