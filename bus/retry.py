"""Retries: how long to wait after a failed attempt before the next one.

The default waits and their jitter are those of the Inngest SDKs.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from stepstream.bus.errors import ConfigError, RetryAfter
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words, milliseconds, moment_ms

MAX_RETRIES = 20
_TABLE_MS = tuple(s * 1_000 for s in (15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200))
_TABLE_JITTER_MS = 30_000
_SHORTEST_MS, _LONGEST_MS = 1_000, 86_400_000
_TOLD = 5


class Exponential(msgspec.Struct, frozen=True):
    """A growing backoff: `first`, then `factor` times the wait before, at most `max`."""

    first: float | str | timedelta = "1s"
    factor: float = 2.0
    max: float | str | timedelta = "1h"

    def __post_init__(self) -> None:
        """Refuse a backoff that shrinks, or whose first wait is longer than its longest."""
        if self.factor < 1:
            raise ConfigError(f"backoff factor must be at least 1, got {self.factor}")
        if milliseconds(self.first, "backoff first") > milliseconds(self.max, "backoff max"):
            raise ConfigError(f"backoff first ({self.first}) is longer than max ({self.max})")


class Retry(msgspec.Struct, frozen=True):
    """How often a step, or the code between steps, is retried: attempts = `retries` + 1.

    `backoff` is seconds, a list of durations (the last one repeats), or Exponential. None means 15 s growing to 2 h,
    plus up to 30 s of jitter.
    """

    retries: int = 4
    backoff: float | Sequence[float | str | timedelta] | Exponential | None = None

    def __post_init__(self) -> None:
        """Refuse a count outside 0 … 20, and a backoff that is not a duration."""
        if isinstance(self.retries, bool) or not 0 <= self.retries <= MAX_RETRIES:
            raise ConfigError(f"retries must be between 0 and {MAX_RETRIES}, got {self.retries!r}")
        if isinstance(self.backoff, str):
            raise ConfigError(f"backoff {self.backoff!r}: write seconds as a number, or a list of durations")
        if isinstance(self.backoff, Sequence) and not self.backoff:
            raise ConfigError("backoff is an empty list; give at least one duration")
        self.delay_ms(0)

    @property
    def words(self) -> str:
        """How long it waits after each failed attempt: `after 15 s, 30 s, each up to 30 s later`; empty for none."""
        waits = [_spelled(self._least_ms(attempt)) for attempt in range(self.retries)]
        if not waits:
            return ""
        if len(set(waits)) == 1:
            told = waits[0]
        else:
            told = ", ".join(waits if len(waits) <= _TOLD else [*waits[: _TOLD - 1], f"… {waits[-1]}"])
        return f"after {told}" + (f", each up to {_spelled(_TABLE_JITTER_MS)} later" if self.backoff is None else "")

    def delay_ms(self, attempt: int) -> int:
        """Return how many ms to wait after `attempt` (0 is the first) has failed."""
        return self._least_ms(attempt) + (random.randrange(_TABLE_JITTER_MS) if self.backoff is None else 0)

    def _least_ms(self, attempt: int) -> int:
        """Return the same without what chance adds."""
        if self.backoff is None:
            return _TABLE_MS[min(attempt, len(_TABLE_MS) - 1)]
        if isinstance(self.backoff, Exponential):
            longest = milliseconds(self.backoff.max, "backoff max")
            return round(min(milliseconds(self.backoff.first, "backoff first") * self.backoff.factor**attempt, longest))
        if isinstance(self.backoff, Sequence):
            return milliseconds(self.backoff[min(attempt, len(self.backoff) - 1)], "backoff")
        return milliseconds(self.backoff, "backoff")


def _spelled(ms: int) -> str:
    return in_words(ms).replace(".0 s", " s")


def of(value: "int | Retry | None", default: Retry) -> Retry:
    """Return the policy of a `retries=` argument. A bare count keeps the default's backoff."""
    if value is None:
        return default
    return value if isinstance(value, Retry) else Retry(value, default.backoff)


def asked_delay_ms(error: RetryAfter, now: int | None = None) -> int:
    """Return the wait that a RetryAfter asks for at `now` (ms; this process's clock if not given): 1 s … 24 h."""
    when = error.when
    if isinstance(when, datetime):
        delay = moment_ms(when, "RetryAfter") - (now_ms() if now is None else now)
    else:
        delay = milliseconds(when, "RetryAfter")
    return max(_SHORTEST_MS, min(delay, _LONGEST_MS))
