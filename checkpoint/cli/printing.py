"""Printing: how commands show what there is: tables, times, texts that a terminal must not obey."""

import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stepstream.bus.process.terminal import plain, say_json
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms, utc
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.run.record import RunSummary

Cell: TypeAlias = str | int | Text

COLOURS = {
    "completed": "green",
    "failed": "red",
    "running": "blue",
    "waiting": "yellow",
    "retrying": "yellow",
    "timed_out": "yellow",
    "open": "red",
    "dead": "red",
    "fit": "green",
    "advice": "yellow",
    "unfit": "red",
}
"""The colours of words that say how something is: statuses, steps' states, findings; the others have none."""


def terminal() -> Console:
    """Return what tables are printed on: as wide as the terminal; a pipe is not cut at 80, and has no colours."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)


def text(words: str) -> Text:
    """Return a text that is printed as it is: no markup in it counts, and no control character."""
    return Text(plain(words))


def word(state: str) -> Text:
    """Return a word that says how something is, in its colour."""
    return Text(plain(state), COLOURS.get(state, ""))


def table_of(heads: Iterable[str | Column], rows: Iterable[Iterable[Cell]]) -> Table:
    """Return a table. No markup in cells counts, and no control character; numbers stand at the right."""
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        cells = list(row)
        table.add_row(
            *(one if isinstance(one, Text) else text(f"{one:,}" if isinstance(one, int) else one) for one in cells)
        )
        for column, cell in zip(table.columns, cells, strict=True):
            column.justify = "right" if isinstance(cell, int) else column.justify
    return table


def ids(head: str) -> Column:
    """Return a column of ids, which are never cut: people copy them."""
    return Column(head, no_wrap=True, min_width=26)


def print_table(heads: Iterable[str | Column], rows: Iterable[Iterable[Cell]]) -> None:
    """Print a table."""
    terminal().print(table_of(heads, rows))


def print_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    say_json(codec.encode(value))


def clock(ms: int) -> str:
    """Return a moment as this machine's clock shows it."""
    return utc(ms).astimezone().strftime("%m-%d %H:%M:%S")


def ago(ms: int) -> str:
    """Return how long ago a moment was."""
    return f"{in_words(max(0, now_ms() - ms))} ago" if ms else ""


def took_of(found: RunSummary) -> str:
    """Return how long a run took, or has taken so far, from its start on, or from when it was queued."""
    return in_words(max(0, (found.ended or now_ms()) - (found.started or found.queued)))
