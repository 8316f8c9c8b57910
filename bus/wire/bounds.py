"""Bounds: how large one command and one read may be, so that no caller holds the server up for the others."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_ARGUMENTS = 3_000
"""The longest list in one command: some managed servers take 3,999 arguments, including those before the list."""
MOST_ENTRIES = 200
"""The most entries of one read, however many slots are free: one script call starts them, thirteen arguments each."""
MOST_BYTES = 1024 * 1024
"""About the largest reply that may be asked for: replies behind it on the connection wait while it is read."""


def parts(items: Sequence[T], width: int = 1) -> Iterator[Sequence[T]]:
    """Yield items in parts that fit one command, each item being `width` arguments; yields nothing for no items."""
    most = MOST_ARGUMENTS // width
    if len(items) <= most:
        if items:
            yield items
        return
    for start in range(0, len(items), most):
        yield items[start : start + most]
