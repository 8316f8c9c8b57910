"""Type check: does the data of events fit the types that their names have? Asked before anything is stored.

A process that has a type checks with it. For a name that it has no type of, it checks by the JSON Schemas that workers
have declared. They are read with the first event of a name, and every 5 s of use again, beside what is published then:
nobody waits for that. An event is refused only by what was read within the last second: whatever seems not to fit is
looked up again. If the schemas cannot be read, the event is published unchecked, which is told of once; whatever fits
no type then is refused by the function that gets it.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from stepstream.bus.errors import EventInvalid, StoreUnavailable
from stepstream.bus.event import Outgoing
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.fitting import misfit
from stepstream.bus.values.schemas import schema_of
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.rights import Right
from stepstream.bus.wire.types.declared import Declared, declared
from stepstream.bus.wire.wire import Wire

KindsOf = Callable[[str], Sequence[type[Any]]]

_READ_EVERY_S = 5.0
_FRESH_S = 1.0
_MOST_KNOWN = 10_000
_READ = Right(
    ("HMGET",),
    "what this process has no type of is published unchecked: functions refuse what does not fit",
    "+hmget ~<prefix>:types",
)


def no_kinds(_: str) -> Sequence[type[Any]]:
    """Return no types: this process has no application."""
    return ()


class _Read(NamedTuple):
    """What was read of a name, and when (monotonic, s)."""

    at: float
    types: tuple[Declared, ...]


class TypeCheck:
    """Checks events for one publisher; `kinds_of` returns the types that this process's functions give a name."""

    def __init__(self, wire: Wire, kinds_of: KindsOf = no_kinds) -> None:
        self._wire = wire
        self._kinds_of = kinds_of
        self._read: dict[str, _Read] = {}
        self._looking_for: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self, events: Sequence[Outgoing], patience: float) -> None:
        """Raise EventInvalid for the first event whose data fits no type of its name.

        StoreUnavailable when Redis, which has to be asked, has not answered within `patience` seconds.
        """
        now = time.monotonic()
        unsure: list[tuple[int, Outgoing]] = []
        stale: set[str] = set()
        for position, event in enumerate(events):
            name = event.name
            kinds = self._kinds_of(name)
            if kinds:
                if event.misfit(kinds) is not None:
                    unsure.append((position, event))
                continue
            read = self._read.get(name)
            if read is None or (read.types and self._wrong(event) is not None):
                unsure.append((position, event))
            elif now - read.at > _READ_EVERY_S:
                stale.add(name)
        if stale:
            self._look_beside(stale)
        if unsure:
            await self._check_again(unsure, now, patience, several=len(events) > 1)

    async def _check_again(
        self, unsure: Sequence[tuple[int, Outgoing]], now: float, patience: float, *, several: bool
    ) -> None:
        """Refuse those that do not fit what was read just now."""
        names = {event.name for _, event in unsure}
        old = {name for name in names if (read := self._read.get(name)) is None or now - read.at > _FRESH_S}
        if old:
            await self._wire.within(patience, self._look(old))
        for position, event in unsure:
            wrong = self._wrong(event)
            if wrong is not None:
                raise wrong.at(position) if several else wrong

    def _wrong(self, event: Outgoing) -> EventInvalid | None:
        """Return why an event fits no type that is known of its name, here or by schema."""
        kinds = self._kinds_of(event.name)
        read = self._read.get(event.name)
        own = {schema_of(kind).hash for kind in kinds}
        others = [one for one in read.types if one.hash not in own] if read is not None else []
        found = event.misfit(kinds)
        if (kinds and found is None) or not others:
            return found
        try:
            value = codec.decode(event.data)
        except msgspec.DecodeError:
            return found
        for one in others:
            wrong = misfit(one.schema, value)
            if wrong is None:
                return None
            found = found or wrong
        return found

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _look(self, names: Collection[str]) -> None:
        """Read the types of names; what may not be read is taken for free, which is told of once."""
        try:
            for part in parts(sorted(names)):
                self._took(part, await self._wire.ask(_READ, keys.types(), *part) or [None] * len(part))
        except StoreUnavailable:
            return  # then the event is not stored either, or Redis has come back: it is checked by whom it reaches

    def _look_beside(self, names: set[str]) -> None:
        """Read the types of names again, without waiting for them."""
        names -= self._looking_for
        if not names:
            return
        self._looking_for |= names
        task = asyncio.get_running_loop().create_task(self._look(names), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(partial(self._looked, names))

    def _looked(self, names: set[str], task: asyncio.Task[None]) -> None:
        self._looking_for -= names
        self._tasks.discard(task)

    def _took(self, names: Sequence[str], replies: Sequence[bytes | None]) -> None:
        if len(self._read) + len(names) > _MOST_KNOWN:
            self._read.clear()
        at, now = time.monotonic(), now_ms()
        for name, raw in zip(names, replies, strict=True):
            self._read[name] = _Read(at, declared(raw, now))
