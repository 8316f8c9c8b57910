"""Put: an order is changed as one act, and all workers are told of it."""

from collections.abc import Callable
from typing import TypeVar

from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.fields import put_field

T = TypeVar("T")

_KEPT_CHANGES = 16
_PATIENCE_S = 2.0


async def put_control(
    wire: Wire, field: str, kind: type[T], make: Callable[[T | None], T | None], *, is_told: bool = True
) -> T | None:
    """Change the order of a field, and tell who follows (`is_told`: at once); return what is ordered then.

    `make` gets what is ordered (None: nothing) and returns what is to be (None: nothing); what it raises leaves all as
    it is. It is told also when nothing has changed: who changed it before may have died before that. StoreUnavailable
    when Redis is away.
    """
    made = await put_field(wire, keys.controls(), field, kind, make, _PATIENCE_S)
    if is_told:
        await tell(wire, field)
    return made


async def remove_control(wire: Wire, field: str, kind: type[T]) -> T | None:
    """Take an order back, and tell who follows; return what was ordered."""
    before: T | None = None

    def nothing(stands: T | None) -> None:
        nonlocal before
        before = stands

    await put_control(wire, field, kind, nothing)
    return before


async def tell(wire: Wire, field: str) -> None:
    """Tell those who follow that something is ordered, or no more: a field of the hash."""
    stream = keys.control_changes()
    await patiently(lambda: wire.call("XADD", stream, "MAXLEN", _KEPT_CHANGES, "*", "of", field), _PATIENCE_S)
