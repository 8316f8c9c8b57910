"""Publishing: append events to the streams of their names, so that a lost reply or a lost stream loses none."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.encryption.sealing import sealed
from stepstream.bus.errors import ScriptMissing, StoreError, StoreUnavailable, listed
from stepstream.bus.event import Outgoing
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.types.check import KindsOf, TypeCheck, no_kinds
from stepstream.bus.wire.wire import Wire

PATIENCE_S = 10.0
"""How long a publisher waits for Redis before it raises."""

_ANNOUNCE_EVERY_S = 5.0
"""How often a publisher announces a name it still uses: the list of names may be lost, and nobody else knows."""

_MOST_KNOWN = 10_000

_PUBLISH = script(__file__, "event_publish")
_DELAY = script(__file__, "event_delay")
_PUBLISH_AGAIN = script(__file__, "event_publish_again")
_RECEIVE = script(__file__, "event_receive")

_FOUND_MS = 3_600_000
"""How long an id that an SDK has made is remembered: it repeats a request within seconds, and asks for its runs."""


class Stored(msgspec.Struct, frozen=True):
    """A published event: its id, its stream entry, and whether it had been stored before.

    `due`: it is kept until then, server ms, and has no entry yet.
    """

    id: str
    entry: str
    duplicate: bool = False
    functions: int | None = None
    """How many functions start on it, as far as the publisher has seen lately; None when it may not see that."""
    due: int = 0
    cancels: int = 0
    """Where no function starts on it: of how many functions it may cancel runs."""
    waits: bool = False
    """Where no function starts on it: whether a run waited for an event of its name when it was stored."""


class Sent(str):
    """The id of an event that is stored: text, that also tells how many functions start on the event."""

    __slots__ = ("functions", "waits")
    functions: int | None
    """0: it starts none; a run may wait for it, or be cancelled by it. None: this process may not see that."""
    waits: bool
    """Where it starts none: whether a run waited for an event of its name when it was stored."""

    @classmethod
    def of(cls, stored: Stored) -> "Sent":
        """Return what the sender is told of a stored event."""
        sent = cls(stored.id)
        sent.functions, sent.waits = stored.functions, stored.waits
        return sent


class PublishFailed(StoreUnavailable):
    """Redis failed before all events were stored. Those in `stored` are; of those in `unknown` (ids) it is not known.

    The others are not. An event with an id of the sender's own may be sent again: it is stored once.
    """

    def __init__(self, stored: list[Stored], error: StoreUnavailable, unknown: Sequence[str] = ()) -> None:
        self.stored = stored
        self.unknown = tuple(unknown)
        if unknown:
            became = f"whether it was stored is not known of {listed(self.unknown, 3)}"
        else:
            became = "nothing was stored" if not stored else f"{len(stored)} were stored before, the others were not"
        super().__init__(f"{error}; {became}", state=error.state)


class _Batch:
    """What has become of events that are published together; they are to be stored until then (monotonic, s)."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.stored: list[Stored] = []
        self.unknown: list[str] = []
        """The ids of those that may be stored or not."""
        self.failure: StoreUnavailable | StoreError | None = None
        self.since: int | None = None
        """Since when (server ms) they may be stored, once one has to be looked for."""

    @property
    def left(self) -> float:
        """How much time is left, s."""
        return _left(self.until)


