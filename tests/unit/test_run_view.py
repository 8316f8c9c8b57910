"""What the page of a run shows, as plain values: no server, no HTTP."""

import json
import traceback
from typing import Any

import pytest
from msgspec import Raw
from starlette.datastructures import QueryParams

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.address import address
from stepstream.checkpoint.at_work.redis_cli import line
from stepstream.checkpoint.facts.attempts import FailedAttempt
from stepstream.checkpoint.read.lists.runs import STATUSES
from stepstream.checkpoint.read.run.steps import StepView
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Run
from stepstream.web.pages import run_view, views
from stepstream.web.pages.one_run.stack import told
from stepstream.web.pages.one_run.zoom import window_of
from stepstream.web.pages.waterfall import WIDTH

NOW = 1_700_000_100_000
BEGAN = NOW - 10_000
DAY = 86_400_000


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def run(**fields: Any) -> Run:
    return Run(**{"id": "r", "function": "t-f", "status": "running", "queued": BEGAN, "started": BEGAN} | fields)


def step(**fields: Any) -> StepView:
    given = {"id": "s", "kind": "run", "state": "completed", "started": BEGAN, "since": BEGAN} | fields
    return StepView(**given)


def bar(found: Run, *steps: StepView) -> run_view.Bar:
    return run_view.run_page(found, steps, NOW).steps[0]


def test_a_finished_step_lies_where_it_ran() -> None:
    found = bar(
        run(ended=BEGAN + 1_000, status="completed"), step(since=BEGAN + 500, started=BEGAN + 750, ended=BEGAN + 1_000)
    )
    assert (found.left, found.waited, found.width, found.took) == (500.0, 250.0, 250.0, "250 ms")


@pytest.mark.parametrize("began", [BEGAN, BEGAN + 500, BEGAN + 1_000])
def test_a_step_of_no_time_is_seen_and_none_leaves_its_row(began: int) -> None:
    found = bar(run(ended=BEGAN + 1_000, status="completed"), step(since=began, started=began, ended=began))
    assert found.width >= 4
    assert found.left + found.waited + found.width <= 1_000


def test_a_wait_of_days_leaves_room_for_what_has_happened() -> None:
    page = run_view.run_page(
        run(status="waiting"),
        [step(ended=NOW), step(id="nap", kind="sleep", state="waiting", since=NOW, started=NOW, due=NOW + 10**9)], NOW,
    )  # fmt: skip
    assert page.steps[0].width == pytest.approx(666.7, abs=0.1)
    assert "due in" in page.steps[1].note
    assert page.steps[1].result is None


@pytest.mark.parametrize(
    ("what", "note"),
    [
        ({"event": "paid", "match": "data.id"}, "waits for paid with the same data.id"),
        ({"event": "paid", "if": "async.data.n > 1"}, "waits for paid where async.data.n > 1"),
        ({"event": "paid"}, "waits for paid"),
        ({"signal": "go"}, "waits for signal go"),
        ({"function": "t-child", "run": "c"}, "waits for t-child"),
    ],
)
def test_a_wait_is_told_in_words(what: dict[str, str], note: str) -> None:
    found = bar(run(), step(kind="wait", state="waiting", what=raw(what), due=NOW + 60_000))
    assert found.note == f"{note}, at most 1 min more"
    assert found.child == what.get("run", "")
    ended = bar(run(), step(kind="wait", what=raw(what), ended=NOW))
    assert ended.note == note.replace("waits for t-child", "called t-child").replace("waits", "waited")


def test_what_cannot_be_read_is_shown_as_text_and_breaks_no_page() -> None:
    odd = run(event=Raw(b'"no object"'), progress=Raw(b"[1]"), parent="x")
    page = run_view.run_page(odd, [step(what=Raw(b"[]"), data=Raw(b"not json"))], NOW)
    assert (page.event_name, page.event_data, page.parent) == ("", views.Text('"no object"'), "")
    assert (page.percent, page.steps[0].note, page.steps[0].child) == (None, "", "")


def test_progress_has_a_bar_and_what_else_was_told() -> None:
    page = run_view.run_page(run(progress=raw({"percent": 40, "done": 7})), [], NOW)
    assert (page.percent, page.progress) == (40.0, "done 7")
    assert run_view.run_page(run(progress=raw({"percent": "much"})), [], NOW).percent is None


