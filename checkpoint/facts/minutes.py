"""Minutes: how many runs of a function started and ended in each minute, how long they took, of what they failed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.buckets import COUNT, Buckets

MINUTE_MS = 60_000
KEPT_MS = 25 * 3_600_000
"""How long a minute is kept."""
OTHER = "other"
"""The errors of a minute beyond the first fifty different ones."""
_AT_ONCE = 250
"""Minutes that one call reads: it holds the server for about a millisecond."""

_READ = script(__file__, "minutes_read")


class Minute(msgspec.Struct):
    """What is counted of one function in one minute.

    `at` is when it began, server ms. `skipped` runs were not made (rate limit, singleton), `merged` ones became part of
    another (debounce, batch). `waited` has how long runs were queued before they started, but for those of a time to
    come, `took` how long those that completed or failed took since they started (buckets.py); `errors` by their mark.
    """

    function: str
    at: int
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    merged: int = 0
    waited: Buckets = msgspec.field(default_factory=lambda: [0] * COUNT)
    took: Buckets = msgspec.field(default_factory=lambda: [0] * COUNT)
    errors: dict[str, int] = {}


async def minutes_of(wire: Wire, slugs: Sequence[str], since: int, until: int) -> list[Minute]:
    """Return the minutes from `since` to `until` (server ms) in which anything happened, by function, oldest first.

    One script call for each function and four hours, all in one write. A minute that is over does not change any more.
    """
    first, last = max(since, until - KEPT_MS) // MINUTE_MS, until // MINUTE_MS
    asked = [
        (slug, keys.function(slug, where), start)
        for slug in slugs for where in partitions(slug) for start in range(first, last + 1, _AT_ONCE)
    ]  # fmt: skip
    replies = await asyncio.gather(
        *(wire.script(_READ, [prefix], start, min(last, start + _AT_ONCE - 1), is_big_read=True)
          for _, prefix, start in asked)
    )  # fmt: skip
    found: dict[tuple[str, int], Minute] = {}
    for (slug, _, _), reply in zip(asked, replies, strict=True):
        for number, flat in reply:
            at = int(number) * MINUTE_MS
            _add(found.setdefault((slug, at), Minute(slug, at)), flat)
    order = {slug: n for n, slug in enumerate(slugs)}
    return sorted(found.values(), key=lambda one: (order[one.function], one.at))


def _add(minute: Minute, flat: Sequence[Any]) -> None:
    """Add what a hash says; what it says by hand, or in a way of later versions, is passed over."""
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        word, _, rest = codec.text(name).partition(":")
        if not value.isdigit():
            continue
        if word == "e":
            minute.errors[rest] = minute.errors.get(rest, 0) + int(value)
        elif word in _COUNTED:
            setattr(minute, word, getattr(minute, word) + int(value))
            if rest.isdigit() and int(rest) < COUNT and (buckets := _buckets(minute, word)) is not None:
                buckets[int(rest)] += int(value)


_COUNTED = {"started", "completed", "failed", "cancelled", "skipped", "merged"}


def _buckets(minute: Minute, word: str) -> Buckets | None:
    return minute.waited if word == "started" else minute.took if word in {"completed", "failed"} else None