class Publisher:
    """Appends events. A retry after a lost reply looks for the event before it adds."""

    def __init__(
        self,
        wire: Wire,
        kinds_of: KindsOf = no_kinds,
        listeners: Listeners | None = None,
        patience: float | None = None,
    ) -> None:
        """Make a publisher; `kinds_of` returns the types that the functions of this process give to a name.

        `listeners` are registered before the first event, and counted; without them neither is done. It waits for Redis
        for `patience` s before it raises; PATIENCE_S by default.
        """
        self._wire = wire
        self._types = TypeCheck(wire, kinds_of)
        self._listeners = listeners
        self._patience = patience
        self.stored = self.repeated = 0
        """How many events it has stored, those too that were there; and how many were there."""
        self._known: dict[str, float] = {}
        """Until when (monotonic, s) each name need not be announced again."""

    async def publish(self, events: Sequence[Outgoing], patience: float | None = None) -> list[Stored]:
        """Store events, all in one write; PublishFailed, with those stored, when Redis stays away for `patience` s.

        EventInvalid, and nothing is stored, when one of them does not fit the type that its name has.
        """
        batch = _Batch(time.monotonic() + (patience or self._patience or PATIENCE_S))
        try:
            await self._get_ready(events, batch.until)
        except StoreUnavailable as error:
            raise PublishFailed([], error) from None
        waited = self._waited(events)
        calls = [self._first(event) for event in events]
        for event, call in zip(events, calls, strict=True):  # every reply is read, also after one has failed
            try:
                batch.stored.append(self._stored(event, await call or await self._made(event, batch.left)))
            except (ScriptMissing, StoreUnavailable) as error:
                await self._try_again(batch, event, error)
            except StoreError as error:
                batch.failure = error
        reached("publish.sent")
        heard = [name for name, reply in waited.items() if await _is_there(reply)]
        if isinstance(batch.failure, StoreUnavailable):
            raise PublishFailed(batch.stored, batch.failure, batch.unknown)
        if batch.failure is not None:
            raise batch.failure
        if not heard:
            return batch.stored
        return [
            msgspec.structs.replace(one, waits=not one.functions and event.name in heard)
            for event, one in zip(events, batch.stored, strict=True)
        ]

    async def register(self, patience: float) -> None:
        """Register the listeners before the first event does; StoreUnavailable when Redis stays away so long, s."""
        if self._listeners is not None:
            await self._listeners.get_ready(set(), patience)

    async def _try_again(self, batch: "_Batch", event: Outgoing, error: ScriptMissing | StoreUnavailable) -> None:
        """Store an event whose first try failed, while there is time, and as long as Redis has not failed another."""
        is_unknown = _is_unanswered(error)
        has_script = not isinstance(error, ScriptMissing)  # a server that lacks the script has stored nothing
        if has_script and (batch.failure is not None or not batch.left):
            batch.failure = batch.failure or error
        else:
            try:
                if batch.since is None and has_script:
                    batch.since = await patiently(self._wire.moment, batch.left)
                batch.stored.append(await self._again(event, batch.since or 0, batch.left))
                return
            except (StoreUnavailable, StoreError) as still:
                is_unknown = is_unknown or _is_unanswered(still)
                batch.failure = still
        if is_unknown:
            batch.unknown.append(event.id)

    def _waited(self, events: Sequence[Outgoing]) -> dict[str, Any]:
        """Ask whether runs wait for names on which no function starts: before they are stored, for then they are taken.

        It goes with the events in one write.
        """
        if self._listeners is None:
            return {}
        names = {event.name for event in events if self._listeners.count(event.name) == 0}
        return {name: self._wire.call("EXISTS", keys.waits(name), keys.waits_if(name)) for name in names}

    async def _get_ready(self, events: Sequence[Outgoing], until: float) -> None:
        """Check the events, register who listens, and announce their names, as far as each is due. It stores none."""
        await self._types.check(events, _left(until))
        names = {event.name for event in events}
        if self._listeners is not None:
            await self._listeners.get_ready(names, _left(until))
        now, known = time.monotonic(), self._known
        new = {name for name in names if known.get(name, 0.0) < now}
        if new:
            await self._wire.within(until - now, self._announce(new, until - now))

    async def _announce(self, names: set[str], patience: float) -> None:
        """Write names to the list before their first event, so that no function misses it; and again, if it is lost."""
        if len(self._known) + len(names) > _MOST_KNOWN:
            self._known.clear()
        for part in parts(sorted(names), width=2):
            pairs: list[Argument] = [one for name in part for one in (self._wire.now or now_ms(), name)]
            await patiently(lambda part=pairs: self._wire.call("ZADD", keys.event_names(), "NX", *part), patience)
        self._known |= dict.fromkeys(names, time.monotonic() + _ANNOUNCE_EVERY_S)

    def _first(self, event: Outgoing, *, makes_stream: bool = False) -> Any:
        """Append an event; the reply is empty when there is no stream and `makes_stream` is false."""
        if event.is_delayed:
            return asyncio.ensure_future(self._delay(event))
        fields = _fields(event)
        if event.internal:
            own, arguments = self._receiving(event, makes_stream=makes_stream, notes=True)
            return self._wire.call("EVALSHA", _RECEIVE.sha, len(own), *own, self._wire.now, *arguments, *fields)
        if not event.own_id:
            stream = keys.events(event.name)
            if now := self._wire.now:  # a test's: the script gives the entry that time
                return self._wire.call("EVALSHA", _PUBLISH_AGAIN.sha, 1, stream, now, now, event.id, *fields)
            if makes_stream:
                return self._wire.call("XADD", stream, "*", *fields)
            return self._wire.call("XADD", stream, "NOMKSTREAM", "*", *fields)
        stream, seen = keys.events(event.name), keys.seen(event.name, event.id)
        dedupe = self._wire.settings.dedupe_ms
        return self._wire.call(
            "EVALSHA", _PUBLISH.sha, 2, stream, seen, self._wire.now, dedupe, int(makes_stream), *fields
        )

    def _receiving(
        self, event: Outgoing, *, makes_stream: bool, notes: bool
    ) -> tuple[Sequence[str], Sequence[Argument]]:
        """Return the keys of an event that an SDK sent, and what the script is told of it before its fields."""
        seen = [keys.seen(event.name, one) for one in (event.id, event.internal)]
        dedupe = self._wire.settings.dedupe_ms if event.own_id else _FOUND_MS
        told = (dedupe, _FOUND_MS, int(makes_stream), int(notes), event.internal)
        return [keys.events(event.name), *seen, keys.again(event.name)], told

    async def _delay(self, event: Outgoing) -> Any:
        """Let an event be kept until its time, for workers to publish (checkpoint/delayed.py).

        They look at its name then: they are told before it is kept and after, when its time by the server's clock is
        known. Should we die in between and one of them have looked in between, retention tells them.
        """
        member = keys.coded(event.id)
        own = [keys.events(event.name), keys.delayed(event.name), keys.delayed_event(event.name, event.id)]
        own.append(keys.seen(event.name, event.id))
        index, about = keys.delayed_names(), event.at or int(self._wire.now or now_ms()) + event.delay
        await self._wire.call("ZADD", index, "LT", about, event.name)
        fields = _fields(event)
        reply = await self._wire.script(
            _DELAY, own, self._wire.settings.dedupe_ms, member, event.delay, event.at or "", *fields
        )
        if reply[1].startswith(b"@"):
            await self._wire.call("ZADD", index, "LT", int(reply[1][1:]), event.name)
        return reply

    async def _made(self, event: Outgoing, patience: float) -> Any:
        """Append an event to a stream that is new, or was deleted (wiped, or dropped because nobody used it).

        The name is announced before and after: a worker that drops a stream removes its name from the list, and then
        checks whether the stream is there again.
        """
        if self._listeners is not None:
            await self._listeners.restore(event.name, patience)
        await self._announce({event.name}, patience)
        reply = await self._first(event, makes_stream=True)
        await self._announce({event.name}, patience)
        return reply

    async def _again(self, event: Outgoing, since: int, patience: float) -> Stored:
        """Append an event whose first try, at `since` (server ms) or later, may have been applied; makes the stream."""
        fields = _fields(event)
        stream = keys.events(event.name)
        await self._announce({event.name}, patience)
        if event.is_delayed:
            reply = await patiently(lambda: self._delay(event), patience)
        elif event.internal:
            own, arguments = self._receiving(event, makes_stream=True, notes=False)
            reply = await self._wire.lasting_script(_RECEIVE, own, *arguments, *fields, patience=patience)
        elif event.own_id:
            key = [stream, keys.seen(event.name, event.id)]
            reply = await self._wire.lasting_script(
                _PUBLISH, key, self._wire.settings.dedupe_ms, 1, *fields, patience=patience
            )
        else:
            reply = await self._wire.lasting_script(
                _PUBLISH_AGAIN, [stream], since - 60_000, event.id, *fields, patience=patience
            )
        await self._announce({event.name}, patience)
        # "there" may be the entry of our own first try, so it is not reported as a duplicate.
        return self._stored(event, [b"stored", reply[1]])

    def _stored(self, event: Outgoing, reply: Any) -> Stored:
        functions = self._listeners.count(event.name) if self._listeners is not None else None
        cancels = self._listeners.cancels(event.name) if functions == 0 and self._listeners is not None else 0
        self.stored += 1
        if isinstance(reply, bytes):
            return Stored(event.id, reply.decode(), functions=functions, cancels=cancels)
        word, entry = reply
        self.repeated += word == b"there"
        if entry.startswith(b"@"):
            return Stored(event.id, "", word == b"there", functions, int(entry[1:]), cancels)
        return Stored(event.id, entry.decode(), word == b"there", functions, cancels=cancels)


def _left(until: float) -> float:
    """Return how much is left until a moment (monotonic), s."""
    return max(0.0, until - time.monotonic())


def _is_unanswered(error: Exception) -> bool:
    """Whether what was asked may have been done all the same."""
    return isinstance(error, StoreUnavailable) and error.is_unanswered


async def _is_there(reply: Any) -> bool:
    """Return what EXISTS told; it is false where this user may not ask, or Redis did not answer."""
    try:
        return bool(await reply)
    except (StoreUnavailable, StoreError):
        return False


def _fields(event: Outgoing) -> list[Argument]:
    fields: list[Argument] = ["id", event.id, "name", event.name, "data", sealed(event.data)]
    if event.ts is not None:
        fields += ["ts", event.ts]
    if event.v is not None:
        fields += ["v", event.v]
    if event.internal not in ("", event.id):
        fields += ["internal", event.internal]
    if event.trace is not None:
        fields += ["trace", event.trace]
    return fields
