"""What the application keeps: credits and generations in an SQLite file, blobs in a folder beside it.

The web front and the workers share both. What must hold for two requests at once, or for a step that is done twice,
is one transaction: a place among the five and a credit that is free are taken together, and a generation is charged
in the same act that completes it.
"""

import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import msgspec

from stepstream import NonRetriable

T = TypeVar("T")
MOST_AT_ONCE = 5
FIRST_CREDITS = 10
"""What somebody has who comes for the first time."""


class Refused(Exception):
    """What somebody wants is not possible now; the message is for them."""


class Status(StrEnum):
    """What becomes of a generation."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Generation(msgspec.Struct, frozen=True):
    """A plushie that somebody wants. `tries` counts how often it was asked for: 1, and 1 more with each retry."""

    id: str
    user: str
    status: Status
    image_type: str
    tries: int
    error: str

    @property
    def asked_by(self) -> str:
        """The id of the event that asked for it last."""
        return f"{self.id}-{self.tries}"


class Credits(msgspec.Struct, frozen=True):
    """Somebody's credits: those that can be spent, and those that what is in process will cost."""

    available: int
    in_use: int

    def __str__(self) -> str:
        """As the gallery shows them."""
        return f"{self.available} available ({self.in_use} in use)"


_TABLES = """
    CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, credits INTEGER NOT NULL CHECK (credits >= 0));
    CREATE TABLE IF NOT EXISTS generations (
      id TEXT PRIMARY KEY, user TEXT NOT NULL, status TEXT NOT NULL, image_type TEXT NOT NULL, tries INTEGER NOT NULL,
      error TEXT NOT NULL DEFAULT '', charged INTEGER NOT NULL DEFAULT 0, original BLOB NOT NULL,
      plushie TEXT);
"""
_COLUMNS = "id, user, status, image_type, tries, error"


