"""Drain: tell a worker to read no more, finish or suspend what it has in hand, and end, as SIGTERM does."""

import msgspec

from stepstream.bus.errors import Conflict, NotFound
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.put import tell
from stepstream.checkpoint.facts.workers import workers_told

_FIELD = "drain"
_PATIENCE_S = 2.0


class WorkerNotFound(NotFound):
    """No worker has this name, or had it within the last day."""

    code = "worker_not_found"


class NotDrained(Conflict):
    """A worker cannot be told to drain: it is gone, or of a version that does not hear of it."""

    code = "not_drained"


class Drained(msgspec.Struct, frozen=True):
    """A worker, and who told it to drain: the one who did so first."""

    worker: str
    by: str


async def drain(wire: Wire, worker: str, by: str) -> Drained:
    """Tell a worker to drain; return who has told it, which may be another, earlier. What supervises it decides then.

    It has BUS_DRAIN to finish; what is left goes on in another worker. Its whole process ends, with all that it runs.
    WorkerNotFound, or NotDrained for one that is gone, or of a version that would ignore it.
    """
    found = next((one for one in await workers_told(wire) if one.name == worker), None)
    if found is None:
        raise WorkerNotFound(f"no worker {worker[:100]!r}; bus workers lists those of the last day")
    if not found.alive:
        raise NotDrained(f"worker {worker} is gone: what it had in hand goes on in another")
    if not found.drains:
        raise NotDrained(f"worker {worker} is of a version that cannot be told; send SIGTERM to its process")
    key = keys.worker(worker)
    await patiently(lambda: wire.call("HSETNX", key, _FIELD, by), _PATIENCE_S)
    await tell(wire, f"{_FIELD} {worker}")  # again, when another has told it: that one may have died before this
    told = await wire.load("HGET", key, _FIELD, patience=_PATIENCE_S)
    return Drained(worker, codec.text(told) if told else by)


async def drained_by(wire: Wire, worker: str) -> str:
    """Return who has told a worker to drain; empty when nobody has."""
    return codec.text(await patiently(lambda: wire.call("HGET", keys.worker(worker), _FIELD)) or b"")
