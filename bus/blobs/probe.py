"""Probe: whether a store takes a blob, gives it back and lets it go."""

from secrets import token_bytes, token_hex

from stepstream.bus.blobs.store import BlobStore
from stepstream.bus.errors import BlobGone, StoreUnfit


async def probe(store: BlobStore) -> None:
    """Write, read and delete a small blob of its own; StoreUnfit, with the way out, when any of that fails."""
    key, data = f"probe/{token_hex(8)}", token_bytes(64)
    await store.put(key, data)
    try:
        read = await store.get(key)
    except BlobGone:
        raise StoreUnfit(f"{store.shown} does not have what it has just taken", state="wrong") from None
    if read != data:
        raise StoreUnfit(f"{store.shown} gives back other bytes than it has taken", state="wrong")
    await store.delete([key])
