"""What the page of a function shows, from what is known of it: no server, no HTTP."""

from stepstream.checkpoint.at_work.functions import FunctionFacts, Unread
from stepstream.checkpoint.controls.ordered import Pause
from stepstream.checkpoint.limits.backlogs import Backlog, Backlogs, Buffer
from stepstream.checkpoint.read.lists.runs import STATUSES
from stepstream.checkpoint.registry import Registered
from stepstream.web.pages.functions.listing import functions_page
from stepstream.web.pages.functions.one import function_page

NOW = 1_700_000_000_000
NONE = dict.fromkeys(STATUSES, 0)


def facts(slug: str = "t-f", *flow: str, unread: Unread | None = None, **runs: int) -> FunctionFacts:
    known = Registered("t", "f", "F", slug, ("a",), ("a",), 4, "code", flow, ("gone",))
    return FunctionFacts(known, NONE | runs, [], unread or Unread(), None, "", 1, {"code": 1}, None)


def test_a_function_shows_who_waits_for_which_limit_in_the_words_of_its_event() -> None:
    found = Backlogs(
        7, [Backlog("c0:%3Cann%3E", 3, 2), Backlog("t:", 1, 0), Backlog("c9:gone", 1, 0)],
        [Buffer("b:x%2Fy", 2, NOW + 5_000), Buffer("d:", 1, NOW - 5_000)],
    )  # fmt: skip
    of = facts("t-f", "2 at a time per event.data.u", "at most 6 starts in 1m", completed=1)
    page = function_page(of, found, [], NOW)
    assert [(line.key, line.rule) for line in page.lines] == [
        ("<ann>", "2 at a time per event.data.u"), ("", "at most 6 starts in 1m"), ("gone", ""),
    ]  # fmt: skip
    assert page.more_lines == 4
    assert page.counts == (("completed", 1),)
    assert page.codes == (), "all workers have the code that is declared"
    batch, debounced = page.buffers
    assert all(word in batch for word in ("batch of 2", "x/y", "5.0 s"))
    assert "in 0" in debounced, "what is late is due now, not before"
    assert page.options[-2:] == ("a step that fails is tried 5 times", "gone cancels its runs")


def test_a_backlog_that_is_not_known_exactly_says_so_and_a_paused_function_comes_first() -> None:
    paused = FunctionFacts(
        facts("t-z").function, NONE | {"queued": 2}, [], Unread(1, exact=False), NOW - 90_000, "r", 0, {"old": 2, "new": 1},
        Pause(NOW - 60_000, "bus pause"),
    )  # fmt: skip
    page = functions_page([facts("t-a", unread=Unread(1_200)), paused], NOW)
    first, second = page.rows
    assert (first.codes, second.codes) == (("new", "old"), ("code",))
    assert (first.slug, first.backlog, first.oldest, first.paused) == (
        "t-z", "≥ 3", "1 min 30 s", "paused for 1 min by bus pause",
    )  # fmt: skip
    assert (second.backlog, second.paused, page.paused) == ("1,200", "", 1)
