"""Registering by who publishes: nothing is lost that is published before the first worker, and it is known who listens.

A worker declares its functions whole (checkpoint/registry.py). A process that has loaded an app, and only publishes,
adds before its first event what nobody has declared: functions, since when their triggers are, and their groups, in
which events wait. It replaces nothing, so an old web process takes nothing back that a new worker has declared.
"""

import asyncio
import contextlib
import contextvars
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import msgspec
from msgspec.structs import force_setattr

from stepstream.bus.errors import RightMissing, StoreError
from stepstream.bus.function import Function
from stepstream.bus.limits.told import LimitTold, read_words
from stepstream.bus.observe.log import some_of
from stepstream.bus.trigger import Trigger, covers
from stepstream.bus.values import codec
from stepstream.bus.values.dialect import of_sdk
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.connection.rights import Right
from stepstream.bus.wire.streams import MAKE_GROUP, fields_of
from stepstream.bus.wire.types.own import first_fields
from stepstream.bus.wire.wire import Wire

R = TypeVar("R")

FORMAT = 3
"""The store's format. A worker refuses any other: what an entry, a run or a memo says is read in one way only."""

FRESH_S = 5.0
"""How long the registry is believed that was read last."""
ZERO_FRESH_S = 0.25
"""How long it is believed that nobody listens to a name: a worker may have begun since."""
AGAIN_S = 60.0
"""How soon what this user may not do is tried again."""
_MOST_COVERED = 10_000
_LOST = "what is published before their first worker has started is lost to them"
_READ = Right(
    ("HGETALL",),
    f"it is not seen who listens to an event, and functions are not registered by who publishes: {_LOST}",
    "+hgetall ~<prefix>:functions",
)
_WRITE = Right(
    ("HSETNX",),
    f"functions are not registered by who publishes: {_LOST}",
    "+hsetnx +hget +xgroup ~<prefix>:meta ~<prefix>:functions ~<prefix>:triggers",
)
_WRITE_TYPES = Right(
    ("HSETNX",),
    "the types of events are not registered by who publishes: until a worker is up, other processes check nothing",
    "+hsetnx ~<prefix>:types",
)


class Registered(msgspec.Struct, frozen=True):
    """A function as the registry knows it: what pages and commands show without having loaded the app."""

    bus: str
    id: str
    name: str
    slug: str
    on: tuple[str, ...]
    events: tuple[str, ...]
    retries: int
    code: str
    flow: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    """The names of the events that cancel its runs."""
    remote: bool = False
    """Whether it is one of an application behind HTTP."""
    limits: tuple[LimitTold, ...] = ()
    """What `flow` says in words."""
    conditions: dict[str, str] = {}
    """What `on` says in words: the event names of triggers that have a condition, and that (CEL, or of an SDK)."""
    waits: str = ""
    """How long a step that has failed waits for each of its `retries`, in words, with what chance adds."""
    timeouts: tuple[str, ...] = ()
    """How long a run may take, in words."""
    on_failure: str = ""
    """The slug of the function that runs when a run of this one has failed."""

    def __post_init__(self) -> None:
        """Read from the words what an older version has registered without the fields."""
        if not self.limits and self.flow:
            force_setattr(self, "limits", read_words(self.flow))
        if not self.conditions:
            force_setattr(self, "conditions", self._read_conditions())

    def _read_conditions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in self.events:
            text = next((one.removeprefix(f"{name} if ") for one in self.on if one.startswith(f"{name} if ")), None)
            if text is not None:
                found[name] = of_sdk(text) if self.remote else text
        return found

    @property
    def in_words(self) -> tuple[str, ...]:
        """Its options in words: limits, how often a step is tried, how long a run may take, what ends or follows it."""
        times, waits = self.retries + 1, f": {self.waits}" if self.waits else ""
        tries = "a step that fails is not tried again" if times == 1 else f"a step that fails is tried {times} times"
        failed = (f"when a run has failed, {self.on_failure} runs",) if self.on_failure else ()
        cancels = (f"{name} cancels its runs" for name in self.cancels)
        return (*self.flow, f"{tries}{waits if times > 1 else ''}", *self.timeouts, *cancels, *failed)

    @property
    def owner(self) -> str:
        """Who has declared it, for people and to compare: no other may."""
        return f"the application behind HTTP '{self.bus}'" if self.remote else f"bus '{self.bus}'"


def declaration(function: Function[Any, Any]) -> Registered:
    """Return what the registry is told of a function."""
    return Registered(
        bus=function.bus_id,
        id=function.id,
        name=function.name,
        slug=function.slug,
        on=tuple(one.text for one in (*function.triggers, *function.crons)),
        events=tuple(trigger.name for trigger in function.triggers),
        retries=function.retry.retries,
        code=function.code,
        flow=function.flow.texts,
        cancels=tuple(one.name for one in function.cancel_on),
        remote=function.is_remote,
        limits=function.flow.told,
        conditions={one.name: one.condition.marked for one in function.triggers if one.condition is not None},
        waits=function.retry.words,
        timeouts=function.timeouts.texts,
        on_failure=function.failure.slug if function.failure is not None else "",
    )


