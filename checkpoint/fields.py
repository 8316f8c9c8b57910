"""Fields: of hashes in which each field is a value that several may change. It is read, changed and written as one act.

Two that change it at once are one after the other: the second sees what the first has written.
"""

from collections.abc import Callable
from typing import TypeVar

from stepstream.bus.values import codec
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

T = TypeVar("T")

_PUT = script(__file__, "field_put")


async def put_if(
    wire: Wire, key: str, field: str, value: bytes, seen: bytes, patience: float | None = None
) -> bytes | None:
    """Write a field if what stands is what the caller has seen; both empty for no field.

    Return None when `value` stands now, by whomever, or else what stands: empty where there is nothing.
    """
    return await wire.lasting_script(_PUT, [key], field, value, seen, patience=patience)


async def put_field(
    wire: Wire,
    key: str,
    field: str,
    kind: type[T],
    change: Callable[[T | None], T | None],
    patience: float | None = 2.0,
) -> T | None:
    """Change a field that holds JSON of a kind; return what stands then.

    `change` gets what stands (None: nothing does, or what somebody has written by hand and is none) and returns what is
    to stand (None: nothing). It is called again when another was quicker; what it raises leaves all as it is.
    """
    seen: bytes = await patiently(lambda: wire.call("HGET", key, field), patience) or b""
    while True:
        stands = codec.stored_as(seen, kind)
        made = change(stands)
        value = b"" if made is None else seen if made is stands else codec.encode(made)
        there = None if value == seen else await put_if(wire, key, field, value, seen, patience)
        if there is None:
            return made
        seen = there
