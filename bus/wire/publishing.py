"""Publishing: append events to the streams of their names, so that a lost reply or a lost stream loses none."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.errors import ScriptMissing, StoreError, StoreUnavailable
from stepstream.bus.event import Outgoing
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.type_check import KindsOf, TypeCheck, no_kinds
from stepstream.bus.wire.wire import Wire

PATIENCE_S = 10.0
"""How long a publisher waits for Redis before it raises."""

_ANNOUNCE_EVERY_S = 5.0
"""How often a publisher announces a name it still uses: the list of names may be lost, and nobody else knows."""

_MOST_KNOWN = 10_000

_PUBLISH = script(__file__, "event_publish")
_PUBLISH_AGAIN = script(__file__, "event_publish_again")


class Stored(msgspec.Struct, frozen=True):
    """A published event: its id, its stream entry, and whether it had been stored before."""

    id: str
    entry: str
    duplicate: bool = False
    functions: int | None = None
    """How many functions start on it, as far as the publisher has seen lately; None when it may not see that."""


class Sent(str):
    """The id of an event that is stored: text, that also tells how many functions start on the event."""

    __slots__ = ("functions",)
    functions: int | None
    """0: nobody listens to its name. None: this process may not see that."""

    @classmethod
    def of(cls, stored: Stored) -> "Sent":
        """Return what the sender is told of a stored event."""
        sent = cls(stored.id)
        sent.functions = stored.functions
        return sent


class PublishFailed(StoreUnavailable):
    """Redis failed half-way through several events. Those in `stored` are stored; it is safe to repeat all of them."""

    def __init__(self, stored: list[Stored], error: StoreUnavailable) -> None:
        self.stored = stored
        super().__init__(str(error), state=error.state)


class Publisher:
    """Appends events. A retry after a lost reply looks for the event before it adds."""

    def __init__(self, wire: Wire, kinds_of: KindsOf = no_kinds, listeners: Listeners | None = None) -> None:
        """Make a publisher; `kinds_of` returns the types that the functions of this process give to a name.

        `listeners` are registered before the first event, and counted; without them neither is done.
        """
        self._wire = wire
        self._types = TypeCheck(kinds_of)
        self._listeners = listeners
        self._known: dict[str, float] = {}
        """Until when (monotonic, s) each name need not be announced again."""

    async def publish(self, events: Sequence[Outgoing], patience: float | None = None) -> list[Stored]:
        """Store events, all in one write; PublishFailed, with those stored, when Redis stays away for `patience` s.

        EventInvalid, and nothing is stored, when one of them does not fit the type that its name has.
        """
        self._types.check(events)
        patience = PATIENCE_S if patience is None else patience
        stored: list[Stored] = []
        failure: StoreUnavailable | StoreError | None = None
        try:
            names, now, known = {event.name for event in events}, time.monotonic(), self._known
            if self._listeners is not None:
                await self._listeners.get_ready(names, patience)
            await self._announce({name for name in names if known.get(name, 0.0) < now}, patience)
        except StoreUnavailable as error:
            raise PublishFailed(stored, error) from None
        calls = [self._first(event) for event in events]
        started: int | None = None
        for event, call in zip(events, calls, strict=True):  # every reply is read, also after one has failed
            try:
                stored.append(self._stored(event, await call or await self._made(event, patience)))
            except (ScriptMissing, StoreUnavailable) as error:
                if failure is not None:
                    continue
                try:
                    # A server that lacks the script has stored nothing.
                    if started is None and not isinstance(error, ScriptMissing):
                        started = await patiently(self._wire.clock, patience)
                    stored.append(await self._again(event, started or 0, patience))
                except (StoreUnavailable, StoreError) as still:
                    failure = still
            except StoreError as error:
                failure = error
        reached("publish.sent")
        if isinstance(failure, StoreUnavailable):
            raise PublishFailed(stored, failure)
        if failure is not None:
            raise failure
        return stored

    async def _announce(self, names: set[str], patience: float) -> None:
        """Write names to the list before their first event, so that no function misses it; and again, if it is lost."""
        if not names:
            return
        if len(self._known) + len(names) > _MOST_KNOWN:
            self._known.clear()
        for part in parts(sorted(names), width=2):
            pairs: list[Argument] = [one for name in part for one in (self._wire.now or now_ms(), name)]
            await patiently(lambda part=pairs: self._wire.call("ZADD", keys.event_names(), "NX", *part), patience)
        self._known |= dict.fromkeys(names, time.monotonic() + _ANNOUNCE_EVERY_S)

    def _first(self, event: Outgoing, *, makes_stream: bool = False) -> Any:
        """Append an event; the reply is empty when there is no stream and `makes_stream` is false."""
        fields = _fields(event)
        if not event.own_id:
            stream = keys.events(event.name)
            if makes_stream:
                return self._wire.call("XADD", stream, "*", *fields)
            return self._wire.call("XADD", stream, "NOMKSTREAM", "*", *fields)
        stream, seen = keys.events(event.name), keys.seen(event.name, event.id)
        dedupe = self._wire.settings.dedupe_ms
        return self._wire.call(
            "EVALSHA", _PUBLISH.sha, 2, stream, seen, self._wire.now, dedupe, int(makes_stream), *fields
        )

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
        if event.own_id:
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
        return self._stored(event, reply[1])

    def _stored(self, event: Outgoing, reply: Any) -> Stored:
        functions = self._listeners.count(event.name) if self._listeners is not None else None
        if isinstance(reply, bytes):
            return Stored(event.id, reply.decode(), functions=functions)
        word, entry = reply
        return Stored(event.id, entry.decode(), word == b"there", functions)


def _fields(event: Outgoing) -> list[Argument]:
    fields: list[Argument] = ["id", event.id, "name", event.name, "data", event.data]
    if event.ts is not None:
        fields += ["ts", event.ts]
    if event.v is not None:
        fields += ["v", event.v]
    return fields
