"""Tables at the terminal: what people copy is never cut, however narrow it is."""

import io
import re

import pytest
from rich.console import Console

from stepstream.bus.errors import BadRequest
from stepstream.checkpoint.cli.filters import named
from stepstream.checkpoint.cli.many import act
from stepstream.checkpoint.cli.printing import table_of, word, words
from stepstream.checkpoint.cli.watching import _held_rows
from stepstream.checkpoint.facts.workers import Holding, WorkerView

RUN = "01K9ZJ3V6Q5T8W2X4Y7B0C1D2E"
ERROR = "ValueError: no paper in printer four, nor in five, \x1b[2Jnor in any other"


def printed(width: int, heads: tuple, *rows: tuple) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table_of(heads, rows, width))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_a_narrow_terminal_cuts_no_id(width: int) -> None:
    """`bus errors` showed `3f2a9…` and `01K9…` at 80 columns: neither could be copied."""
    heads = ("group", "function", "state", "count", words("error"), words("raised in"), "last run")
    row = ("3f2a90c1b7de", "shop-print-labels", word("open"), 1_234, ERROR, "shop/printing.py:12 in labels", RUN)
    lines = printed(width, heads, row, row)
    for whole in ("3f2a90c1b7de", "shop-print-labels", "1,234", RUN):
        assert sum(whole in line for line in lines) == 2, whole
    assert "…" not in "".join(lines)
    assert "\x1b" not in "".join(lines)
    said = re.sub(r"\s+", " ", " ".join(lines))
    assert said.count("paper") == 2


def test_a_text_that_does_not_fit_stands_below_its_row() -> None:
    lines = printed(60, ("run", "function", "status", "queued", words("error")), (RUN, "shop-f", "failed", 7, ERROR))
    assert lines[0].split() == ["run", "function", "status", "queued"]
    assert lines[1].split() == [RUN, "shop-f", "failed", "7"]
    assert lines[2].startswith("  error ValueError: no paper")


def test_a_table_without_rows_has_its_head() -> None:
    assert printed(10, ("run", "function", "status"))


def test_a_name_may_be_given_by_its_beginning_where_one_has_it() -> None:
    assert named("ab", ["abc", "b"]) == "abc"
    assert named("ab", ["ab", "abc"]) == "ab"
    assert named("x", ["abc"]) is None
    assert named("", ["abc"]) is None
    with pytest.raises(BadRequest, match="'a' is the beginning of several: ab, ac"):
        named("a", ["ac", "ab", "b"])


def test_a_dead_worker_had_a_few_runs_and_so_many_more() -> None:
    held = [Holding("shop-f", f"run{n}", "", 1) for n in range(9)]
    had = _held_rows(WorkerView("w", alive=False, seen=1, in_hand=300, held=held))
    assert [row[:4] for row in had[:2]] == [("w", "had", "shop-f", "run0"), ("w", "had", "shop-f", "run1")]
    assert (len(had), had[-1][2]) == (6, "and 295 more")
    has = _held_rows(WorkerView("w", alive=True, seen=1, in_hand=9, held=held))
    assert [row[1] for row in has] == ["has"] * 9


def test_who_says_not_which_runs_to_cancel_is_shown_a_status_that_can_be() -> None:
    with pytest.raises(BadRequest, match="bus cancel --status waiting --since 1h"):
        act("cancel", "", [], yes=False, as_json=False)
    with pytest.raises(BadRequest, match="bus rerun --status failed"):
        act("rerun", "", [], yes=True, as_json=False)
