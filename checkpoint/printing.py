"""Printing: how commands show what there is: tables, times, texts that a terminal must not obey."""

import sys
from datetime import UTC, datetime

from rich.console import Console

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.run.record import RunSummary

COLOURS = {
    "completed": "green",
    "failed": "red",
    "running": "blue",
    "waiting": "yellow",
    "retrying": "yellow",
    "timed_out": "yellow",
}
"""The colours of statuses and of steps' states; the others have none."""


def terminal() -> Console:
    """Return what tables are printed on: as wide as the terminal; a pipe is not cut at 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def plain(text: str) -> str:
    """Return text without control characters: a terminal must not obey what a payload says."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def clock(ms: int) -> str:
    """Return a moment as this machine's clock shows it."""
    return datetime.fromtimestamp(ms / 1_000, UTC).astimezone().strftime("%m-%d %H:%M:%S")


def took_of(found: RunSummary) -> str:
    """Return how long a run took, or has taken so far, from its start on, or from when it was queued."""
    return in_words((found.ended or now_ms()) - (found.started or found.queued))
