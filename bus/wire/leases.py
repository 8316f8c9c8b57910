"""Leases: while a worker renews its lease in a slot, its pending entries there stay its own.

A *thread* with its own connection renews, so code that blocks the event loop does not lose its runs. Renewing never
creates a lease: one that another worker has found expired is lost, with all entries in hand under it, and this worker
goes on under a new consumer name. The thread stops renewing when the loop has been blocked for `stall` (10 min by
default): a deadlocked worker must not keep its runs for ever.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.observe.signals import LeasesRenewed, Signals
from stepstream.bus.settings import Settings
from stepstream.bus.values.address import address
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection import opening
from stepstream.bus.wire.connection.refusals import translated
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.serverclock import ServerClock, boot

_log = structlog.get_logger("lease")
_RENEW = script(__file__, "lease_renew")
_RENEW_PLACES = script(__file__, "limit_renew")
_TELL = script(__file__, "worker_tell")
_BEAT_S = 1.0
_AGAIN_S = 0.4
"""How soon a failed renewal is tried again: readers wait for it."""
TOLD_MS = 86_400_000
"""How long what a worker has told of itself is kept after its last sign."""


class Lease:
    """A worker's lease in one slot. After each loss the worker has a new consumer name there."""

    def __init__(self, workers_key: str, worker: str, sure_until: Callable[[], int]) -> None:
        self.workers_key = workers_key
        self._sure_until = sure_until
        self._worker = worker
        self.generation = 0
        self.consumer = f"{worker}.0"
        """The consumer's name in this slot's groups."""
        self.begun = False
        self._fresh_until = 0.0
        self._since: float | None = None
        self._renewed: list[asyncio.Future[None]] = []

    def is_fresh(self) -> bool:
        """Return whether the lease is certainly in force, by the local clock alone.

        Nothing is read, claimed or begun otherwise: it would be given up as soon as the loss is known, and then wait
        for another lease to end.
        """
        return self.begun and boot() < self._fresh_until

    def judges_until(self, lease_ms: int) -> int:
        """Return until when, by the server's clock, this worker may judge that others' leases have ended; 0: not now.

        It may while its own renewals have succeeded for one lease without a break, and while it trusts that clock.
        """
        goes_on = self.is_fresh() and self._since is not None and boot() - self._since >= lease_ms / 1_000
        return self._sure_until() if goes_on else 0

    async def renewed(self) -> None:
        """Wait for the next renewal or the lease's loss."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._renewed.append(future)
        await future

    def kept(self, sent: float, lease_ms: int) -> None:
        """Note that the renewal sent at `sent` succeeded."""
        self.begun = True
        self._fresh_until = sent + 0.6 * lease_ms / 1_000
        if self._since is None:
            self._since = sent

    def broken(self) -> None:
        """Note that a renewal was not answered: the unbroken series ends."""
        self._since = None

    def lost(self) -> None:
        """Note that the lease had expired: go on under a new consumer name."""
        self.begun = False
        self._since = None
        self.generation += 1
        self.consumer = f"{self._worker}.{self.generation}"

    def tell(self) -> None:
        """Wake the callers of renewed(); in the loop's thread."""
        waiting, self._renewed = self._renewed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Place(NamedTuple):
    """A place of a shared limit: the limit, the holder, and how many places there are."""

    limit: str
    holder: str
    most: int


class Telling:
    """What a worker tells of itself, for people: each renewal of its leases sends, beside, what has changed of it."""

    def __init__(self, worker: str) -> None:
        self._key = keys.worker(worker)
        self._told: dict[str, str] = {}
        self._offered: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._is_refused = False
        self.look: Callable[[], dict[str, str]] | None = None
        """Returns what there is to tell; called in the loop's thread, once a second."""

    def turn(self) -> None:
        """Look at what there is to tell."""
        if self.look is not None:
            self._told = self.look()

    def command(self) -> tuple[Any, ...]:
        """Return the command that tells it."""
        self._offered = self._told
        changed = [pair for pair in self._offered.items() if self._known.get(pair[0]) != pair[1]]
        return ("EVAL", _TELL.text, 1, self._key, "", TOLD_MS, *(word for pair in changed for word in pair))

    def answered(self, reply: Any) -> None:
        """Take what the server says to that. A refusal harms nobody: it is told of once, and all is offered again."""
        is_refused = isinstance(reply, Exception)
        if is_refused and not self._is_refused:
            _log.warning("what this worker does is not shown to people", error=str(reply))
        self._is_refused = is_refused
        was_lost = bool(reply) and bool(self._known)
        self._known = {} if is_refused or was_lost else self._offered


