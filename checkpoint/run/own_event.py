"""Own event: the events that runs were made for, as plain values: what expressions and matches look at."""

from collections.abc import Iterable
from typing import Any

import msgspec

from stepstream.bus.encryption.sealing import opened
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Record, read

_EVENTS_AT_ONCE = 25
"""An event has 3 MiB at most, and there may be a thousand waits."""


class _WithEvent(Record):
    """A run's own event, as stored JSON."""

    event: bytes = b""


async def events_json(wire: Wire, runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the own events of runs (each slug and run) as plain values; what is gone or makes no sense is left out.

    CannotOpen for one that is encrypted and that this process cannot open.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    wanted = list(runs)
    for start in range(0, len(wanted), _EVENTS_AT_ONCE):
        part = wanted[start : start + _EVENTS_AT_ONCE]
        rows = await patiently(lambda part=part: read(wire, _WithEvent, part))
        for run, stored in zip(part, rows, strict=True):
            try:
                found[run] = codec.decode_as(opened(stored.event) if stored else b"", dict[str, Any])
            except msgspec.MsgspecError:
                continue
    return found


async def event_json(wire: Wire, slug: str, run: str) -> dict[str, Any] | None:
    """Return a run's own event as plain values; None when the run is gone or its event makes no sense."""
    return (await events_json(wire, [(slug, run)])).get((slug, run))
