"""Trace contexts: what W3C calls a traceparent is taken, all else is ignored, and ids are made of the run's."""

import pytest

from stepstream.bus.observe.traceparent import as_stored, parsed, shown_trace, span_of, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUN = "01KAXJ3Q2V5N8Y7W4T6R9P0M1K"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-01"),
        (f"  00-{TRACE}-{SPAN}-01 ", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_a_traceparent_is_stored_as_version_00_with_what_is_known_of_its_flags(given: str, stored: str) -> None:
    assert as_stored(given) == stored


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "x",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_ignored(given: str | None) -> None:
    assert parsed(given) is None
    assert shown_trace(RUN, given) == f"{trace_of(RUN, None):032x}"


def test_a_run_is_in_the_trace_of_its_event_and_else_in_one_of_its_own_that_never_changes() -> None:
    assert shown_trace(RUN, f"00-{TRACE}-{SPAN}-01") == TRACE
    assert (
        shown_trace(RUN, None) == "b7eb4ff8a346eccb9a57f486dd278a41"
    )  # pinned: another release goes on with the same trace
    assert f"{span_of(RUN, 'draw', '1'):016x}" == "e36f0cf4c012d4bc"


def test_spans_have_ids_of_their_own() -> None:
    ids = [span_of(RUN), span_of(RUN, "a"), span_of(RUN, "a", "1"), span_of(RUN, "a", "2"), span_of(RUN, "a1")]
    assert len(set(ids)) == len(ids)
