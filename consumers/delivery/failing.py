"""Failing: an error that comes back in every round of a loop is logged once, and the loop goes on."""

import contextlib
from collections.abc import Generator
from types import TracebackType
from typing import Any

from stepstream.bus.errors import BusError, StoreError, StoreUnavailable
from stepstream.bus.observe.signals import Signals

FAILED = "the engine failed at a run; its entry is read again"


def tell(signals: Signals, words: str, error: BaseException, **fields: Any) -> None:
    """Log what failed and is tried again; what waits for Redis is left to the wire, which logs it once for all."""
    if not isinstance(error, StoreUnavailable):
        signals.notice(words, error=str(error) if isinstance(error, BusError) else repr(error), **fields)


class Failing:
    """Stands around one round of a loop: `with failing:`. No error leaves it, so that the next round tries again.

    An error is logged when it is another one than that of the round before.
    """

    def __init__(self, signals: Signals, words: str, **fields: Any) -> None:
        self._signals = signals
        self._words = words
        self._fields = fields
        self._last = ""

    def __enter__(self) -> None:
        """Begin a round."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        """End it."""
        if error is not None and not isinstance(error, Exception):
            return False
        last, self._last = self._last, repr(error)
        if error is not None and last != self._last:
            tell(self._signals, self._words, error, **self._fields)
        return True


class FailingEach:
    """Stands around each name that a round goes through: what Redis refuses of one stops no other.

    All else that fails leaves it: the next name would fail as well.
    """

    def __init__(self, signals: Signals, words: str, **fields: Any) -> None:
        self._signals = signals
        self._words = words
        self._fields = fields
        self._failed: dict[str, Failing] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Generator[None]:
        """Do the part of a round that is about a name."""
        failing = self._failed.pop(name, None) or Failing(self._signals, self._words, name=name, **self._fields)
        try:
            yield
        except StoreError:
            self._failed[name] = failing
            with failing:
                raise
