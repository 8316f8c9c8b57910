"""Job records: an SQLite file that the admin API and the workers share. A run writes its record as it goes on.

Each write may be done twice, for a run that goes on after a crash says again what it had said: that changes nothing.
"""

import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from enum import StrEnum

import anyio.to_thread
import msgspec

MOST_ERROR = 2_000
"""How many characters of an error a record keeps."""


class Status(StrEnum):
    """What becomes of a job."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class SyncJob(msgspec.Struct, frozen=True):
    """A job: `progress` is 0 to 100, `processed` how many records it has gone through, times are ISO 8601, UTC."""

    id: str
    script: str
    status: Status
    progress: int
    processed: int
    result: dict[str, object] | None
    error: str | None
    started: str
    completed: str | None


_COLUMNS = "id, script, status, progress, processed, result, error, started, completed"
_TABLE = """
    CREATE TABLE IF NOT EXISTS jobs (
      id TEXT PRIMARY KEY, script TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'RUNNING',
      progress INTEGER NOT NULL DEFAULT 0, processed INTEGER NOT NULL DEFAULT 0, result TEXT, error TEXT,
      started TEXT NOT NULL, completed TEXT)
"""


class Jobs:
    """The records in one file. Each call opens it: SQLite's connections belong to one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        with self._open() as base:
            base.execute(_TABLE)

    async def start(self, id: str, script: str) -> None:
        """Note that a job runs: a new one, or one that had failed and is run again, or was published after all."""
        again = "status = 'RUNNING', progress = 0, processed = 0, error = NULL, completed = NULL"
        await self._do(
            "INSERT INTO jobs (id, script, started) VALUES (?, ?, ?) "
            f"ON CONFLICT (id) DO UPDATE SET {again} WHERE status = 'FAILED'",
            *(id, script, _now()),
        )

    async def tell(self, id: str, progress: int, processed: int) -> None:
        """Note how far a job is. It only goes forward."""
        await self._do(
            "UPDATE jobs SET progress = MAX(progress, ?), processed = MAX(processed, ?) WHERE id = ?",
            *(progress, processed, id),
        )

    async def complete(self, id: str, processed: int, result: msgspec.Struct) -> None:
        """Note what came of a job."""
        told = msgspec.json.encode(result).decode()
        await self._end("COMPLETED", id, "progress = 100, processed = ?, result = ?", processed, told)

    async def fail(self, id: str, error: str) -> None:
        """Note why a job failed; the first 2,000 characters of it."""
        await self._end("FAILED", id, "error = ?", error[:MOST_ERROR])

    async def withdraw(self, id: str) -> None:
        """Forget a job that was asked for wrongly."""
        await self._do("DELETE FROM jobs WHERE id = ?", id)

    async def get(self, id: str) -> SyncJob | None:
        """Return a job."""
        found = await self._do(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", id)
        return found[0] if found else None

    async def latest(self) -> list[SyncJob]:
        """Return the last twenty jobs, the newest first."""
        return await self._do(f"SELECT {_COLUMNS} FROM jobs ORDER BY rowid DESC LIMIT 20")

    async def _end(self, status: str, id: str, changes: str, *values: str | int) -> None:
        """End a job that runs: how one has ended stays as it was written first."""
        await self._do(
            f"UPDATE jobs SET status = ?, completed = ?, {changes} WHERE id = ? AND status = 'RUNNING'",
            *(status, _now(), *values, id),
        )

    async def _do(self, statement: str, *values: str | int) -> list[SyncJob]:
        def in_thread() -> list[SyncJob]:
            with self._open() as base:
                return [_job(row) for row in base.execute(statement, values)]

        return await anyio.to_thread.run_sync(in_thread)

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=10)) as base, base:
            yield base


Row = tuple[str, str, str, int, int, str | None, str | None, str, str | None]


_result = msgspec.json.Decoder(dict[str, object])


def _job(row: Row) -> SyncJob:
    id, script, status, progress, processed, result, error, started, completed = row
    told = None if result is None else _result.decode(result)
    return SyncJob(id, script, Status(status), progress, processed, told, error, started, completed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Jobs]:
    """Open the file that POLIGRAPH_DATABASE names: the lifespan of the bus, whose `ctx.state` it is."""
    yield Jobs(os.environ.get("POLIGRAPH_DATABASE", "jobs.sqlite"))