class Studio:
    """The files of one folder. Each call opens the database: SQLite's connections belong to one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(folder / "plushify.sqlite", timeout=10)) as base:
            base.executescript(_TABLES)

    # -- generations and credits ------------------------------------------------------------------------------------

    async def begin(self, id: str, user: str, image_type: str, original: bytes) -> Generation:
        """Note a new generation and its photo; Refused when five are in process, or no credit is free."""

        def act(base: sqlite3.Connection) -> Generation:
            _take_place(base, user)
            values = (id, user, Status.PROCESSING, image_type, 1, original)
            columns = "id, user, status, image_type, tries, original"
            base.execute(f"INSERT INTO generations ({columns}) VALUES (?, ?, ?, ?, ?, ?)", values)
            return Generation(id, user, Status.PROCESSING, image_type, 1, "")

        return await self._at_once(act)

    async def begin_again(self, id: str, user: str) -> Generation:
        """Note that a failed generation is tried again; Refused for one that has not failed, and as `begin` does."""

        def act(base: sqlite3.Connection) -> Generation:
            found = _generation(base, id)
            if found is None or found.user != user or found.status is not Status.FAILED:
                raise Refused("Only a generation that has failed can be tried again.")
            _take_place(base, user)
            changes = "status = 'processing', error = '', tries = tries + 1"
            base.execute(f"UPDATE generations SET {changes} WHERE id = ?", (id,))
            return msgspec.structs.replace(found, status=Status.PROCESSING, error="", tries=found.tries + 1)

        return await self._at_once(act)

    async def complete(self, id: str, user: str, plushie: str) -> int:
        """Take one credit and mark the generation completed, in one act. Return how many are left.

        Done twice, it takes one.
        """

        def act(base: sqlite3.Connection) -> int:
            if _generation(base, id) is None:
                raise NonRetriable(f"there is no generation {id}")
            changes = "status = 'completed', error = '', charged = 1, plushie = ?"
            if base.execute(f"UPDATE generations SET {changes} WHERE id = ? AND charged = 0", (plushie, id)).rowcount:
                paid = base.execute("UPDATE users SET credits = credits - 1 WHERE id = ? AND credits > 0", (user,))
                if not paid.rowcount:
                    raise NonRetriable(f"{user} has no credit left")
            return _credits(base, user)

        return await self._at_once(act)

    async def fail(self, id: str, asked_by: str, why: str) -> None:
        """Mark a generation failed, unless it is completed, or has been tried again since by another event."""

        def act(base: sqlite3.Connection) -> None:
            found = _generation(base, id)
            if found is not None and found.status is Status.PROCESSING and found.asked_by == asked_by:
                base.execute("UPDATE generations SET status = 'failed', error = ? WHERE id = ?", (why, id))

        await self._at_once(act)

    async def withdraw(self, id: str) -> None:
        """Forget a generation that could not be asked for."""
        await self._at_once(lambda base: base.execute("DELETE FROM generations WHERE id = ?", (id,)).rowcount)

    async def grant(self, user: str, count: int) -> None:
        """Give somebody so many credits, in place of those there were."""
        await self._at_once(
            lambda base: base.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (user, count)).rowcount
        )

    async def get(self, id: str) -> Generation | None:
        """Return a generation."""
        return await self._at_once(lambda base: _generation(base, id))

    async def original(self, id: str) -> bytes:
        """Return the photo that a generation was asked for with."""

        def act(base: sqlite3.Connection) -> bytes:
            found: tuple[bytes] = base.execute("SELECT original FROM generations WHERE id = ?", (id,)).fetchone()
            return found[0]

        return await self._at_once(act)

    async def plushie(self, id: str) -> bytes:
        """Return the plushie of a completed generation."""

        def act(base: sqlite3.Connection) -> bytes:
            found: tuple[str] = base.execute("SELECT plushie FROM generations WHERE id = ?", (id,)).fetchone()
            return self.blob(found[0]).read_bytes()

        return await self._at_once(act)

    async def of(self, user: str) -> list[Generation]:
        """Return somebody's generations, the newest first."""
        found = f"SELECT {_COLUMNS} FROM generations WHERE user = ? ORDER BY rowid DESC LIMIT 60"
        return await self._at_once(lambda base: [_made(row) for row in base.execute(found, (user,))])

    async def credits(self, user: str) -> Credits:
        """Return somebody's credits."""

        def act(base: sqlite3.Connection) -> Credits:
            in_use = _in_process(base, user)
            return Credits(max(0, _credits(base, user) - in_use), in_use)

        return await self._at_once(act)

    async def _at_once(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction that nobody else writes in."""

        def in_thread() -> T:
            with self._transaction() as base:
                return act(base)

        return await anyio.to_thread.run_sync(in_thread)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        path = self._folder / "plushify.sqlite"
        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as base:
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
            except BaseException:
                base.execute("ROLLBACK")
                raise
            base.execute("COMMIT")

    # -- blobs ------------------------------------------------------------------------------------------------------

    def blob(self, name: str) -> Path:
        """Return the path of a blob; a name that would leave the folder is refused."""
        path = (self._blobs / name).resolve()
        if not path.is_relative_to(self._blobs.resolve()):
            raise NonRetriable(f"blob name {name!r} leaves the folder")
        return path

    def put(self, name: str, content: bytes) -> str:
        """Store a blob whole: another name first, then the rename. Return its name."""
        path = self.blob(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(path.suffix + ".part")
        half.write_bytes(content)
        half.replace(path)
        return name

    def discard(self, folder: str) -> list[str]:
        """Delete the blobs of a folder; return their names."""
        path = self.blob(folder)
        found = sorted(path.iterdir()) if path.is_dir() else []
        for one in found:
            one.unlink(missing_ok=True)
        return [one.name for one in found]


def _take_place(base: sqlite3.Connection, user: str) -> None:
    in_process = _in_process(base, user)
    if in_process >= MOST_AT_ONCE:
        raise Refused(f"You have {in_process} generations in progress. Please wait for one to complete.")
    if _credits(base, user) - in_process < 1:
        raise Refused("You have no credit left.")


def _in_process(base: sqlite3.Connection, user: str) -> int:
    counted = "SELECT COUNT(*) FROM generations WHERE user = ? AND status = 'processing'"
    found: tuple[int] = base.execute(counted, (user,)).fetchone()
    return found[0]


def _credits(base: sqlite3.Connection, user: str) -> int:
    base.execute("INSERT OR IGNORE INTO users VALUES (?, ?)", (user, FIRST_CREDITS))
    found: tuple[int] = base.execute("SELECT credits FROM users WHERE id = ?", (user,)).fetchone()
    return found[0]


def _generation(base: sqlite3.Connection, id: str) -> Generation | None:
    row: Row | None = base.execute(f"SELECT {_COLUMNS} FROM generations WHERE id = ?", (id,)).fetchone()
    return None if row is None else _made(row)


Row = tuple[str, str, str, str, int, str]


def _made(row: Row) -> Generation:
    id, user, status, image_type, tries, error = row
    return Generation(id, user, Status(status), image_type, tries, error)


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Studio]:
    """Open the folder that PLUSHIFY_FOLDER names: the lifespan of the bus, whose `ctx.state` it is."""
    yield Studio(Path(os.environ.get("PLUSHIFY_FOLDER", "studio")))
