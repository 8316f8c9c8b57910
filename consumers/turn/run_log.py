"""RunLog: the lines that a run writes while it is at work, sent in batches and not waited for."""

import asyncio
import contextvars
import os
import threading
from collections import deque
from typing import Protocol

from stepstream.bus.observe.traceparent import shown_trace
from stepstream.bus.process import scope
from stepstream.bus.process.scope import Source
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.log import LONGEST_LINE, Line, tell_log
from stepstream.checkpoint.run.owned import Owned

MOST_AT_ONCE = 500
MOST_BYTES_AT_ONCE = 64 * 1024
"""What one batch holds; of a run that writes faster the newest lines are kept, and the pauses grow."""
_EVERY_S = 0.25
_LONGEST_S = 2.0
_lock = threading.Lock()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it, and none here gives it back


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Replaying(Protocol):
    """What a log asks of the run."""

    def replaying(self) -> bool:
        """Return whether the handler only repeats what an earlier turn did."""
        ...

    def server_now(self) -> int:
        """Return the server's clock, ms."""
        ...

    def attempt_of(self, step: str) -> int:
        """Return which attempt is under way, of a step or of the code between, from 0."""
        ...


class RunLog:
    """The log of one run in one turn. `write` may be called from any thread, also after the turn.

    Lines are sent in batches, a quarter of a second apart; a run that writes none costs nothing.
    """

    __slots__ = (
        "_bytes", "_dropped", "_is_due", "_lines", "_loop", "_owned", "_pause", "_state", "_trace", "_traceparent",
        "_wire", "unfinished",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wire: Wire, owned: Owned, state: Replaying, traceparent: str | None
    ) -> None:
        """Begin one; `traceparent` is that of the run's event."""
        self.unfinished: dict[tuple[str, int], str] = {}
        """What its threads have printed since the last line ended."""
        self._loop = loop
        self._wire = wire
        self._owned = owned
        self._state = state
        self._traceparent = traceparent
        self._trace = ""
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._pause = _EVERY_S
        self._is_due = False

    @property
    def function(self) -> str:
        """The function's slug."""
        return self._owned.slug

    @property
    def run(self) -> str:
        """The run's id."""
        return self._owned.run

    @property
    def trace(self) -> str:
        """The id of the run's trace: made when the first line says it."""
        self._trace = self._trace or shown_trace(self._owned.run, self._traceparent)
        return self._trace

    def attempt_of(self, step: str) -> int:
        """Return which attempt is under way, from 1."""
        return self._state.attempt_of(step) + 1

    def is_silent(self) -> bool:
        """Whether the handler is where an earlier turn has been: its lines were written then."""
        return self._state.replaying()

    def write(self, source: Source, text: str, *, step: str = "", level: str = "") -> None:
        """Add a line; the end of a very long one is cut off."""
        if len(text) > LONGEST_LINE:
            text = f"{text[:LONGEST_LINE]} … {len(text) - LONGEST_LINE} more characters"
        sound = text.encode(errors="replace").decode()  # no half of a surrogate pair
        line = codec.encode(Line(self._state.server_now(), source, sound, step, level, self.attempt_of(step)))
        with _lock:
            self._lines.append(line)
            self._bytes += len(line)
            while len(self._lines) > MOST_AT_ONCE or (self._bytes > MOST_BYTES_AT_ONCE and len(self._lines) > 1):
                self._bytes -= len(self._lines.popleft())
                self._dropped += 1
            if self._is_due or self._loop.is_closed():
                return
            self._is_due = True
        self._loop.call_soon_threadsafe(self._send_later, context=contextvars.Context())

    def write_failed(self, step: str, attempt: int, error: str, delay_ms: int | None) -> None:
        """Add that an attempt has failed, from 0; people count from 1. Of a run that completes nothing else says so."""
        again = "" if delay_ms is None else f"; again in {in_words(delay_ms)}"
        self.write(
            "bus", f"attempt {attempt + 1} failed: {error}{again}", step=step, level="warning" if again else "error"
        )

    def skip(self, count: int) -> None:
        """So many lines came that are not even looked at."""
        with _lock:
            self._dropped += count

    def _send_later(self) -> None:
        self._loop.call_later(self._pause, self.flush, context=contextvars.Context())

    def end(self) -> None:
        """The turn ends: send what there is before the run's end is recorded."""
        if self.unfinished:
            for tell in scope.when_turn_ends:
                tell(self)
        self.flush()

    def flush(self) -> None:
        """Send what there is, without waiting."""
        with _lock:
            lines, dropped = tuple(self._lines), self._dropped
            self._lines.clear()
            self._bytes = self._dropped = 0
            self._is_due = False
        self._pause = min(_LONGEST_S, self._pause * 2) if dropped else _EVERY_S
        if lines:
            tell_log(self._wire, self._owned, lines, dropped)
