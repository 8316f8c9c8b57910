"""Audit: does every key belong to something that exists, and does all that exists have its keys? Reads every key.

What is looked at changes while it is looked at: only what is seen at two looks, one lease apart, is a fault. Faults of
one run's holder are told apart (checkpoint/upkeep/repair.py), for workers look for those all the time.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.errors import ConfigError, StoreError
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST, partitions
from stepstream.bus.values.matching import value_at
from stepstream.bus.wire import keys, kinds
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.connection.rights import SCAN
from stepstream.bus.wire.streams import fields_of, groups_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import FORMAT, Registered
from stepstream.checkpoint.registry import functions as registered
from stepstream.checkpoint.run.memo import Open, open_of
from stepstream.checkpoint.run.own_event import event_json
from stepstream.checkpoint.run.record import ENDED, read
from stepstream.checkpoint.upkeep.repair import ACTIVE, Unheld
from stepstream.checkpoint.upkeep.repair import repair as give_holder
from stepstream.checkpoint.upkeep.stored_run import StoredRun
from stepstream.checkpoint.waits.event_waits import Wait, is_armed
from stepstream.checkpoint.waits.names import Holder, still_wait
from stepstream.checkpoint.waits.signals import has_signal, is_heard

_PAGE = 200

Command = tuple[Argument, ...]


class Fault(msgspec.Struct, frozen=True):
    """A key and what is wrong with it. `mend` are the commands that repair it; none means that something is lost.

    `wake` is a run that goes on after that: it makes anew what it waits for. A `leftover` is of a worker that died
    between two commands: it is in nobody's way, and goes by itself at its deadline.
    """

    key: str
    words: str
    mend: tuple[Command, ...] = ()
    wake: Unheld | None = None
    leftover: bool = False


async def audit(wire: Wire) -> list[Fault]:
    """Look at every key once; ConfigError when this user may not ask for their names."""
    looker = _Looker(wire, await registered(wire))
    found = await looker.registry()
    async for page in _pages(wire):
        for faults in await asyncio.gather(*(looker.look(key) for key in page)):
            found += faults
    return found


async def standing(wire: Wire) -> list[Fault]:
    """Return the faults seen at two looks, one lease apart."""
    first = await audit(wire)
    if first:
        await asyncio.sleep(wire.settings.lease_ms / 1_000)
    return await still(wire, first)


async def still(wire: Wire, first: Sequence[Fault]) -> list[Fault]:
    """Return those faults of an earlier look that are still there."""
    if not first:
        return []
    again = {(fault.key, fault.words) for fault in await audit(wire)}
    return [fault for fault in first if (fault.key, fault.words) in again]


async def mend(wire: Wire, fault: Fault) -> bool:
    """Repair a fault; False when something is lost and cannot be repaired."""
    for command in fault.mend:
        await wire.call(*command)
    return await give_holder(wire, fault.wake) if fault.wake is not None else bool(fault.mend)


async def _pages(wire: Wire) -> AsyncGenerator[list[str]]:
    cursor: Any = 0
    while True:
        page = await patiently(partial(wire.ask, SCAN, cursor, "MATCH", keys.pattern(), "COUNT", _PAGE))
        if page is None:
            raise ConfigError(
                f"this user may not look at every key ({wire.rights.missing[SCAN]}): SCAN shows the names of all keys "
                "of the server, so it is for a user of its own. Set BUS_REDIS_URL to one with +scan for this command; "
                "the rule for it: docs/operations.md"
            )
        cursor, found = page
        for start in range(0, len(found), _PAGE):
            yield [codec.text(key) for key in found[start : start + _PAGE]]
        if int(cursor) == 0:
            return


class _Looker:
    """Checks keys; one method for each kind."""

    def __init__(self, wire: Wire, known: Sequence[Registered]) -> None:
        self._wire = wire
        self._known = {function.slug: function for function in known}

    async def look(self, key: str) -> list[Fault]:
        """Return what is wrong with a key."""
        kind = kinds.kind_of(key)
        if kind is None:
            return [Fault(key, "is not a key of this bus")]
        name, tag, rest = kind
        looks: dict[str, Callable[[str, str, str], Awaitable[list[Fault]]]] = {
            "events": self._events, "seen": self._passing, "again": self._passing, "rate": self._passing,
            "worker": self._passing, "limit": self._passing,
            "limit_waiting": self._passing, "live": self._passing, "delayed": self._delayed,
            "delayed_event": self._delayed_event, "waits": self._waits, "waits_if": self._waits, "signal": self._signal,
            "signal_lost": self._passing,
            "queue": self._stream, "ends": self._stream, "run": self._run, "steps": self._of_run,
            "open_steps": self._of_run, "log": self._of_run, "attempts": self._of_run,
            "cancels": self._cancels, "timers": self._timers,
            "backlog": self._backlog, "places": self._places, "buffer": self._buffer, "single": self._single,
            "runs": self._runs, "minute": self._passing, "errors": self._passing, "erred": self._passing,
        }  # fmt: skip
        return await looks[name](key, tag, rest) if name in looks else []

    async def registry(self) -> list[Fault]:
        """Return what is missing of what the registry declares: consumer groups, the store's format."""
        found: list[Fault] = []
        if self._known and not await self._ask("EXISTS", keys.meta()):
            found.append(Fault(keys.meta(), "is gone", (("HSETNX", keys.meta(), "format", FORMAT),)))
        for slug, function in self._known.items():
            streams: list[tuple[str, int]] = []
            for where in partitions(slug):
                if await self._is_served(slug, where):
                    streams += [(keys.queue(slug, where), 0), (keys.ends(slug, where), 0)]
            for name in function.events:
                since = await self._ask("HGET", keys.triggers(), f"{slug} {name}")
                if since is None:
                    words = f"lacks when trigger {name} of {slug} was registered: its worker writes it again"
                    found.append(Fault(keys.triggers(), words))
                elif not name.endswith("*"):
                    streams.append((keys.events(name), int(since)))
            for stream, since in streams:
                if slug not in await self._groups(stream):
                    start = f"{since - 1}-{2**64 - 1}" if since else "0"
                    command = ("XGROUP", "CREATE", stream, slug, start, "MKSTREAM")
                    found.append(Fault(stream, f"lacks the consumer group of {slug}", (command,)))
        return found

    async def _is_served(self, slug: str, where: str) -> bool:
        """Whether a worker reads a queue of a function. The first one makes its groups, and they begin at its start."""
        now = await self._wire.clock()
        return bool(await self._ask("ZCOUNT", keys.function_workers(slug, where), now, "+inf"))

    def _ask(self, *command: Argument) -> Awaitable[Any]:
        return self._wire.load(*command)

    async def _groups(self, stream: str) -> set[str]:
        try:
            return set(await groups_of(self._wire, stream))
        except StoreError:  # another key has its name
            return set()

    async def _state(self, slug: str, run: str) -> StoredRun:
        """Return what a run's record says of its state; no status where there is none."""
        [found] = await patiently(lambda: read(self._wire, StoredRun, [(slug, run)]))
        return found or StoredRun(run, slug)

    async def _lives(self, slug: str, run: str) -> bool:
        return (await self._state(slug, run)).lives

    # -- what is shared by all -------------------------------------------------------------------------------------

    async def _passing(self, key: str, _tag: str, _rest: str) -> list[Fault]:
        """A key that is there for a time only."""
        ttl = await self._ask("PTTL", key)
        return [Fault(key, "never expires", (("PEXPIRE", key, 86_400_000),))] if ttl == -1 else []

    async def _events(self, key: str, name: str, _rest: str) -> list[Fault]:
        if await self._ask("ZSCORE", keys.event_names(), name) is not None or not await self._ask("XLEN", key):
            return []
        at = (await self._ask("XRANGE", key, "-", "+", "COUNT", 1))[0][0].decode().partition("-")[0]
        mend = (("ZADD", keys.event_names(), "NX", at, name),)
        return [Fault(key, "is not in the list of event names", mend)]

    async def _delayed(self, key: str, name: str, _rest: str) -> list[Fault]:
        members, found = await self._ask("ZRANGE", key, 0, -1, "WITHSCORES"), list[Fault]()
        for member in map(codec.text, members[::2]):
            if not await self._ask("EXISTS", keys.delayed_event(name, unquote(member))):
                found += [Fault(key, f"lists {member}: that event is lost", (("ZREM", key, member),))]
        if not members or await self._ask("ZSCORE", keys.delayed_names(), name) is not None:
            return found
        mend = (("ZADD", keys.delayed_names(), "LT", members[1], name),)
        return [*found, Fault(keys.delayed_names(), f"lacks {name}, which has delayed events", mend)]

    async def _delayed_event(self, key: str, name: str, member: str) -> list[Fault]:
        due, listed = await self._ask("HGET", key, "due"), await self._ask("ZSCORE", keys.delayed(name), member)
        mend = (("ZADD", keys.delayed(name), due or 0, member), ("ZADD", keys.delayed_names(), "LT", due or 0, name))
        return [Fault(key, "has no time at which it is to be published", mend)] if due and listed is None else []

    async def _waits(self, key: str, name: str, _rest: str) -> list[Fault]:
        by_value = key == keys.waits(name)
        words = await (self._ask("ZRANGE", key, 0, -1) if by_value else self._ask("HKEYS", key))
        found: list[Fault] = []
        for word in words:
            parts = codec.text(word).split("|")
            slug, run, step = parts[1:4] if by_value else parts[:3]
            if not (await still_wait(self._wire, [Holder(*map(unquote, (slug, run, step)))]))[0]:
                command = ("ZREM" if by_value else "HDEL", key, word)
                found.append(Fault(key, f"waits for nobody: {codec.text(word)}", (command,), leftover=True))
        if words and len(found) < len(words) and await self._ask("ZSCORE", keys.waited(), name) is None:
            mend = (("ZADD", keys.waited(), await self._wire.clock() + 366 * 86_400_000, name),)
            found.append(Fault(keys.waited(), f"lacks {name}, which somebody waits for", mend))
        return found

    async def _signal(self, key: str, _name: str, _rest: str) -> list[Fault]:
        word = await self._ask("GET", key)
        if word is None or is_heard(word) or (await still_wait(self._wire, [Holder.of(codec.text(word))]))[0]:
            return []
        return [
            Fault(key, f"is held by {codec.text(word)}, which does not wait for it", (("DEL", key),), leftover=True)
        ]

    async def _stream(self, key: str, slug: str, _rest: str) -> list[Fault]:
        return [] if slug in self._known else [Fault(key, "is of a function that is not registered")]

    # -- runs ------------------------------------------------------------------------------------------------------

    async def _run(self, key: str, slug: str, run: str) -> list[Fault]:
        state = await self._state(slug, run)
        status = state.status
        ttl = await self._ask("PTTL", key)
        if not status:
            return [] if ttl == -2 else [Fault(key, "has no status: a part of it is lost")]
        found: list[Fault] = []
        if await self._ask("ZSCORE", keys.runs(slug, status, run), run) is None:
            mend = (("ZADD", keys.runs(slug, status, run), state.queued, run),)
            found.append(Fault(key, f"is {status}, and not in that index", mend))
        if status in ENDED:
            if ttl == -1:
                command = ("PEXPIRE", key, self._wire.settings.keep_ms)
                found.append(Fault(key, "has ended, and never expires", (command,)))
            return found
        if ttl >= 0:
            found.append(Fault(key, f"is {status}, and expires", (("PERSIST", key),)))
        for word in state.cancels.split("\n"):
            if word and await self._ask("ZSCORE", keys.cancels(slug, run), word) is None:
                mend = (("ZADD", keys.cancels(slug, run), 0, word),)
                found.append(Fault(keys.cancels(slug, run), f"lacks what cancels run {run}: {word}", mend))
        if status == "running":
            found += await self._has_places(slug, run, state.holds)
        if status == "waiting":
            seen = Unheld(slug, run, status, state.turn or "1", state.entry)
            found += await self._has_what_it_waits_for(seen)
        return found

    async def _has_places(self, slug: str, run: str, holds: str) -> list[Fault]:
        found: list[Fault] = []
        for limit_key in holds.split("\n"):
            if limit_key.startswith("c") and await self._ask("ZSCORE", keys.places(slug, limit_key), run) is None:
                mend = (("ZADD", keys.places(slug, limit_key), await self._wire.clock(), run),)
                found.append(Fault(keys.places(slug, limit_key), f"lacks run {run}, which is at work", mend))
            if limit_key.startswith("s:") and await self._ask("EXISTS", keys.single(slug, limit_key)) == 0:
                mend = (("SET", keys.single(slug, limit_key), run, "NX"),)
                found.append(Fault(keys.single(slug, limit_key), f"is gone, and run {run} lives", mend))
        return found

    async def _has_what_it_waits_for(self, seen: Unheld) -> list[Fault]:
        key = keys.open_steps(seen.slug, seen.run)
        opened = fields_of(await self._ask("HGETALL", key))
        state = await self._state(seen.slug, seen.run)
        if not opened and state.started and not state.is_called_anew:
            return [Fault(key, f"is gone: run {seen.run} does not know what it waits for", wake=seen)]
        found: list[Fault] = []
        for step, raw in ((codec.text(name), raw) for name, raw in opened.items()):
            noted = open_of(raw)
            if noted.armed and not await self._is_armed(seen, step, noted):
                again = codec.encode(msgspec.structs.replace(noted, armed=False))
                words = f"step {step} of run {seen.run} waits, and nobody knows: the {noted.kind} it waits for is gone"
                found.append(Fault(key, words, (("HSET", key, step, again),), wake=seen))
        return found

    async def _is_armed(self, seen: Unheld, step: str, noted: Open) -> bool:
        what: dict[str, str] = codec.decode(noted.what) or {}
        if noted.kind == "signal":
            return await patiently(lambda: has_signal(self._wire, what["signal"], Holder(seen.slug, seen.run, step)))
        if noted.kind == "event":
            match = what.get("match", "")
            with contextlib.suppress(CannotOpen):  # then nobody here can tell
                own = (await event_json(self._wire, seen.slug, seen.run) if match else None) or {}
                value = (value_at(match, own) or b"") if match else b""
                wait = Wait(what["event"], seen.slug, seen.run, step, noted.due or 0, match, value, what.get("if", ""))
                return await is_armed(self._wire, wait)
        if noted.kind == "invoke" and "run" in what:
            return await self._is_called(what["function"], what["run"])
        return True

    async def _is_called(self, slug: str, run: str) -> bool:
        """Whether a call goes on: its run lives, has yet to begin, or its end has yet to be told."""
        if await self._lives(slug, run):
            return True
        return run in await self._runs_in(keys.queue(slug, run)) or run in await self._runs_in(keys.ends(slug, run))

    async def _runs_in(self, stream: str) -> set[str]:
        try:
            rows = await self._ask("XRANGE", stream, "-", "+")
        except StoreError:
            return set()
        return {codec.text(fields_of(flat).get(b"run", b"")) for _, flat in rows}

    async def _of_run(self, key: str, slug: str, run: str) -> list[Fault]:
        status = (await self._state(slug, run)).status
        if not status:
            if run in await self._runs_in(keys.queue(slug, run)):  # to be run again: it has yet to begin
                return []
            return [Fault(key, "belongs to no run", (("UNLINK", key),))]
        ttl, is_open = await self._ask("PTTL", key), key == keys.open_steps(slug, run)
        if status not in ENDED:
            return [Fault(key, f"expires, and its run is {status}", (("PERSIST", key),))] if ttl >= 0 else []
        if is_open and ttl != -2:
            return [Fault(key, "is open, and its run has ended", (("UNLINK", key),))]
        command = ("PEXPIRE", key, self._wire.settings.keep_ms)
        return [Fault(key, "never expires, and its run has ended", (command,))] if ttl == -1 else []

    async def _runs(self, key: str, slug: str, status: str) -> list[Fault]:
        found: list[Fault] = []
        for run in map(codec.text, await self._ask("ZRANGE", key, 0, -1)):
            real = (await self._state(slug, run)).status
            if real != status and (real or status in ACTIVE):
                words = f"lists {run}, whose record is gone: it is lost" if not real else f"lists {run}: it is {real}"
                found.append(Fault(key, words, (("ZREM", key, run),)))
        return found

    # -- what a function has for its runs --------------------------------------------------------------------------

    async def _cancels(self, key: str, slug: str, _rest: str) -> list[Fault]:
        found: list[Fault] = []
        for word in map(codec.text, await self._ask("ZRANGE", key, 0, -1)):
            run = word.split("|")[-2] if word.count("|") > 1 else ""
            if not await self._lives(slug, run):
                found.append(Fault(key, f"cancels no run that lives: {word}", (("ZREM", key, word),)))
        return found

    async def _timers(self, key: str, slug: str, _rest: str) -> list[Fault]:
        found: list[Fault] = []
        for member in map(codec.text, await self._ask("ZRANGE", key, 0, -1)):
            kind, bar, name = member.partition("|")
            if bar and kind == "buffer" and not await self._ask("EXISTS", keys.buffer(slug, name)):
                words = f"has a timer of a buffer that is gone, with the events in it: {name}"
                found.append(Fault(key, words, (("ZREM", key, member),)))
            elif not bar:
                run, _, turn = member.rpartition(":")
                state = await self._state(slug, run)
                if (state.status, state.turn) != ("waiting", turn):
                    found.append(Fault(key, f"wakes no run that waits: {member}", (("ZREM", key, member),)))
        return found

    async def _backlog(self, key: str, slug: str, limit_key: str) -> list[Fault]:
        line = await self._ask("ZRANGE", key, 0, -1, "WITHSCORES")
        found: list[Fault] = []
        for run in map(codec.text, line[::2]):
            state = await self._state(slug, run)
            if (state.status, state.entry) != ("queued", f"backlog|{limit_key}"):
                words = f"holds a place in line for {run}, which is not in it"
                found.append(Fault(key, words, (("ZREM", key, run),)))
        tried = [await self._ask("ZSCORE", index, limit_key) for index in (keys.ready(slug), keys.full(slug))]
        if line and tried == [None, None]:
            found.append(Fault(key, "is tried by nobody", (("ZADD", keys.ready(slug), line[1], limit_key),)))
        return found

    async def _places(self, key: str, slug: str, _limit_key: str) -> list[Fault]:
        found: list[Fault] = []
        for run in map(codec.text, await self._ask("ZRANGE", key, 0, -1)):
            state = await self._state(slug, run)
            if state.status != "running" and not (state.status == "queued" and state.entry.startswith("queue|")):
                found.append(Fault(key, f"is held by {run}, which is {state.status or 'gone'}", (("ZREM", key, run),)))
        return found

    async def _buffer(self, key: str, slug: str, name: str) -> list[Fault]:
        if await self._ask("ZSCORE", keys.timers(slug, FIRST), f"buffer|{name}") is not None or not await self._ask(
            "EXISTS", key
        ):
            return []
        mend = (("ZADD", keys.timers(slug, FIRST), await self._wire.clock(), f"buffer|{name}"),)
        return [Fault(key, "has no timer", mend)]

    async def _single(self, key: str, slug: str, _name: str) -> list[Fault]:
        run = codec.text(await self._ask("GET", key) or b"")
        if await self._lives(slug, run):
            return []
        return [Fault(key, f"is held by {run}, which does not live", (("DEL", key),))]