async def trigger_since(wire: Wire, slug: str, trigger: Trigger, now: int) -> int:
    """Return since when a trigger is one, ms: since `now`, which is noted, unless another moment is."""
    field = f"{slug} {trigger.name}"
    await wire.call("HSETNX", keys.triggers(), field, now)
    return int(await wire.call("HGET", keys.triggers(), field))


class _Declared(msgspec.Struct, frozen=True):
    """What is asked of a registered function here."""

    bus: str
    events: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    remote: bool = False


class _Waits(msgspec.Struct, frozen=True):
    """A function's events wait for it from a moment on, ms; 0: from the first that is there."""

    slug: str
    trigger: Trigger
    since: int


class _Refused(Exception):
    """This user may not do that, or what lies there is none of ours: it is told once, and publishing goes on."""


class Listeners:
    """The functions that start on an event: those this process has loaded, which it registers, and how many there are.

    `loaded` are the functions of each bus by their ids; one that is declared later is registered then. The registry is
    read at the first event, and then every five seconds in which events are published, not at each event.
    """

    def __init__(self, wire: Wire, loaded: Sequence[Mapping[str, Function[Any, Any]]] = ()) -> None:
        self._wire = wire
        self._loaded = loaded
        self._registered = self._tried = 0
        """How many functions were loaded when they were registered last, and when that was tried last."""
        self._looks: asyncio.Task[None] | None = None
        self._read_at = self._due = 0.0
        """When the registry was read last, and when it is to be read again; monotonic, s."""
        self._is_known = False
        self._exact = Counter[str]()
        self._cancels = Counter[str]()
        self._patterns: list[str] = []
        self._counts: dict[str, int] = {}
        self._own_patterns: list[_Waits] = []
        self._covered: set[str] = set()
        self._told: set[str] = set()

    async def get_ready(self, names: AbstractSet[str], patience: float) -> None:
        """Before events of these names are published: register, and read the registry, where either is due.

        StoreUnavailable when Redis did not answer within `patience` seconds.
        """
        if self._is_due(names):
            if self._looks is None:  # all that publish meanwhile wait for one look, whoever of them is cancelled
                work = self._look(patience)
                self._looks = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
                self._looks.add_done_callback(self._looked)
            await self._wire.within(patience, asyncio.shield(self._looks))
        if self._own_patterns and not names <= self._covered:
            with self._telling_refusals():
                await self._wire.within(patience, self._cover(names - self._covered, patience))

    def count(self, name: str) -> int | None:
        """Return how many functions start on an event of this name; None when this user may not see it."""
        if not self._is_known:
            return None
        count = self._counts.get(name)
        if count is None:
            of_patterns = sum(covers(pattern, name) for pattern in self._patterns)
            count = self._counts[name] = self._exact[name] + of_patterns
        return count

    def cancels(self, name: str) -> int:
        """Return of how many functions an event of this name may cancel runs (`cancel_on`)."""
        return self._cancels[name]

    async def restore(self, name: str, patience: float) -> None:
        """The stream of a name is not there: if a function of this process listens to it, all may have been deleted."""
        if any(trigger.covers(name) for one in self._functions for trigger in one.triggers):
            self._due, self._registered = 0.0, -1
            self._covered.clear()
            await self.get_ready({name}, patience)

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def _functions(self) -> list[Function[Any, Any]]:
        return [function for of_bus in self._loaded for function in of_bus.values()]

    @property
    def _number(self) -> int:
        return sum(map(len, self._loaded))

    def _is_due(self, names: AbstractSet[str]) -> bool:
        now = time.monotonic()
        if now >= self._due or self._tried != self._number:
            return True
        return self._is_known and now >= self._read_at + ZERO_FRESH_S and not all(map(self.count, names))

    def _looked(self, looks: asyncio.Task[None]) -> None:
        self._looks = None
        if not looks.cancelled():
            looks.exception()  # told to those who waited

    async def _look(self, patience: float) -> None:
        begun, number, fresh_s = time.monotonic(), self._number, AGAIN_S
        with self._telling_refusals():
            stored = fields_of(await self._may(_READ, keys.functions(), patience=patience))
            self._understand(stored)
            if self._registered != number:
                self._understand(stored | await self._register(stored, patience))
                self._registered = number
            fresh_s = FRESH_S
        self._tried, self._read_at, self._due = number, begun, begun + fresh_s

    def _understand(self, stored: Mapping[bytes, bytes]) -> None:
        """Keep how many functions start on each name."""
        known = [_declared(raw) for raw in stored.values()]
        names = [name for one in known for name in one.events]
        self._cancels = Counter(name for one in known for name in one.cancels)
        self._exact = Counter(name for name in names if not name.endswith("*"))
        self._patterns = [name for name in names if name.endswith("*")]
        self._counts, self._is_known = {}, True

    # -- registering ------------------------------------------------------------------------------------------------

    async def _register(self, stored: Mapping[bytes, bytes], patience: float) -> dict[bytes, bytes]:
        """Declare the functions that nobody has declared, and return them, after all that lets them lose nothing."""
        functions = [one for one in self._functions if self._is_ours(one, stored)]
        if not functions:
            return {}
        call = self._wire.call
        await self._may(_WRITE, keys.meta(), "format", FORMAT, patience=patience)
        found = await _asked(lambda: call("HGET", keys.meta(), "format"), patience)
        if found != str(FORMAT).encode():
            raise _Refused(f"this Redis holds format {codec.text(found)}, this Stepstream knows {FORMAT}")
        self._own_patterns = []
        now = await patiently(self._wire.moment, patience)
        await asyncio.gather(*(self._begin(one, trigger, now, patience)
                               for one in functions for trigger in one.triggers))  # fmt: skip
        if self._own_patterns:
            published = await _asked(lambda: call("ZRANGE", keys.event_names(), 0, -1), patience)
            await self._cover(set(map(codec.text, published)), patience)
        new = {one.slug.encode(): codec.encode(declaration(one)) for one in functions}
        new = {slug: declared for slug, declared in new.items() if slug not in stored}
        await self._register_types([one for one in functions if one.slug.encode() in new], patience)
        await asyncio.gather(*(_asked(lambda slug=slug: call("HSETNX", keys.functions(), slug, new[slug]), patience)
                               for slug in new))  # fmt: skip
        if new:
            self._wire.notice(
                "no worker has declared these functions yet: events wait for them for 7 days, until one works on them",
                functions=some_of([slug.decode() for slug in new]),
            )
        return new

    async def _register_types(self, functions: Sequence[Function[Any, Any]], patience: float) -> None:
        """Declare the types of new functions, where nobody has declared one for the name: whoever publishes checks."""
        fields: dict[str, bytes] = {}
        now = await patiently(self._wire.clock, patience) if functions else 0
        for bus in {one.bus_id for one in functions}:
            for name, field in first_fields([one for one in functions if one.bus_id == bus], now).items():
                fields.setdefault(name, field)
        for name, field in fields.items():
            args = (keys.types(), name, field)
            if await patiently(lambda args=args: self._wire.ask(_WRITE_TYPES, *args), patience) is None:
                return

    def _is_ours(self, function: Function[Any, Any], stored: Mapping[bytes, bytes]) -> bool:
        raw = stored.get(function.slug.encode())
        known = None if raw is None else _declared(raw)
        owner = function.bus_id if known is None else known.bus
        is_ours = known is None or (owner == function.bus_id and known.remote == function.is_remote)
        if not is_ours:
            self._tell(
                "a function belongs to another bus already; rename this bus or the function",
                function=function.slug,
                belongs_to=owner,
            )
        return is_ours

    async def _begin(self, function: Function[Any, Any], trigger: Trigger, now: int, patience: float) -> None:
        """Note since when a trigger is one, unless it is noted, and let its events wait from then on."""
        since = await _asked(lambda: trigger_since(self._wire, function.slug, trigger, now), patience)
        begins = _Waits(function.slug, trigger, 0 if trigger.from_start else since)
        if trigger.is_pattern:
            self._own_patterns.append(begins)
        else:
            await self._make_group(begins, trigger.name, patience)

    async def _cover(self, names: AbstractSet[str], patience: float) -> None:
        """Let the events of names wait for the wildcards that mean them."""
        groups = [(own, name) for own in self._own_patterns for name in names if own.trigger.covers(name)]
        await asyncio.gather(*(self._make_group(own, name, patience) for own, name in groups))
        if len(self._covered) + len(names) > _MOST_COVERED:
            self._covered.clear()
        self._covered |= names

    async def _make_group(self, begins: _Waits, name: str, patience: float) -> None:
        stream = [keys.events(name)]
        await _asked(lambda: self._wire.script(MAKE_GROUP, stream, begins.slug, begins.since), patience)

    # -- telling ----------------------------------------------------------------------------------------------------

    async def _may(self, right: Right, *arguments: Argument, patience: float) -> Any:
        """Return the reply; _Refused when it is refused, which the connection has told."""
        reply = await patiently(lambda: self._wire.ask(right, *arguments), patience)
        if reply is None:
            raise _Refused
        return reply

    @contextlib.contextmanager
    def _telling_refusals(self) -> Generator[None]:
        try:
            yield
        except _Refused as refused:
            if str(refused):
                self._tell(f"this process does not register its functions: {_LOST}", error=str(refused))

    def _tell(self, event: str, **fields: object) -> None:
        """Report something once."""
        if event not in self._told:
            self._told.add(event)
            self._wire.notice(event, **fields)


def _declared(raw: bytes) -> _Declared:
    return codec.stored_as(raw, _Declared) or _Declared("")


async def _asked(call: Callable[[], Awaitable[R]], patience: float) -> R:
    """Return the reply; _Refused when it is refused for good, or until somebody gives this user the right."""

    async def once() -> R:
        try:
            return await call()
        except (RightMissing, StoreError) as error:
            raise _Refused(str(error)) from None

    return await patiently(once, patience)
