"""What the pages show, as plain values: no server, no HTTP."""

import json
from typing import Any

import pytest
from msgspec import Raw

from stepstream.checkpoint.read.lists.runs import STATUSES
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
