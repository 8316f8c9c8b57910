"""Feed: what changed, for all pages that are open: one look at Redis a second for all of them, none while nobody looks.

A page holds one connection, `GET /live`, and asks for its fragment when it is told that something of it changed. Those
who ask for the same fragment between two changes share one reading of it, so a hundred cost Redis what one costs. What
a page shares with no other it reads in its turn (web/live/turns.py).

The hub of live messages (checkpoint/live/hub.py) also serves many by one connection, and shares its errors with this,
but nothing else: it blocks on streams that keep what was said, and this looks for changes that no stream tells.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec

from stepstream.bus.errors import BadRequest, BusError, StoreUnavailable
from stepstream.bus.wire.connection.retry import Tries
from stepstream.bus.wire.spoilt import spoilt_told
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.hub import Crowded, Ended
from stepstream.checkpoint.read.lists.pulse import pulses_of_functions, pulses_of_operations, pulses_of_runs
from stepstream.checkpoint.registry import slugs
from stepstream.web.live.journal import Journal
from stepstream.web.live.turns import Turns

T = TypeVar("T")

EVERY_S = 1.0
"""How often is looked while somebody does."""
TICK_S = 5.0
"""How often each page is told to look again although nothing of it is known to have changed: time has passed."""
_MOST_WATCHERS = 2_000
_SHARE = 0.02
"""How much of the time may go by with looking: with very many functions it is looked less often."""
_RAREST_S = 30.0
"""But at least so often."""
_MOST_READS = 500
ALONE = 4
"""How many pages read between two changes what they share with no other."""


class Topic(NamedTuple):
    """What a page is about: a run of a function, a function, an operation, or (without any) all functions."""

    slug: str = ""
    run: str = ""
    operation: str = ""

    @property
    def text(self) -> str:
        """As a page asks for it: `all`, `fn:SLUG`, `run:ID:SLUG`, `op:ID`."""
        if self.operation:
            return f"op:{self.operation}"
        return f"run:{self.run}:{self.slug}" if self.run else f"fn:{self.slug}" if self.slug else "all"


ALL = Topic()


def topic_of(text: str) -> Topic:
    """Return the topic that a page asks for; BadRequest for a text that names none."""
    kind, _, rest = text.partition(":")
    if text == "all":
        return ALL
    if kind == "fn" and rest:
        return Topic(rest)
    if kind == "op" and rest:
        return Topic(operation=rest)
    run, _, slug = rest.partition(":")
    if kind == "run" and run and slug:
        return Topic(slug, run)
    raise BadRequest(f"of must be all, fn:SLUG, run:ID:SLUG or op:ID, got {text[:60]!r}")


class Notice(msgspec.Struct, frozen=True):
    """What a page is told. With neither it shall look again as well: time has passed."""

    changed: list[str] = []
    """The slugs of functions of which something changed."""
    error: str = ""
    """Why it cannot be looked; empty when it can."""


class Watcher:
    """One open page: `await next()` until it raises. One that is slow gets in one notice what came meanwhile."""

    def __init__(self, topic: Topic, *, reads_journal: bool = False) -> None:
        self.topic = topic
        self.reads_journal = reads_journal
        self._changed: set[str] = set()
        self._error = ""
        self._ended: Ended | None = None
        self._come = asyncio.Event()

    async def next(self) -> Notice:
        """Return the next notice; Ended when the process stops."""
        await self._come.wait()
        if self._ended is not None:
            raise self._ended
        self._come.clear()
        notice = Notice(sorted(self._changed), self._error)
        self._changed.clear()
        return notice

    def tell(self, changed: Iterable[str] = (), error: str = "") -> None:
        """Let it have a notice."""
        self._changed.update(changed)
        self._error = error
        self._come.set()

    def end(self, ended: Ended) -> None:
        """Let it hear that the process stops."""
        self._ended = ended
        self._come.set()


def pause_of(took: float, before: float) -> float:
    """Return how long is not looked after a look that took so long, and the one before so long, s.

    One alone that took long waited for Redis, and says nothing of the next: who stopped for four seconds would else
    not be looked at for three minutes.
    """
    return min(_RAREST_S, max(EVERY_S, min(took, before) / _SHARE))


class Feed:
    """Looks for all watchers of one connection to Redis, while there are any."""

    def __init__(self, wire: Wire) -> None:
        self.journal = Journal()
        self._wire = wire
        self._watchers: set[Watcher] = set()
        self._words: dict[Topic, bytes] = {}
        self._reads: dict[Hashable, asyncio.Task[Any]] = {}
        self._turns = Turns(ALONE)
        self._looking: asyncio.Task[None] | None = None
        self._error = ""
        self._ended: Ended | None = None

    @asynccontextmanager
    async def watch(self, topic: Topic, *, reads_journal: bool = False) -> AsyncGenerator[Watcher]:
        """Watch a topic; who reads the journal is told as well when that begins. Crowded when too many watch."""
        if len(self._watchers) >= _MOST_WATCHERS:
            raise Crowded(f"{_MOST_WATCHERS} pages are open in this process already: close some, or try another")
        watcher = Watcher(topic, reads_journal=reads_journal)
        self._watchers.add(watcher)
        if self._ended is not None:
            watcher.end(self._ended)
        elif self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_on(), context=contextvars.Context())
        elif self._error:
            watcher.tell(error=self._error)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._close()

    async def read_once(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `read` reads; who asks for the same before the next change gets the same, and nothing is read."""
        found = self._reads.get(key)
        if found is None:
            if not self._watchers or len(self._reads) >= _MOST_READS:
                return await read()
            found = self._reads[key] = asyncio.get_running_loop().create_task(read())
            found.add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody waits any more
        return await asyncio.shield(found)

    def has_turn(self, who: Hashable) -> bool:
        """Whether a page may read now what it shares with no other: a few may between two changes, each in its turn."""
        return not self._watchers or self._turns.has(who)

    def end(self) -> None:
        """Let all hear that this process stops."""
        self._ended = Ended("the server stops: look again")
        for watcher in self._watchers:
            watcher.end(self._ended)

    def _close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._anew()
        _feeds.pop(self._wire, None)

    def _anew(self) -> None:
        """Something changed: what was read until now is read again."""
        self._reads.clear()
        self._turns.anew()

    async def _look_on(self) -> None:
        loop, tries = asyncio.get_running_loop(), Tries()
        ticked, before = loop.time(), 0.0
        while True:
            began = loop.time()
            try:
                with spoilt_told():  # the pages themselves say which keys cannot be read
                    changed = await self._look()
            except BusError as error:
                self._tell_all(error=str(error))
                await asyncio.sleep(max(EVERY_S, tries.pause(error) if isinstance(error, StoreUnavailable) else 0))
                continue
            is_back, tries = bool(self._error), Tries()
            if is_back or loop.time() - ticked >= TICK_S:
                ticked = loop.time()
                self._tell_all()
            if changed:
                self._tell(changed)
            took = loop.time() - began
            await asyncio.sleep(pause_of(took, before))
            before = took

    async def _look(self) -> set[Topic]:
        """Return the topics of which something changed since the last look."""
        wanted = {watcher.topic for watcher in self._watchers}
        known = sorted(await slugs(self._wire)) if ALL in wanted else []
        functions = sorted(set(known) | {topic.slug for topic in wanted if topic.slug and not topic.run})
        runs = sorted(topic for topic in wanted if topic.run)
        words = dict(zip(map(Topic, functions), await pulses_of_functions(self._wire, functions), strict=True))
        words |= zip(runs, await pulses_of_runs(self._wire, [(one.slug, one.run) for one in runs]), strict=True)
        operations = sorted(topic for topic in wanted if topic.operation)
        words |= zip(
            operations, await pulses_of_operations(self._wire, [one.operation for one in operations]), strict=True
        )
        if ALL in wanted:
            words[ALL] = " ".join(known).encode()
        self._note(words, known if ALL in wanted else None)
        changed = {topic for topic, word in words.items() if self._words.get(topic, word) != word}
        self._words = words
        return changed

    def _note(self, words: dict[Topic, bytes], known: list[str] | None) -> None:
        """Note in the journal what changed; without a look at all functions it ends, for then it would have gaps."""
        if known is None:
            self.journal.end()
            return
        is_new = not self.journal.is_open
        self.journal.note({slug: words[Topic(slug)] for slug in known})
        for watcher in self._watchers:
            if is_new and watcher.reads_journal:
                watcher.tell()

    def _tell(self, changed: set[Topic]) -> None:
        self._anew()
        functions = {topic.slug for topic in changed if not (topic.run or topic.operation)}
        for watcher in self._watchers:
            if watcher.topic in changed or (watcher.topic == ALL and functions):
                watcher.tell(functions if watcher.topic == ALL else {watcher.topic.slug} - {""})

    def _tell_all(self, error: str = "") -> None:
        if error and error == self._error:
            return
        self._error = error
        self._anew()
        for watcher in self._watchers:
            watcher.tell(error=error)


_feeds: dict[Wire, Feed] = {}
"""Of the connections through which somebody looks."""


def feed_of(wire: Wire) -> Feed:
    """Return the feed of a connection to Redis."""
    return _feeds.get(wire) or _feeds.setdefault(wire, Feed(wire))


async def read_once(wire: Wire, key: Hashable, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what `read` reads, shared with others that ask for the same of this connection while pages are open."""
    feed = _feeds.get(wire)
    return await (read() if feed is None else feed.read_once(key, read))


def has_turn(wire: Wire, who: Hashable) -> bool:
    """Whether a page may read now what it shares with no other; where it may not it stays as it is, and asks again."""
    feed = _feeds.get(wire)
    return feed is None or feed.has_turn(who)


def end_watching() -> None:
    """Let all pages that are open hear that this process stops."""
    for feed in tuple(_feeds.values()):
        feed.end()
