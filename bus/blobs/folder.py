"""Folder: blobs as files, each written whole: to a file beside, to the disk, then to its name in one move.

It has threads of its own, which a fork does not have: a store is opened in the process that uses it.
"""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from stepstream.bus.blobs.store import AT_ONCE, TIMEOUT_S, Blob, check_key, in_time, is_key
from stepstream.bus.errors import BlobGone, StoreUnfit
from stepstream.bus.values.clock import now_ms

T = TypeVar("T")

UNFINISHED = ".unfinished"
"""The folder of what is being written; no key begins with a dot. It is on the same disk as the rest."""
LEFT_S = 3_600
"""What has been unfinished for so long has no writer: none is waited for longer than half a minute."""
THREADS = 8
"""A disk that hangs keeps so many threads at most: nobody can end them. Who asks beyond waits, within the time."""
_TRIES = 20
_STATES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "refused"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full"),
}
_WAYS_OUT = {
    "refused": "let the user of this process read and write there",
    "full": "make room on its disk",
    "unreachable": "is it mounted, and a folder?",
}


class Folder:
    """A store of blobs in a folder, which is made when the first is written. Its files are not readable for others."""

    def __init__(self, root: Path, shown: str, timeout_s: float = TIMEOUT_S) -> None:
        self.shown = shown
        self._root = root
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bus-blobs")  # made when it is asked

    async def put(self, key: str, data: bytes) -> None:
        """Write a blob: when this returns it is on the disk."""
        target = self._root / check_key(key)
        await self._in_thread(lambda: self._write(target, data))

    async def get(self, key: str) -> bytes:
        """Return a blob; BlobGone where the folder is there, and does not have it."""
        target = self._root / check_key(key)
        found = await self._in_thread(lambda: self._read(target))
        if found is None:
            raise BlobGone(key, self.shown)
        return found

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs, and the folders that are empty then."""
        targets = [self._root / check_key(key) for key in keys]
        for first in range(0, len(targets), AT_ONCE):
            part = targets[first : first + AT_ONCE]
            await self._in_thread(lambda part=part: self._unlink(part))

    async def list(self, prefix: str = "", older_than_ms: int = 0) -> AsyncIterator[Blob]:
        """Tell of blobs below a part of the folder, last written so long ago."""
        found = self._found(check_key(prefix) if prefix else "")
        until = now_ms() - older_than_ms
        while part := await self._in_thread(lambda: list(islice(found, AT_ONCE))):
            for blob in part:
                if blob.written_ms <= until:
                    yield blob

    async def tidy(self) -> int:
        """Take away what writers that died have left unfinished."""
        return await self._in_thread(self._tidy)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with in_time(self.shown, self._timeout_s):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except OSError as error:
                state = _STATES.get(error.errno or 0, "unreachable")
                what = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
                raise StoreUnfit(f"{self.shown}: {what}: {_WAYS_OUT[state]}", state=state) from None

    def _write(self, target: Path, data: bytes) -> None:
        beside = self._root / UNFINISHED / token_hex(16)
        _make(beside.parent)
        try:
            with open(beside, "xb", opener=_opener) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._move(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _move(self, beside: Path, target: Path) -> None:
        for left in reversed(range(_TRIES)):
            _make(target.parent)
            try:
                beside.replace(target)
                break
            except FileNotFoundError:  # who has deleted the last blob there took the folder away just now
                if not left:
                    raise
        for folder in (target.parent, *target.parent.relative_to(self._root).parents):
            _sync(self._root / folder)

    def _read(self, target: Path) -> bytes | None:
        try:
            return target.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.stat(f"{self._root}/.")  # a folder that is not mounted, or none, has lost nothing: that is another error
            return None

    def _unlink(self, targets: Sequence[Path]) -> None:
        for target in targets:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                target.unlink()
            for folder in target.parents:
                if folder == self._root:
                    break
                try:
                    folder.rmdir()
                except OSError:  # it is not empty, or another has taken it away
                    break

    def _found(self, prefix: str) -> Iterator[Blob]:
        open_ones = [prefix]
        while open_ones:
            folder = open_ones.pop()
            try:
                entries = list(os.scandir(self._root / folder))
            except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile; nothing was ever written
                continue
            for entry in entries:
                key = f"{folder}/{entry.name}" if folder else entry.name
                if not is_key(key):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    open_ones.append(key)
                elif entry.is_file(follow_symlinks=False):
                    try:
                        told = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield Blob(key, told.st_size, told.st_mtime_ns // 1_000_000)

    def _tidy(self) -> int:
        gone = 0
        try:
            entries = list(os.scandir(self._root / UNFINISHED))
        except FileNotFoundError:
            return 0
        for entry in entries:
            try:
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFT_S:
                    os.unlink(entry.path)
                    gone += 1
            except FileNotFoundError:  # its writer has finished, or another tidies too
                continue
        return gone


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o660)


def _make(folder: Path) -> None:
    """Make a folder and those above it, not readable for others; each is on the disk with the name of the next."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o770, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(there)
    finally:
        os.close(there)
