"""The outbox in a table of an application that uses SQLAlchemy 2, with sessions of either kind.

outbox = Outbox(app, metadata=Base.metadata)

with Session(engine) as session, session.begin():
    session.add(order)
    outbox.send(session, OrderPaid(order_id="o1"))

outbox.run(engine)  # the relay, in a process of its own; or outbox.start(engine), in a thread of this one
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)
from sqlalchemy import event as listening
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, registry

from stepstream.bus.bus import Bus, Delay
from stepstream.bus.event import MAX_ID_CHARS, MAX_NAME_BYTES, Payload, Sendable
from stepstream.producers.outbox.rows import AT_ONCE, LOOK_EVERY_S, Away, Relay, Row, published, row_of

TABLE = "stepstream_outbox"
_HAS_ROWS = "stepstream_outbox"


class Outbox:
    """An application's outbox. Its table belongs to `metadata`, so `create_all` and Alembic make it with yours."""

    def __init__(self, app: Bus[Any], *, metadata: MetaData | None = None, table: str = TABLE) -> None:
        self._app = app
        self._relay: Relay | None = None
        metadata = MetaData() if metadata is None else metadata
        self.table = Table(
            table,
            metadata,
            Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
            Column("id", String(MAX_ID_CHARS), nullable=False),
            Column("name", String(MAX_NAME_BYTES), nullable=False),
            Column("data", Text, nullable=False),
            Column("ts", BigInteger, nullable=False),
            Column("due", BigInteger, nullable=False),
            Column("v", String(128)),
            Column("error", Text),
        )
        # A mapped class, so that a session of either kind writes its rows with the others, and drops them with a
        # savepoint that is rolled back.
        self._row: Any = type("OutboxRow", (), {})
        registry(metadata=metadata).map_imperatively(self._row, self.table)

    def send(
        self,
        session: Session | AsyncSession,
        event: str | Sendable,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        id: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> str:
        """Publish an event when the session's transaction is committed, and not if it is not; return the event's id.

        It is checked now; EventInvalid. A `delay` counts from now. The session writes the row when it flushes.
        """
        row = row_of(self._app, event, data, id, delay, at)
        stored = self._row()
        for field in ("id", "name", "data", "ts", "due", "v"):
            setattr(stored, field, getattr(row, field))
        session.add(stored)
        (session.sync_session if isinstance(session, AsyncSession) else session).info[_HAS_ROWS] = True
        return row.id

    # -- the relay ---------------------------------------------------------------------------------------------------

    def flush(self, engine: Engine) -> int:
        """Publish up to 100 committed rows and delete them; return how many there were. Unavailable: Redis is away.

        Where the database can, rows that another relay is at are passed over (FOR UPDATE SKIP LOCKED); else both
        publish them, and they are stored once.
        """
        with engine.begin() as connection:
            rows = self._take(connection)
            if rows:
                refused = self._app.sync(lambda: published(self._app, rows), "outbox.flush", "outbox.flush_async")
                self._settle(connection, rows, refused)
        return len(rows)

    async def flush_async(self, engine: AsyncEngine) -> int:
        """Do what flush() does, with an engine for asyncio."""
        async with engine.begin() as connection:
            rows = await connection.run_sync(self._take)
            if rows:
                refused = await published(self._app, rows)
                await connection.run_sync(self._settle, rows, refused)
        return len(rows)

    def _take(self, connection: Connection) -> list[Row]:
        columns = self.table.c
        wanted = select(*(columns[name] for name in Row.__struct_fields__)).where(columns.error.is_(None))
        wanted = wanted.order_by(columns.n).limit(AT_ONCE).with_for_update(skip_locked=True)
        return [Row(*found) for found in connection.execute(wanted)]

    def _settle(self, connection: Connection, rows: Sequence[Row], refused: Mapping[int, str]) -> None:
        number = self.table.c.n
        done = [row.n for row in rows if row.n not in refused]
        connection.execute(delete(self.table).where(number.in_(done)))
        for n, why in refused.items():
            connection.execute(update(self.table).where(number == n).values(error=why))

    def run(self, engine: Engine) -> None:
        """Relay until the process ends: for a process of its own. Redis or the database may be away meanwhile."""
        Relay(lambda: self.flush(engine)).run()

    def start(self, engine: Engine) -> None:
        """Relay in a thread of this process, which its commits wake. Not before a fork: the child would have none."""
        self._relay = Relay(lambda: self.flush(engine))
        listening.listen(Session, "after_transaction_end", self._ended)
        self._relay.start()

    def stop(self) -> None:
        """Stop the thread of start(), after the rows that are under way."""
        relay, self._relay = self._relay, None
        if relay is not None:
            listening.remove(Session, "after_transaction_end", self._ended)
            relay.stop()

    async def relay(self, engine: AsyncEngine) -> None:
        """Relay until cancelled, as a task: `asyncio.create_task(outbox.relay(engine))`."""
        away = Away()
        while True:
            count = 0
            try:
                count = await self.flush_async(engine)
            except Exception as error:  # noqa: BLE001 - of any database; the relay outlives them all
                away.failed(error)
            else:
                away.went_well()
            if count < AT_ONCE:
                await asyncio.sleep(LOOK_EVERY_S)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None and session.info.pop(_HAS_ROWS, False) and self._relay is not None:
            self._relay.wake()
