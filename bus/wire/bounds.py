"""Bounds: how much one command may bring, and one read. A server that serves many takes small bites."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_ARGUMENTS = 3_000
"""Of a list in one command: some managed servers take 3,999 arguments, with what stands before the list."""
MOST_ENTRIES = 200
"""Of one read, however many slots are free: their runs start in one script call, with thirteen arguments each."""
MOST_BYTES = 1024 * 1024
"""About so many of one answer, where it may be large: what comes behind it on the connection waits no longer."""


def parts(items: Sequence[T], width: int = 1) -> Iterator[Sequence[T]]:
    """Yield items, each of which becomes `width` arguments, in as many commands as they need; nothing for none."""
    most = MOST_ARGUMENTS // width
    if len(items) <= most:
        if items:
            yield items
        return
    for start in range(0, len(items), most):
        yield items[start : start + most]
