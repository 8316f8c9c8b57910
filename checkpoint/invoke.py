"""Invoke: begin a run of a function by its slug, from outside any run."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from bus.errors import ConfigError
from bus.event import RawEvent, as_data
from bus.ids import run_id, ulid
from bus.wire import keys
from bus.wire.retry import patiently
from bus.wire.wire import Wire
from checkpoint.begin import begin

INVOKED = "bus/function.invoked"


async def invoke(wire: Wire, slug: str, data: Mapping[str, Any] | Raw) -> str:
    """Begin a run; return its id. EventInvalid for data that is none, ConfigError when no such function is registered.

    `data` is a mapping, or an object that is JSON already (Raw).
    """
    encoded = as_data(data)
    if not await wire.load("HEXISTS", keys.functions(), slug, patience=2.0):
        known = sorted(name.decode() for name in await wire.load("HKEYS", keys.functions(), patience=2.0))
        raise ConfigError(f"function {slug[:100]!r} is not registered; there are {', '.join(known) or 'none'}")
    now = await patiently(wire.clock, 2.0)
    run = run_id(slug, "invoke", ulid(), now)
    event = RawEvent(id=run, name=INVOKED, data=Raw(encoded), ts=now)
    await begin(wire, slug, run, "invoke", event, patience=10.0)
    return run
