"""Where collections are kept: an SQLite file that the web application and the workers share."""

import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Sequence

import anyio.to_thread
import msgspec

from clover_dashboard.models import Answer


class Collection(msgspec.Struct):
    """A collection: `answers` is None until it is done."""

    id: str
    brand: str
    answers: list[Answer] | None = None


class Collections:
    """The collections in one file. Each call opens it: SQLite's connections belong to one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._do("CREATE TABLE IF NOT EXISTS collections (id TEXT PRIMARY KEY, brand TEXT NOT NULL, answers BLOB)")

    async def begin(self, id: str, brand: str) -> None:
        """Note a collection that has been asked for."""
        await self._in_thread("INSERT OR IGNORE INTO collections (id, brand) VALUES (?, ?)", id, brand)

    async def withdraw(self, id: str) -> None:
        """Forget a collection that could not be asked for."""
        await self._in_thread("DELETE FROM collections WHERE id = ? AND answers IS NULL", id)

    async def finish(self, id: str, brand: str, answers: Sequence[Answer]) -> int:
        """Store what was collected; a second time it changes nothing. Return how often the brand was named."""
        await self._in_thread("INSERT OR REPLACE INTO collections VALUES (?, ?, ?)", id, brand, _encode(answers))
        return sum(answer.mentions for answer in answers)

    async def get(self, id: str) -> Collection | None:
        """Return a collection."""
        found = await self._in_thread("SELECT id, brand, answers FROM collections WHERE id = ?", id)
        return found[0] if found else None

    async def latest(self) -> list[Collection]:
        """Return the last twenty collections, the newest first."""
        return await self._in_thread("SELECT id, brand, answers FROM collections ORDER BY rowid DESC LIMIT 20")

    async def _in_thread(self, statement: str, *values: str | bytes) -> list[Collection]:
        return await anyio.to_thread.run_sync(self._do, statement, values)

    def _do(self, statement: str, values: tuple[str | bytes, ...] = ()) -> list[Collection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=10)) as base, base:
            rows: list[tuple[str, str, bytes | None]] = base.execute(statement, values).fetchall()
        return [Collection(id, brand, _decode(answers) if answers else None) for id, brand, answers in rows]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Answer]).decode


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Collections]:
    """Open the file that CLOVER_DATABASE names: the lifespan of the bus, whose `ctx.state` it is."""
    yield Collections(os.environ.get("CLOVER_DATABASE", "collections.sqlite"))
