"""Processes that write blobs into a folder, and die of it: tests/unit/test_blob_folder.py."""

import asyncio
import resource
import signal
from hashlib import sha256
from multiprocessing.connection import Connection

from stepstream.bus.blobs.opening import open_store
from tests import forks

FORKS = forks._FORKS


def put_in_vain(url: str) -> None:
    """Die in the middle of a write: the kernel ends who writes a larger file than it may."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    asyncio.run(open_store(url).put("a/1", b"x" * 200_000))


def write_for_ever(url: str, told: Connection) -> None:
    async def write() -> None:
        store = open_store(url)
        for n in range(1_000_000):
            body = bytes([n % 251]) * (300_000 + n)
            await store.put(f"{n % 3}", sha256(body).digest() + body)
            told.send(n)

    asyncio.run(write())
