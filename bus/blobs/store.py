"""Store: what every store of blobs can do, and what all have in common: names, and the bound of time."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from stepstream.bus.errors import ConfigError, StoreUnfit

TIMEOUT_S = 30.0
"""Within so many seconds one call of a store has an answer, with all its retries, or StoreUnfit."""
LONGEST_KEY = 512
AT_ONCE = 100
"""So many blobs are listed or deleted by one request, which has the whole bound of time."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*")


class Blob(msgspec.Struct, frozen=True):
    """A blob as a store lists it: its size in bytes, and when it was last written, by the store's clock (ms)."""

    key: str
    size: int
    written_ms: int


class BlobStore(Protocol):
    """A store of blobs. Every call has its answer within 30 s, or raises StoreUnfit, which is worth another try."""

    @property
    def shown(self) -> str:
        """The store's URL, for people; there is no secret in it."""
        ...

    async def put(self, key: str, data: bytes) -> None:
        """Write a blob: when this returns it is kept whole, and until then nobody sees any of it.

        One that is there is written again, and is young again for `list`. ConfigError for a key that is no name.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return a blob; BlobGone where the store answers and does not have it."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs, for good; those that are not there are as they should be."""
        ...

    def list(self, prefix: str = "", older_than_ms: int = 0) -> AsyncIterator[Blob]:
        """Tell of blobs in no order, for upkeep: below `prefix` (whole parts of a key), last written so long ago.

        The age is measured from the store's clock to ours, so it should be hours rather than seconds. A blob that is
        written or deleted meanwhile may be told of or not.
        """
        ...

    async def tidy(self) -> int:
        """Take away what writers that died more than an hour ago have left unfinished; return how much that was."""
        ...


def is_key(key: str) -> bool:
    """Whether a store may have a blob of this name; what else lies in a folder or a bucket is none of ours."""
    return len(key) <= LONGEST_KEY and _KEY.fullmatch(key) is not None


def check_key(key: str) -> str:
    """Return a blob's key; ConfigError for one that could lead out of the store, or that not every store takes."""
    if not is_key(key):
        raise ConfigError(
            f"{key[:80]!r} is no key of a blob: up to {LONGEST_KEY} ASCII letters, digits and . _ = - in parts that "
            "begin with a letter or digit, with / between them"
        )
    return key


@asynccontextmanager
async def in_time(shown: str, timeout_s: float) -> AsyncGenerator[None]:
    """Bound what is asked of a store: a store that hangs must not hold who asks."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise StoreUnfit(f"{shown} has not answered within {timeout_s:g} s", state="timeout") from None
