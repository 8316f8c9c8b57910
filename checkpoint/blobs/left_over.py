"""Left over: blobs of runs that are kept no more. Redis forgets a run by itself, and the store does not hear of it."""

from collections.abc import Sequence

import msgspec

from stepstream.bus.blobs.store import Blob, BlobStore
from stepstream.bus.errors import ConfigError
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import below, owner_of

YOUNG_MS = 86_400_000
"""A blob that was written within this long is nobody's left-over: what refers to it may not be stored yet."""
_AT_ONCE = 100


class BlobsTold(msgspec.Struct):
    """What an installation has in its store, and how much of that belongs to no run that is kept; sizes in bytes."""

    store: str
    blobs: int = 0
    bytes: int = 0
    left_over: int = 0
    left_over_bytes: int = 0
    deleted: bool = False
    """Whether those that were left over have been deleted."""


def store_of(wire: Wire) -> BlobStore:
    """Return the store; ConfigError where the settings name none."""
    if wire.blobs is None:
        raise ConfigError("there is no store of large results: set BUS_BLOBS_URL, file:///folder or s3://bucket/prefix")
    return wire.blobs


async def looked_through(wire: Wire, *, deletes: bool = False) -> BlobsTold:
    """Go through an installation's blobs, and delete those that are left over; StoreUnfit when the store fails.

    A run is looked up when its blob is seen, so one that has come meanwhile keeps its own.
    """
    store = store_of(wire)
    told = BlobsTold(store.shown, deleted=deletes)
    part: list[Blob] = []
    async for blob in store.list(below(wire)):
        told.blobs += 1
        told.bytes += blob.size
        part.append(blob)
        if len(part) == _AT_ONCE:
            await _look(wire, store, part, told)
            part = []
    await _look(wire, store, part, told)
    if deletes:
        await store.tidy()
    return told


async def _look(wire: Wire, store: BlobStore, blobs: Sequence[Blob], told: BlobsTold) -> None:
    now = await wire.clock()
    old = [blob for blob in blobs if now - blob.written_ms > YOUNG_MS]
    owners = [owner_of(blob.key) for blob in old]
    asked = (("EXISTS", keys.run(slug, run), keys.steps(slug, run)) for slug, run in owners)
    there = await wire.looks(*asked, patience=10.0)
    gone = [blob for blob, (_, run), count in zip(old, owners, there, strict=True) if run and not count]
    told.left_over += len(gone)
    told.left_over_bytes += sum(blob.size for blob in gone)
    if gone and told.deleted:
        await store.delete([blob.key for blob in gone])
