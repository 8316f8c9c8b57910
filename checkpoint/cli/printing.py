"""Printing: how commands show what there is: tables, times, texts that a terminal must not obey."""

import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from stepstream.bus.encryption.sealing import shown
from stepstream.bus.process.terminal import plain, say, say_json
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms, utc
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.once import left_out
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
    "wrong": "red",
    "look": "yellow",
    "fit": "green",
    "advice": "yellow",
    "unfit": "red",
}
"""The colours of words that say how something is: statuses, steps' states, findings; the others have none."""


_FOLDED = 20
"""How narrow a column of text may become, cells."""
_GAP = 2


def terminal() -> Console:
    """Return what tables are printed on: as wide as the terminal; a pipe is not cut at 80, and has no colours."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)


def text(words: str) -> Text:
    """Return a text that is printed as it is: no markup in it counts, and no control character."""
    return Text(plain(words))


def word(state: str) -> Text:
    """Return a word that says how something is, in its colour."""
    return Text(plain(state), COLOURS.get(state, ""))


def table_of(heads: Iterable[str | Column], rows: Iterable[Iterable[Cell]], width: int = 0) -> RenderableType:
    """Return a table that is `width` wide at most (0: as the terminal), in which nothing is cut: people copy ids.

    Columns of words (`words`) are folded, or else stand below their row. Where that does not do either, each row is
    told in lines of its own. No markup in cells counts, and no control character; numbers stand at the right.
    """
    width = width or terminal().width
    columns = [one if isinstance(one, Column) else Column(one, no_wrap=True) for one in heads]
    raw = [list(row) for row in rows]
    lines = [[_text_of(one) for one in row] for row in raw]
    for n, column in enumerate(columns):
        longest = max(cell_len(one) for one in [str(column.header), *(line[n].plain for line in lines)])
        column.min_width = longest if column.no_wrap else min(longest, _FOLDED)
        column.justify = "right" if any(isinstance(row[n], int) for row in raw) else column.justify
    whole = [column for column in columns if column.no_wrap]
    if _width_of(columns) > width and lines:
        told = _below if _width_of(whole) <= width else _told
        head = [_padded(whole, [Text(str(one.header), "bold") for one in whole])] if told is _below else []
        return Group(*head, *(told(columns, line, width) for line in lines))
    table = Table(*columns, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    return table


def _width_of(columns: list[Column]) -> int:
    return sum(column.min_width or 0 for column in columns) + _GAP * (len(columns) - 1)


def _text_of(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else text(f"{cell:,}" if isinstance(cell, int) else cell)


def _padded(columns: list[Column], cells: list[Text]) -> Text:
    """Return cells as a line of a table."""
    for column, cell in zip(columns, cells, strict=True):
        missing = (column.min_width or 0) - cell.cell_len
        cell.pad_left(missing) if column.justify == "right" else cell.pad_right(missing)
    return Text(" " * _GAP, no_wrap=True).join(cells)


def _below(columns: list[Column], cells: list[Text], width: int) -> Text:
    """Return a row as a line of a table, and below it what its columns of words say."""
    both = list(zip(columns, cells, strict=True))
    line = _padded([one for one, _ in both if one.no_wrap], [cell for one, cell in both if one.no_wrap])
    folded = [(column, cell) for column, cell in both if not column.no_wrap]
    below = _told([column for column, _ in folded], [cell for _, cell in folded], width)
    return Text.assemble(line, "\n", " " * _GAP, below) if below.plain else line


def _told(columns: list[Column], cells: list[Text], width: int) -> Text:
    """Return a row in lines: the head of each column before what it says."""
    told, at = Text(), 0
    for column, cell in zip(columns, cells, strict=True):
        if not cell.plain:
            continue
        part = Text.assemble((f"{column.header} ", "dim") if column.header else "", cell)
        if at and at + _GAP + part.cell_len > width:
            told.append("\n")
            at = 0
        between = " " * _GAP if told.plain else ""
        told.append(between).append_text(part)
        at += len(between) + part.cell_len
    return told


def words(head: str) -> Column:
    """Return a column of text, which is folded where the terminal is narrow, or stands below; other columns are not."""
    return Column(head, overflow="fold")


def print_table(heads: Iterable[str | Column], rows: Iterable[Iterable[Cell]]) -> None:
    """Print a table."""
    terminal().print(table_of(heads, rows))


def print_none(words: str) -> None:
    """Say that there is nothing, and the one next command (`words`); not where a key could not be read that has it."""
    say(none_seen() or words)


def none_seen() -> str:
    """Return what is said in place of that there is nothing, where something could not be read; empty elsewhere."""
    keys = ", ".join(sorted(left_out()))
    return f"nothing is seen, for {keys} cannot be read; which keys are wrong: bus check" if keys else ""


def print_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    say_json(shown(codec.encode(value)))


def clock(ms: int) -> str:
    """Return a moment as this machine's clock shows it."""
    return utc(ms).astimezone().strftime("%m-%d %H:%M:%S")


def ago(ms: int) -> str:
    """Return how long ago a moment was."""
    return f"{in_words(max(0, now_ms() - ms))} ago" if ms else ""


def took_of(found: RunSummary) -> str:
    """Return how long a run took, or has taken so far, from its start on, or from when it was queued."""
    return in_words(max(0, (found.ended or now_ms()) - (found.started or found.queued)))
