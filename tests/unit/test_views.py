"""What the pages show, as plain values: no server, no HTTP."""

import json
from typing import Any

import pytest
from msgspec import Raw

from stepstream.checkpoint.limits.backlogs import Backlog, Backlogs, Buffer
from stepstream.checkpoint.read.listing import STATUSES
from stepstream.checkpoint.read.steps import StepView
from stepstream.checkpoint.registry import Registered
from stepstream.checkpoint.run.record import Run
from stepstream.web.pages import views

NOW = 1_700_000_100_000
BEGAN = NOW - 10_000
NONE = dict.fromkeys(STATUSES, 0)


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def run(**fields: Any) -> Run:
    return Run(**{"id": "r", "function": "t-f", "status": "running", "queued": BEGAN, "started": BEGAN} | fields)


def step(**fields: Any) -> StepView:
    given = {"id": "s", "kind": "run", "state": "completed", "started": BEGAN, "since": BEGAN} | fields
    return StepView(**given)


def bar(found: Run, *steps: StepView) -> views.Bar:
    return views.run_page(found, steps, NOW).steps[0]


def registered(*flow: str) -> Registered:
    return Registered("t", "f", "F", "t-f", ("a",), ("a",), 4, "code", flow)


@pytest.mark.parametrize(("ms", "text"), [(None, ""), (0, "1970-01-01 00:00:00.000"), (NOW, "2023-11-14 22:15:00.000")])
def test_a_moment_is_utc_to_the_millisecond(ms: int | None, text: str) -> None:
    assert views.when(ms) == text


def test_a_payload_is_indented_and_a_long_one_is_cut_with_its_size_told() -> None:
    assert views.shown(None) is None
    assert views.shown(raw({"a": [1]})) == views.Text('{\n  "a": [\n    1\n  ]\n}')
    for letters in (views.SHOWN_CHARS + 1, 10 * views.SHOWN_CHARS):
        cut = views.shown(raw("x" * letters))
        assert cut is not None
        assert len(cut.text) == views.SHOWN_CHARS
        assert cut.cut.startswith(f"{letters + 2:,} bytes")


def test_the_front_page_counts_what_is_queued_as_active() -> None:
    counts = {"t-f": NONE | {"queued": 2, "running": 3, "waiting": 4, "completed": 5, "failed": 6}}
    assert views.rows([registered()], counts) == (views.FunctionRow("t-f", "F", ("a",), 5, 4, 5, 6),)
    listed = views.listed([run(), run(status="skipped", started=None, why="debounced")], NOW)
    assert [(row.status, row.took, row.why) for row in listed] == [
        ("running", "10.0 s", ""),
        ("skipped", "", "debounced"),
    ]


def test_a_function_shows_who_waits_for_which_limit_in_the_words_of_its_event() -> None:
    found = Backlogs(
        7, [Backlog("c0:%3Cann%3E", 3, 2), Backlog("t:", 1, 0), Backlog("c9:gone", 1, 0)],
        [Buffer("b:x%2Fy", 2, NOW + 5_000), Buffer("d:", 1, NOW - 5_000)],
    )  # fmt: skip
    function = registered("2 at a time per event.data.u", "at most 6 starts in 1m")
    page = views.function_page(function, NONE | {"completed": 1}, found, 1, [], NOW)
    assert [(line.key, line.rule) for line in page.lines] == [
        ("<ann>", "2 at a time per event.data.u"), ("", "at most 6 starts in 1m"), ("gone", ""),
    ]  # fmt: skip
    assert page.more_lines == 4
    assert page.counts == (("completed", 1),)
    batch, debounced = page.buffers
    assert all(word in batch for word in ("batch of 2", "x/y", "5.0 s"))
    assert "in 0" in debounced, "what is late is due now, not before"


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
    page = views.run_page(
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
    page = views.run_page(odd, [step(what=Raw(b"[]"), data=Raw(b"not json"))], NOW)
    assert (page.event_name, page.event_data, page.parent) == ("", views.Text('"no object"'), "")
    assert (page.percent, page.steps[0].note, page.steps[0].child) == (None, "", "")


def test_progress_has_a_bar_and_what_else_was_told() -> None:
    page = views.run_page(run(progress=raw({"percent": 40, "done": 7})), [], NOW)
    assert (page.percent, page.progress) == (40.0, "done 7")
    assert views.run_page(run(progress=raw({"percent": "much"})), [], NOW).percent is None


def test_a_run_names_those_it_belongs_to() -> None:
    page = views.run_page(run(parent="t-p|parent|step", rerun_of="old", why="rate_limit", by="other"), [], NOW)
    assert (page.parent, page.rerun_of, page.why, page.by) == ("parent", "old", "rate limit", "other")


@pytest.mark.parametrize("status", STATUSES)
def test_a_page_refreshes_itself_until_its_run_has_ended(status: str) -> None:
    ended = status in {"completed", "failed", "cancelled", "skipped"}
    page = views.run_page(run(status=status, worker="w"), [], NOW)
    assert page.topic == ("" if ended else "run:r:t-f")
    assert page.worker == ("w" if status == "running" else "")
