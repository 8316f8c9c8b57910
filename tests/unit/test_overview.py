"""What the front page says is wrong, and what of the last hour it shows: no server, no HTTP."""

from typing import Any

import pytest

from stepstream.checkpoint.facts.buckets import COUNT
from stepstream.checkpoint.facts.errors import ErrorGroup
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute
from stepstream.checkpoint.read.lists.runs import STATUSES
from stepstream.checkpoint.registry import Registered
from stepstream.web.pages import overview
from stepstream.web.pages.overview import HOUR, Hour, failures_of, hour, troubles

NOW = 1_700_000_100_000
NONE = dict.fromkeys(STATUSES, 0)


def registered(slug: str) -> Registered:
    return Registered("t", slug[2:], slug, slug, ("a",), ("a",), 4, "code", ())


def found(**given: Any) -> list[overview.Trouble]:
    known = [registered("t-f"), registered("t-g")]
    stand_ins: dict[str, Any] = {
        "how_many": {"t-f": NONE, "t-g": NONE}, "at_work": {"t-f": 1, "t-g": 1}, "oldest": {},
        "hours": {"t-f": Hour(), "t-g": Hour()},
    }  # fmt: skip
    return troubles(known, **{**stand_ins, **given}, now=NOW)


def test_where_nothing_is_wrong_nothing_is_said() -> None:
    assert found(oldest={"t-f": (NOW - 1_000, "r")}, hours={"t-f": Hour(completed=100, failed=2), "t-g": Hour()}) == []


def test_what_nobody_serves_comes_first_if_runs_wait_for_it() -> None:
    how_many = {"t-f": NONE | {"queued": 2, "waiting": 1, "completed": 9}, "t-g": NONE}
    stuck, late, failing, idle = found(
        how_many=how_many, at_work={"t-f": 0, "t-g": 0}, oldest={"t-f": (NOW - 120_000, "run")},
        hours={"t-f": Hour(completed=6, failed=4), "t-g": Hour()},
    )  # fmt: skip
    assert (stuck.how, stuck.words, stuck.function) == ("bad", "no worker serves t-f: 3 runs cannot go on", "t-f")
    assert (late.how, late.words, late.run) == ("bad", "the oldest queued run of t-f has waited for 2 min", "run")
    assert failing.words == "4 of 10 runs of t-f failed in the last hour"
    assert (idle.how, "no worker serves t-g" in idle.words, "forget" in idle.do) == ("wait", True, True)


def test_a_strip_has_each_minute_at_its_place_and_what_there_is_is_seen() -> None:
    took = [0] * COUNT
    took[9] = 100
    minute = NOW // MINUTE_MS * MINUTE_MS
    one = hour(
        [
            Minute("t-f", minute - 59 * MINUTE_MS, started=1_000, completed=999, failed=1, took=took),
            Minute("t-f", minute, started=1, failed=1),
            Minute("t-f", minute - 60 * MINUTE_MS, started=7),
        ],
        NOW,
    )
    assert [bar.x for bar in one.bars] == [0, HOUR - 1], "what is older than an hour is not drawn"
    assert [(bar.started, bar.failed) for bar in one.bars] == [(22, 1.5), (1.5, 1.5)]
    assert (one.completed, one.failed, one.share) == (999, 2, "0.2%")
    assert one.half
    assert hour([], NOW) == Hour()


def test_failures_are_grouped_by_error_over_functions_and_muted_ones_are_left_out() -> None:
    groups = [
        ErrorGroup("t-f", "aa", "Boom", "shop.py: pay", "<b>no</b>", first=1, last=5, count=9, run="r1"),
        ErrorGroup("t-g", "aa", "Boom", "shop.py: pay", "newer", first=2, last=7, count=3, run="r2"),
        ErrorGroup("t-f", "bb", "Quiet", last=9, state="muted"),
        ErrorGroup("t-f", "cc", "Old", last=3),
    ]
    minutes = [Minute("t-f", 0, errors={"aa": 4, "bb": 5}), Minute("t-g", 0, errors={"aa": 2, "other": 1})]
    [one] = failures_of(groups, minutes)
    assert (one.count, one.functions, one.first, one.last, one.run) == (6, ("t-f", "t-g"), 1, 7, "r2")
    assert one.message == "newer"
    assert one.query == "?status=failed&error=aa&function=t-f&function=t-g&since=1h"


@pytest.mark.parametrize(
    ("completed", "failed", "is_bad"), [(0, 2, False), (0, 3, True), (27, 3, True), (28, 3, False)]
)
def test_a_function_is_in_trouble_when_a_tenth_fails(completed: int, failed: int, is_bad: bool) -> None:
    assert bool(found(hours={"t-f": Hour(completed=completed, failed=failed), "t-g": Hour()})) is is_bad
