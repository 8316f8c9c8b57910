"""Rows: an event as a row of an outbox, and back; and the loop of a relay, whatever the database."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from stepstream.bus.bus import Bus, Delay, one_event, outgoing
from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import NewEvent, Payload, Sendable
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values.clock import now_ms

AT_ONCE = 100
"""Rows that a relay takes in one transaction."""
LOOK_EVERY_S = 1.0
"""How soon a relay sees rows of other processes; those of its own wake it."""

_log = structlog.get_logger("outbox")


class Row(msgspec.Struct, frozen=True):
    """An event in an outbox: `id` is the event's, `n` counts the rows. `data` is JSON text.

    `ts` is when it was written, `due` when it is to be published (0: at once), both Unix ms.
    """

    id: str
    name: str
    data: str
    ts: int
    due: int = 0
    v: str | None = None
    n: int = 0

    def event(self) -> NewEvent:
        """Return the event, under the row's id."""
        at = datetime.fromtimestamp(self.due / 1_000, UTC) if self.due else None
        data: Any = Raw(self.data.encode())
        return NewEvent(self.name, data, self.id, self.ts, self.v, at=at)


def row_of(
    app: Bus[Any],
    event: str | Sendable,
    data: Mapping[str, Any] | Payload | None,
    id: str | None,
    delay: Delay | None,
    at: datetime | None,
) -> Row:
    """Return an event as a row, checked against the types that this process knows; EventInvalid."""
    sent = outgoing(one_event(event, data, id, delay, at))
    wrong = sent.misfit(app.kinds.of(sent.name))
    if wrong is not None:
        raise wrong
    now = now_ms()
    due = sent.at or (now + sent.delay if sent.delay else 0)
    return Row(sent.id, sent.name, sent.data.decode(), sent.ts or now, due, sent.v)


async def published(app: Bus[Any], rows: Sequence[Row]) -> dict[int, str]:
    """Publish rows; return why the events of some are refused (they were valid when written), by their number.

    Those stop no other. Raises Unavailable when Redis is away; then some may be published, and are not a second time.
    """
    refused: dict[int, str] = {}
    try:
        await app.publish([row.event() for row in rows])
    except EventInvalid:
        for row in rows:
            try:
                await app.publish([row.event()])
            except EventInvalid as error:
                refused[row.n] = str(error)
                _log.error("an event of the outbox is valid no more; its row says why", id=row.id, error=str(error))
    reached("outbox.published")
    return refused


class Away:
    """Tells once that the outbox is not published, and once that it is again."""

    def __init__(self) -> None:
        self._is_told = False

    def failed(self, error: Exception) -> None:
        """It was not published."""
        if not self._is_told:
            _log.warning("the outbox is not published now; its rows wait", error=f"{type(error).__name__}: {error}")
        self._is_told = True

    def went_well(self) -> None:
        """It was."""
        if self._is_told:
            _log.warning("the outbox is published again")
        self._is_told = False


class Relay:
    """Publishes rows until stop(), in a thread: as soon as it is woken, and once a second."""

    def __init__(self, flush: Callable[[], int]) -> None:
        """Make it. `flush` publishes up to AT_ONCE rows and returns how many there were."""
        self._flush = flush
        self._away = Away()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="stepstream-outbox", daemon=True)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: a transaction of this process was committed."""
        self._woken.set()

    def stop(self, within: float = 5.0) -> None:
        """Stop, after the rows that are under way."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def run(self) -> None:
        """Publish until stop(), in this thread. Redis or the database may be away: that is told, and tried again."""
        while not self._stopping.is_set():
            self._woken.clear()
            count = 0
            try:
                count = self._flush()
            except Exception as error:  # noqa: BLE001 - of any database; the relay outlives them all
                self._away.failed(error)
                self._stopping.wait(LOOK_EVERY_S)
            else:
                self._away.went_well()
            if count < AT_ONCE:
                self._woken.wait(LOOK_EVERY_S)
