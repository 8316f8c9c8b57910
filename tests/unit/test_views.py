"""What the pages show, as plain values: no server, no HTTP."""

import json
from typing import Any

import pytest
from msgspec import Raw

from stepstream.checkpoint.limits.backlogs import Backlog, Backlogs, Buffer
from stepstream.checkpoint.read.listing import STATUSES
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