def consumer_worker(consumer: str) -> str:
    """Return the worker of a consumer: its name without the generation."""
    return consumer.rpartition(".")[0]


def _refusal(replies: Sequence[Any]) -> StoreUnavailable | None:
    """Return the first refusal among replies. Each is reported, because without leases nothing is read."""
    refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
    if refused is None:
        return None
    error = translated(opening.as_sent(refused))
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(f"a lease is not renewed: {error}", state="lease")


class Leases:
    """All leases of one worker, and the thread that renews them."""

    def __init__(
        self,
        settings: Settings,
        worker: str,
        on_lost: Callable[[dict[Lease, str]], None],
        on_clock_set: Callable[[int], None],
        on_refused: Callable[[StoreUnavailable], None] | None = None,
        signals: Signals | None = None,
    ) -> None:
        """Make them. The callbacks run in the loop's thread.

        `on_lost` gets the lost leases with their consumer names, `on_clock_set` by how much the server's clock was set
        (ms), `on_refused` why no lease could be renewed. `signals` are told of each renewal by the thread.
        """
        self._settings = settings
        self._where = address(settings.redis_url)
        self._on_refused = on_refused
        self._renewals = (signals or Signals()).leases_renewed
        self._due = 0.0
        """When the next renewal is due, monotonic s."""
        self._worker = worker
        self._on_lost = on_lost
        self._on_clock_set = on_clock_set
        self.telling = Telling(worker)
        self._clock = ServerClock(min(1_000, settings.lease_ms // 4))
        self._steady_since = 0.0
        self._leases: list[Lease] = []
        self._places: dict[Place, None] = {}
        self._renewing_places = False
        self._waiting: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._beat: asyncio.TimerHandle | None = None
        self._warned = False
        self._thread = threading.Thread(target=self._renew_forever, name="bus-lease", daemon=True)

    def start(self) -> None:
        """Start renewing."""
        self._steady_since = boot()
        self._turn()
        self._thread.start()

    def add(self, workers_key: str) -> Lease:
        """Return the lease in a slot; it begins with the next renewal, which happens at once."""
        for lease in self._leases:
            if lease.workers_key == workers_key:
                return lease
        lease = Lease(workers_key, self._worker, self.sure_until)
        self._leases = [*self._leases, lease]
        self._wake.set()
        return lease

    def sure_until(self) -> int:
        """Return until when this worker trusts the server's clock, ms; 0 for one lease after the clock was set.

        After one lease every living worker has renewed, so what has expired by that clock has really expired.
        """
        is_steady = boot() - self._steady_since >= self._settings.lease_ms / 1_000
        return self._clock.sure_until() if is_steady else 0

    def hold(self, place: Place) -> None:
        """Renew a shared place together with the leases, so that code that blocks the loop does not lose it."""
        self._places[place] = None

    def let_go(self, place: Place) -> None:
        """Stop renewing a place, but for the renewal that may be under way (renewals_over)."""
        self._places.pop(place, None)

    async def renewals_over(self) -> None:
        """Wait until no renewal is under way that may still name places let go: it would put them back."""
        while self._renewing_places:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(future)
            await future

    def _renewed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def stop(self) -> None:
        """Stop renewing; the leases then expire, or are ended by consumer_leave."""
        self._stopping = True
        self._wake.set()
        if self._beat is not None:
            self._beat.cancel()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 5.0)

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._beat = self._loop.call_later(_BEAT_S, self._turn)
        self.telling.turn()

    def _renew_forever(self) -> None:
        client: Any = opening.threaded(self._where, max(0.2, self._settings.lease_ms / 3_000))
        while not self._stopping:
            self._wake.clear()
            late_s = max(0.0, time.monotonic() - self._due) if self._due else 0.0
            pause = self._settings.renew_ms / 1_000
            refused = None if self._stalled() else self._renew(client, late_s) or self._renew_places(client)
            if refused is not None:
                if self._on_refused is not None:
                    self._tell(self._on_refused, refused)
                client.connection_pool.disconnect()  # the address may lead to another server by now
                pause = min(pause, _AGAIN_S)
            self._due = time.monotonic() + pause
            self._wake.wait(pause)
        client.close()

    def _stalled(self) -> bool:
        still = time.monotonic() - self._turned
        if still < 2 * _BEAT_S:
            self._warned = False
        elif not self._warned:
            self._warned = True
            frame = sys._current_frames().get(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                threading.main_thread().ident or 0
            )
            where = traceback.format_stack(frame, 3) if frame else []
            _log.warning(
                "the event loop is blocked; call blocking code in a sync step",
                seconds=round(still, 1),
                at=where,
            )
        return still * 1_000 > self._settings.stall_ms

    def _renew(self, client: Any, late_s: float) -> StoreUnavailable | None:
        """Renew all leases; return the server's refusal, if any."""
        leases, sent = self._leases, boot()
        pipe = client.pipeline(transaction=False)
        for lease in leases:
            begins = 0 if lease.begun else 1
            pipe.execute_command(
                "EVAL", _RENEW.text, 1, lease.workers_key, "", lease.consumer, self._settings.lease_ms, begins
            )
        # The list of workers is for people: it does no harm if one is missing for a while.
        pipe.execute_command("EVAL", _RENEW.text, 1, keys.workers(), "", self._worker, self._settings.lease_ms, 1)
        pipe.execute_command(*self.telling.command())
        try:
            *replies, told = pipe.execute(raise_on_error=False)
        except opening.threaded_errors as error:
            for lease in leases:
                lease.broken()
            self._tell_renewed(LeasesRenewed(0, 0, len(leases), late_s * 1_000))
            return opening.unavailable(self._where, error)
        lost: dict[Lease, str] = {}
        received = boot()
        self.telling.answered(told)
        for reply in replies:
            if not isinstance(reply, Exception) and reply:
                self._saw(reply, sent, received)
        for lease, reply in zip(leases, replies, strict=False):
            if isinstance(reply, Exception):
                lease.broken()
            elif reply == 0:
                lost[lease] = lease.consumer
                lease.lost()
            else:
                lease.kept(sent, self._settings.lease_ms)
        refused = sum(isinstance(reply, Exception) for reply in replies[: len(leases)])
        self._tell_renewed(LeasesRenewed(len(leases) - len(lost) - refused, len(lost), refused, late_s * 1_000))
        if lost:
            self._tell(self._on_lost, lost)
            self._wake.set()
        for lease in leases:
            self._tell(lease.tell)
        return _refusal(replies)

    def _tell_renewed(self, renewed: LeasesRenewed) -> None:
        if self._renewals:
            self._renewals.send(renewed)

    def _saw(self, server_ms: int, sent: float, received: float) -> None:
        step = self._clock.saw(server_ms, sent, received)
        if step:
            self._steady_since = received
            self._tell(self._on_clock_set, step)

    def _renew_places(self, client: Any) -> StoreUnavailable | None:
        """Renew all shared places; return the server's refusal, if any."""
        self._renewing_places = True  # before they are read: whoever lets one go then sees that this goes on
        try:
            return self._renew_held(client)
        finally:
            self._renewing_places = False
            self._tell(self._renewed)

    def _renew_held(self, client: Any) -> StoreUnavailable | None:
        holders: dict[tuple[str, int], list[str]] = {}
        for place in tuple(self._places):
            holders.setdefault((place.limit, place.most), []).append(place.holder)
        pipe, lease_ms, sure = client.pipeline(transaction=False), self._settings.lease_ms, self.sure_until()
        for (limit, most), all_holders in holders.items():
            for part in parts(all_holders):
                pipe.execute_command("EVAL", _RENEW_PLACES.text, 1, keys.limit(limit), "", lease_ms, most, sure, *part)
        if not holders:
            return None
        try:
            return _refusal(pipe.execute(raise_on_error=False))
        except opening.threaded_errors as error:
            return opening.unavailable(self._where, error)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)