def test_a_run_names_those_it_belongs_to() -> None:
    page = run_view.run_page(run(parent="t-p|parent|step", rerun_of="old", why="rate_limit", by="other"), [], NOW)
    assert (page.parent, page.rerun_of, page.why, page.by) == ("parent", "old", "rate limit", "other")


@pytest.mark.parametrize("status", STATUSES)
def test_a_page_refreshes_itself_until_its_run_has_ended(status: str) -> None:
    ended = status in {"completed", "failed", "cancelled", "skipped"}
    page = run_view.run_page(run(status=status, worker="w"), [], NOW)
    assert page.topic == ("" if ended else "run:r:t-f")
    assert page.worker == ("w" if status == "running" else "")


def test_each_attempt_that_failed_is_a_piece_of_its_step_and_has_its_error() -> None:
    tries = [
        FailedAttempt("s", n, BEGAN + n * 1_000, BEGAN + n * 1_000 + 500, Failure("Boom", f"no {n}", "File x"))
        for n in (1, 2)
    ]
    other = FailedAttempt("", 1, BEGAN, BEGAN + 100, Failure("Between", "steps"))
    found = step(attempts=3, started=BEGAN + 5_000, ended=BEGAN + 10_000, state="failed", error=Failure("Boom", "no 3"))
    page = run_view.run_page(run(ended=NOW, status="failed"), [found], NOW, attempts=[*tries, other])
    (one,) = page.steps
    assert [(part.left, part.width) for part in one.tries] == [(100, 50), (200, 50)]
    assert [(each.number, each.message) for each in one.failed] == [(1, "no 1"), (2, "no 2"), (3, "no 3")]
    assert (one.left, one.waited, one.width) == (0, 500, 500)
    assert [each.name for each in page.failed] == ["Between"]
    assert [moment.words.partition(":")[0] for moment in page.history] == [
        "queued", "started", "began", "attempt 1 failed", "attempt 1 failed", "attempt 2 failed", "failed after 5.0 s",
        "failed",
    ]  # fmt: skip


def test_the_run_has_a_bar_of_how_long_it_was_queued_and_how_long_it_ran() -> None:
    page = run_view.run_page(run(queued=BEGAN, started=BEGAN + 2_500, ended=NOW, status="completed"), [], NOW)
    assert [(part.left, part.width) for part in page.run_bar] == [(0, 250), (250, 750)]
    assert page.run_bar[0].words == "queued for 2.5 s"


def test_a_wait_of_days_is_cut_short_and_its_time_is_told_as_it_is() -> None:
    work = step(id="work", ended=BEGAN + 1_000)
    nap = step(id="nap", kind="sleep", since=BEGAN + 1_000, started=BEGAN + 14 * DAY, ended=BEGAN + 14 * DAY)
    more = step(id="more", since=BEGAN + 14 * DAY, started=BEGAN + 14 * DAY, ended=BEGAN + 14 * DAY + 1_000)
    found = run(status="completed", ended=BEGAN + 14 * DAY + 1_000)
    page = run_view.run_page(found, [work, nap, more], BEGAN + 14 * DAY + 1_000)
    assert [(one.left, one.width) for one in page.steps] == [(0, 333.3), (333.3, 333.3), (666.7, 333.3)]
    assert page.steps[1].took == "13 d 23 h"
    assert [part.words for part in page.breaks] == ["13 d 23 h, cut short"]


@pytest.mark.parametrize("kind", ["event", "signal", "invoke"])
def test_a_wait_that_timed_out_is_not_told_as_one_that_went_well(kind: str) -> None:
    waited = step(kind=kind, state="timed_out", since=BEGAN, started=NOW, ended=NOW, what=raw({"event": "paid"}))
    found = bar(run(status="completed", ended=NOW), waited)
    assert (found.state, found.took, found.left, found.width) == ("timed_out", "10.0 s", 0, WIDTH)


def test_only_a_step_that_waits_for_a_signal_can_be_sent_one() -> None:
    what = raw({"signal": "go"})
    assert bar(run(), step(kind="signal", state="waiting", what=what, due=NOW)).signal == "go"
    assert not bar(run(), step(kind="signal", what=what, ended=NOW)).signal


