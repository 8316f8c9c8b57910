"""The record of the jobs: an SQLite file that the workers and the web application share. It is `ctx.state`."""

import contextlib
import os
import sqlite3
import uuid
from collections.abc import AsyncGenerator

import anyio.to_thread
import msgspec


class Job(msgspec.Struct):
    """A job: `scored` is None until it is done. The correlation id is its trace's id, 32 hex digits."""

    correlation_id: str
    run_id: str
    market: str
    started_ms: int
    scored: int | None = None


class Jobs:
    """The jobs in one file. Each call opens it: SQLite's connections belong to one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._do(
            "CREATE TABLE IF NOT EXISTS jobs (correlation_id TEXT, run_id TEXT PRIMARY KEY, market TEXT,"
            " started_ms INTEGER, scored INTEGER)"
        )

    async def started(self, run_id: str, market: str, now_ms: int) -> Job:
        """Record a job as started, and return it; done again for one run, it is the same job."""
        new = (uuid.uuid4().hex, run_id, market, now_ms)
        await self._in_thread("INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, NULL)", *new)
        return (await self._in_thread("SELECT * FROM jobs WHERE run_id = ?", run_id))[0]

    async def finished(self, run_id: str, scored: int) -> None:
        """Record how many portfolios a job has scored."""
        await self._in_thread("UPDATE jobs SET scored = ? WHERE run_id = ?", scored, run_id)

    async def latest(self) -> list[Job]:
        """Return the last twenty jobs, the newest first."""
        return await self._in_thread("SELECT * FROM jobs ORDER BY started_ms DESC LIMIT 20")

    async def _in_thread(self, statement: str, *values: str | int) -> list[Job]:
        return await anyio.to_thread.run_sync(self._do, statement, values)

    def _do(self, statement: str, values: tuple[str | int, ...] = ()) -> list[Job]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=10)) as base, base:
            rows: list[tuple[str, str, str, int, int | None]] = base.execute(statement, values).fetchall()
        return [Job(*row) for row in rows]


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Jobs]:
    """Open the file that PLANNER_DATABASE names: the lifespan of the bus."""
    yield Jobs(os.environ.get("PLANNER_DATABASE", "jobs.sqlite"))
