"""Run one: let one run of a paused function go on, and leave the others in line."""

import msgspec

from stepstream.bus.errors import Conflict
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls import one_field, pause_of, tell
from stepstream.checkpoint.registry import REGISTER, function_of

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
    field = one_field(slug)
    raw: bytes = await wire.load("HGET", keys.controls(), field, patience=_PATIENCE_S) or b""
    made = LetThrough(slug, by, await patiently(wire.moment, _PATIENCE_S), request)
    while True:
        stands = _read(raw)
        if stands is not None and (not stands.worker or (request and stands.request == request)):
            made = stands
            break
        raw = await wire.lasting_script(REGISTER, [keys.controls()], field, codec.encode(made), raw)
        if not raw:
            break
    await tell(wire, field)  # again, when it stands: the one who wrote it may have died before this
    return made


async def claim_one(wire: Wire, slug: str, worker: str) -> LetThrough | None:
    """Take for a worker what is to be let through; None when there is nothing, or another worker has it."""
    raw: bytes = await patiently(lambda: wire.call("HGET", keys.controls(), one_field(slug))) or b""
    asked = _read(raw)
    if asked is None or asked.worker:
        return None
    taken = msgspec.structs.replace(asked, worker=worker)
    if await wire.lasting_script(REGISTER, [keys.controls()], one_field(slug), codec.encode(taken), raw):
        return None
    return taken


async def leave_one(wire: Wire, taken: LetThrough) -> None:
    """Leave to others what a worker has taken, and cannot read."""
    left = msgspec.structs.replace(taken, worker="")
    field = one_field(taken.function)
    await wire.lasting_script(REGISTER, [keys.controls()], field, codec.encode(left), codec.encode(taken))
    await tell(wire, field)


def _read(raw: bytes) -> LetThrough | None:
    try:
        return codec.decode_as(raw or b"null", LetThrough | None)
    except ValueError:  # written by hand
        return None