def test_a_batch_names_its_members() -> None:
    several = [{"id": f"e{n}", "name": "a", "data": {}, "ts": 1} for n in range(25)]
    event = raw({**several[0], "batch": several})
    page = run_view.run_page(run(event=event), [], NOW)
    assert (len(page.members), page.more_members, page.members[1]) == (20, 5, ("a", "e1"))


def test_its_keys_are_shown_as_a_shell_takes_them() -> None:
    page = run_view.run_page(run(id="it's"), [], NOW)
    shown = line(address("redis://:secret@cache.internal:6380/2"), page.looks[0])
    assert shown == """redis-cli -h cache.internal -p 6380 -n 2 --askpass HGETALL 'bus:fn:{t-f}:run:it'"'"'s'"""


def test_of_a_stack_the_authors_frames_come_first_and_those_of_libraries_are_kept() -> None:
    try:
        json.loads("{")
    except json.JSONDecodeError:
        whole = traceback.format_exc()
    found = told(whole)
    assert 'json.loads("{")' in found.own
    assert "decoder.py" not in found.own
    assert found.own.rstrip().endswith("(char 1)")
    assert found.whole == whole
    assert told("Error: no paper\n    at print (app.js:3)").whole == ""


def test_a_closer_look_draws_a_step_over_the_whole_width_and_nothing_outside_it() -> None:
    early = step(id="early", ended=BEGAN + 100)
    late = step(id="late", since=BEGAN + 9_000, started=BEGAN + 9_000, ended=BEGAN + 10_000)
    page = run_view.run_page(run(status="completed", ended=NOW), [early, late], NOW, closer="late")
    outside, inside = page.steps
    assert outside.width == 0
    assert (inside.left, inside.width) == (pytest.approx(20, abs=1), pytest.approx(980, abs=1))
    assert (page.closer, page.ticks[0]) == ("late", "9.0 s")
    assert run_view.run_page(run(), [early], NOW, closer="gone").closer == ""


def test_each_link_of_the_zoom_leads_to_another_part_of_the_time_and_back_to_the_whole() -> None:
    taken = [step(id="a", since=NOW - 10_000, started=NOW - 10_000, ended=NOW)]

    def look(query: str) -> run_view.RunPage:
        return run_view.run_page(done, taken, NOW, window=window_of(QueryParams(query.removeprefix("?"))))

    done = run(status="completed", queued=NOW - 10_000, started=NOW - 10_000, ended=NOW)
    whole = look("")
    assert (whole.zoom.is_whole, whole.zoom.wider, whole.zoom.earlier, whole.zoom.later) == (True, "", "", "")
    assert whole.zoom.moments == ((0.0, NOW - 10_000), (1000.0, NOW))
    near = look(whole.zoom.nearer)
    assert whole.zoom.nearer == f"?from={NOW - 7_500}&to={NOW - 2_500}"
    assert (near.ticks[0], near.zoom.is_whole) == ("2.5 s", False)
    assert look(near.zoom.earlier).zoom.moments[0] == (0.0, NOW - 10_000)
    assert look(near.zoom.later).zoom.moments[-1] == (1000.0, NOW)
    assert look(near.zoom.wider).zoom.is_whole


def test_what_is_dragged_over_is_a_time_also_where_a_long_wait_is_drawn_short() -> None:
    day = 86_400_000
    begin = NOW - day - 4_000
    taken = [
        step(id="a", since=begin, started=begin, ended=begin + 2_000),
        step(id="b", since=NOW - 2_000, started=NOW - 2_000, ended=NOW),
    ]
    done = run(status="completed", queued=begin, started=begin, ended=NOW)
    moments = run_view.run_page(done, taken, NOW).zoom.moments
    assert [moment for _, moment in moments] == [begin, begin + 2_000, NOW - 2_000, NOW]
    assert [round(place) for place, _ in moments] == [0, 333, 667, 1000]


@pytest.mark.parametrize(
    "query", ["from=1", "to=1", "from=x&to=2", "from=2&to=1", "from=1&to=1", "from=-1&to=5", "from=1&to=" + "9" * 30]
)
def test_a_part_of_the_time_that_is_none_is_refused_by_its_name(query: str) -> None:
    with pytest.raises(BadRequest, match=r"(from|to)="):
        window_of(QueryParams(query))
