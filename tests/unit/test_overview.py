"""What the front page says is wrong, and what of the last hour it shows: no server, no HTTP."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from stepstream.checkpoint.at_work.events import Pace
from stepstream.checkpoint.at_work.functions import HOUR, FunctionFacts, Unread
from stepstream.checkpoint.at_work.overview import failed_of, failures_of
from stepstream.checkpoint.at_work.trouble import Dead, Killer, Trouble, given_up, troubles
from stepstream.checkpoint.controls.ordered import Pause
from stepstream.checkpoint.facts.buckets import COUNT
from stepstream.checkpoint.facts.errors import ErrorGroup
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute
from stepstream.checkpoint.facts.workers import Holding, WorkerView
from stepstream.checkpoint.read.lists.runs import STATUSES
from stepstream.checkpoint.registry import Registered
from stepstream.web.pages.events.names import pace_in_words
from stepstream.web.pages.overview import Hour, hour, runs_of

NOW = 1_700_000_100_000
NONE = dict.fromkeys(STATUSES, 0)


def registered(slug: str) -> Registered:
    return Registered("t", slug[2:], slug, slug, ("a",), ("a",), 4, "code", ())


def at_work(slug: str, **more: Any) -> FunctionFacts:
    given: dict[str, Any] = {
        "function": registered(slug), "runs": NONE, "minutes": [], "unread": Unread(), "oldest": None, "oldest_run": "",
        "workers": 1, "codes": {}, "paused": None,
    }  # fmt: skip
    return FunctionFacts(**{**given, **more})


def found(*facts: FunctionFacts, dead: Sequence[Dead] = (), **failed: tuple[int, int]) -> list[Trouble]:
    return troubles(facts, {f"t-{one}": counts for one, counts in failed.items()}, dead, NOW)


def test_where_nothing_is_wrong_nothing_is_said() -> None:
    assert found(at_work("t-f", oldest=NOW - 1_000, oldest_run="r"), at_work("t-g"), f=(2, 102)) == []


def test_what_nobody_serves_comes_first_if_something_waits_for_it() -> None:
    waits = {"runs": NONE | {"queued": 2, "waiting": 1, "completed": 9}, "oldest": NOW - 120_000, "oldest_run": "run"}
    stuck, late, failing, idle = found(at_work("t-f", workers=0, **waits), at_work("t-g", workers=0), f=(4, 10))
    assert (stuck.how, stuck.words, stuck.function) == ("bad", "no worker serves t-f: 3 runs cannot go on", "t-f")
    assert (late.how, late.words, late.run) == ("bad", "the oldest queued run of t-f has waited for 2 min", "run")
    assert failing.words == "4 of 10 runs of t-f failed in the last hour"
    assert (idle.how, "no worker serves t-g" in idle.words, "forget" in idle.do) == ("wait", True, True)


def test_events_that_nobody_reads_wait_too() -> None:
    (one,) = found(at_work("t-f", workers=0, unread=Unread(3)))
    assert (one.how, one.words) == ("bad", "no worker serves t-f: 3 events cannot go on")
    (one,) = found(at_work("t-f", workers=0, unread=Unread(1, exact=False), runs=NONE | {"queued": 1}))
    assert one.words == "no worker serves t-f: 1 run and at least 1 event cannot go on"


def test_a_dead_worker_is_told_with_what_nobody_serves_since_or_with_what_others_take_over() -> None:
    gone = Dead(WorkerView("box-71", False, NOW - 14_000), {"t-f": 2})
    running = NONE | {"running": 2}
    (stuck,) = found(at_work("t-f", workers=0, runs=running), dead=[gone])
    assert stuck.words == "no worker serves t-f: 2 runs cannot go on; box-71, seen 14.0 s ago, is gone"
    (others,) = found(at_work("t-f", runs=running), dead=[gone])
    assert (others.how, others.words) == ("wait", "worker box-71, seen 14.0 s ago, is gone with 2 runs in hand")
    assert found(at_work("t-f"), dead=[Dead(gone.worker, {})]) == []


def test_two_dead_workers_are_two_lines_that_a_refresh_can_tell_apart() -> None:
    gone = [Dead(WorkerView(f"box-{n}", False, NOW - 14_000), {"t-f": 1}) for n in (71, 72)]
    told = found(at_work("t-f", runs=NONE | {"running": 2}), dead=gone)
    assert [one.worker for one in told] == ["box-71", "box-72"]
    assert len({one.id for one in told}) == 2


def test_a_worker_that_was_replaced_is_told_for_some_minutes_and_a_run_that_killed_several() -> None:
    had = [Holding("t-f", run, "", 0) for run in "rs"]
    gone = Dead(WorkerView("box-71", False, NOW - 14_000, held=had), {}, (Killer("t-f", "r", 3), Killer("t-f", "s", 1)))
    died, _, killer = found(at_work("t-f"), dead=[gone, gone])
    assert (died.how, died.words) == ("wait", "worker box-71 died 14.0 s ago; it had 2 runs in hand")
    assert (killer.how, killer.run, killer.words) == ("wait", "r", "a run of t-f has killed its worker 3 times")
    long_ago = msgspec.structs.replace(gone.worker, seen=NOW - 3_600_000)
    assert found(at_work("t-f"), dead=[Dead(long_ago, {})]) == []


@pytest.mark.parametrize(("state", "counts"), [("open", (5, 9)), ("resolved", (2, 6)), ("muted", (2, 6))])
def test_what_failed_of_an_error_that_is_resolved_or_muted_counts_for_no_line(
    state: Any, counts: tuple[int, int]
) -> None:
    minute = Minute("t-f", NOW, completed=4, failed=5, errors={"e": 3, "f": 2})
    error = ErrorGroup("t-f", "e", "ValueError", state=state)
    assert failed_of([error], [minute]) == {"t-f": counts}


@pytest.mark.parametrize(("events", "words"), [(19, "19 in the last hour"), (20, "20 or more in the last 2 min")])
def test_a_pace_says_when_no_more_events_were_looked_at(events: int, words: str) -> None:
    assert pace_in_words(Pace(events, 3_600_000 if events < 20 else 120_000)) == words


def test_a_run_that_was_given_up_is_told_until_its_error_is_resolved() -> None:
    one = ErrorGroup("t-f", "e", "worker_crash", run="r")
    (told,) = given_up([one, ErrorGroup("t-f", "f", "ValueError")])
    assert (told.how, told.run, "killed its worker" in told.words) == ("bad", "r", True)
    assert given_up([msgspec.structs.replace(one, state="resolved")]) == []


def test_what_is_paused_is_told_with_what_waits() -> None:
    (one,) = found(at_work("t-f", paused=Pause(NOW - 7_200_000, "ann"), unread=Unread(2)))
    assert (one.how, one.words) == ("wait", "t-f is paused, for 2 h, by ann: 2 events in line")


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
    assert one.half.startswith("~"), "a histogram does not know it exactly"
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
    assert runs_of(one) == "?status=failed&error=aa&function=t-f&function=t-g&since=1h"


@pytest.mark.parametrize(
    ("completed", "failed", "is_bad"), [(0, 2, False), (0, 3, True), (27, 3, True), (28, 3, False)]
)
def test_a_function_is_in_trouble_when_a_tenth_fails(completed: int, failed: int, is_bad: bool) -> None:
    assert bool(found(at_work("t-f"), f=(failed, failed + completed))) is is_bad
