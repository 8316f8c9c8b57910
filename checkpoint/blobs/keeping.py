"""Keeping: what a step or a run has returned as it is stored: sealed, and, when it is large, in the store of blobs.

The blob is written first, then what refers to it: a reference without its blob is never stored. A blob belongs to one
run, which its key names (`<prefix>/<function>/<run>/<hash>`): what another run takes over (a called function's result,
the steps that a rerun keeps) is copied. The same data has the same key, so a write that is repeated changes nothing.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping

from stepstream.bus.blobs.reference import BLOB_MARK, keys_in, reference, replaced
from stepstream.bus.blobs.store import BlobStore
from stepstream.bus.encryption.sealing import sealed
from stepstream.bus.encryption.users_codec import has_codec
from stepstream.bus.errors import BlobGone, StoreUnfit
from stepstream.bus.process.failpoints import reached
from stepstream.bus.wire.wire import Wire

_AT_ONCE = 8
_NO_STORE = "it is kept in the store of large results, and this process has no BUS_BLOBS_URL: set it as the others have"
_ODD = re.compile(r"[^A-Za-z0-9._-]|^[._-]")
_SPELT = re.compile(r"=([0-9A-F]+)=")


def is_kept_as_it_is(wire: Wire, data: bytes) -> bool:
    """Whether a result needs neither codec nor store: `kept` need not be asked, which costs each step something."""
    return wire.blobs is None and BLOB_MARK not in data and not has_codec()


async def kept(wire: Wire, slug: str, run: str, data: bytes) -> bytes:
    """Return a result of a run as it is stored; its blob is written when this returns.

    CannotSeal when the codec fails, StoreUnfit when the store cannot be asked, BlobGone for one that is to be taken
    over from another run and is gone.
    """
    data = sealed(data)
    if wire.blobs is None or len(data) <= wire.settings.blobs_above:
        return await taken_over(wire, slug, run, data) if BLOB_MARK in data else data
    if keys_in(data):  # a blob refers to none: who reads it has it whole, who copies it copies all
        data = sealed(await brought(wire, data))
    return await _written(wire.blobs, key_of(wire, slug, run, data), data)


def asks_store(wire: Wire, data: bytes) -> bool:
    """Whether `kept` will ask the store for this data, as far as can be told before it is sealed."""
    return bool(keys_in(data)) or (wire.blobs is not None and len(data) > wire.settings.blobs_above // 2)


async def taken_over(wire: Wire, slug: str, run: str, data: bytes) -> bytes:
    """Return JSON that a run takes over, with copies of its own in place of other runs' blobs; errors as `kept`."""
    keys = keys_in(data)
    if not keys:
        return data
    own = key_of(wire, slug, run, b"").rpartition("/")[0] + "/"
    others = [key for key in keys if not key.startswith(own)]
    if not others:
        return data
    store, found = _store(wire), await _read(wire, others)
    copies: dict[str, bytes] = {}
    for key, blob in found.items():
        copies[key] = await _written(store, key_of(wire, slug, run, blob), blob)
    return replaced(data, copies)


async def _written(store: BlobStore, key: str, data: bytes) -> bytes:
    await store.put(key, data)
    reached("blob.written")
    return reference(key, len(data))


async def brought(wire: Wire, data: bytes) -> bytes:
    """Return JSON with all results in it that are kept in the store; what is sealed is still sealed.

    StoreUnfit when the store cannot be asked, or this process has none; BlobGone when it does not have one.
    """
    keys = keys_in(data)
    return replaced(data, await _read(wire, keys)) if keys else data


async def brought_if_there(wire: Wire, data: bytes) -> bytes:
    """Return the same for people: what cannot be read stays a reference, which is shown as such."""
    try:
        return await brought(wire, data)
    except (BlobGone, StoreUnfit):
        return data


async def _read(wire: Wire, keys: list[str]) -> Mapping[str, bytes]:
    store = _store(wire)
    found: dict[str, bytes] = {}
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        found |= zip(part, await asyncio.gather(*map(store.get, part)), strict=True)
    return found


def _store(wire: Wire) -> BlobStore:
    if wire.blobs is None:
        raise StoreUnfit(_NO_STORE, state="missing")
    return wire.blobs


def key_of(wire: Wire, slug: str, run: str, data: bytes) -> str:
    """Return the key of a run's blob; a part of it is as it is, with what no key may have as its number (`=2F=`)."""
    name = hashlib.sha256(data).hexdigest()[:32]
    return "/".join((below(wire), _spelt(slug), run, name))


def below(wire: Wire) -> str:
    """Return what the keys of all blobs of an installation begin with."""
    return _spelt(wire.settings.prefix)


def _spelt(part: str) -> str:
    spelt = _ODD.sub(lambda found: f"={ord(found[0]):X}=", part)
    return f"0{spelt}" if spelt.startswith("=") else spelt


def owner_of(key: str) -> tuple[str, str]:
    """Return the function's slug and the run that a blob's key names; empty for a key that is none of a run's."""
    parts = key.split("/")
    if len(parts) != 4:
        return "", ""
    slug = parts[1].removeprefix("0") if parts[1].startswith("0=") else parts[1]
    return _SPELT.sub(lambda found: chr(int(found[1], 16)), slug), parts[2]
