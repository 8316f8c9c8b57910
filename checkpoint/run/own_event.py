"""Own event: the events that runs were made for, as plain values: what expressions and matches look at."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen, opened
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Record, read

_EVENTS_AT_ONCE = 25
"""An event has 3 MiB at most, and there may be a thousand waits."""


class _WithEvent(Record):
    """A run's own event, as stored JSON."""

    event: bytes = b""


class OwnEvents(NamedTuple):
    """The own events of runs (each slug and run), and why one of them cannot be opened, if that is so."""

    found: dict[tuple[str, str], dict[str, Any]]
    unopened: CannotOpen | None


async def events_json(wire: Wire, runs: Iterable[tuple[str, str]]) -> OwnEvents:
    """Return the own events of runs as plain values; what is gone or makes no sense is left out.

    So is what is encrypted and cannot be opened here: who asks goes on with the others, and asks again for that one.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    unopened: CannotOpen | None = None
    wanted = list(runs)
    for start in range(0, len(wanted), _EVENTS_AT_ONCE):
        part = wanted[start : start + _EVENTS_AT_ONCE]
        rows = await patiently(lambda part=part: read(wire, _WithEvent, part))
        for run, stored in zip(part, rows, strict=True):
            try:
                found[run] = codec.decode_as(opened(stored.event) if stored else b"", dict[str, Any])
            except msgspec.MsgspecError:
                continue
            except CannotOpen as error:
                unopened = CannotOpen(f"the event of run {run[1]}: {error}")
    return OwnEvents(found, unopened)


async def event_json(wire: Wire, slug: str, run: str) -> dict[str, Any] | None:
    """Return a run's own event as plain values; None when the run is gone or its event makes no sense. CannotOpen."""
    events = await events_json(wire, [(slug, run)])
    if events.unopened is not None:
        raise events.unopened
    return events.found.get((slug, run))
