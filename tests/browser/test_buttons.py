"""Every button of the pages, with script and without: pressed twice in haste and sent once more, it acts once."""

import time
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import pytest
import redis

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.operations import Operation
from stepstream.checkpoint.read.lists.search import RunQuery
from tests.browser.demo import Demo
from tests.browser.pressing import Hand, actions
from tests.support import until

pytestmark = pytest.mark.browser
OF_SESSIONS = {"log_in", "log_out"}
"""What needs a site with log-in."""


@pytest.fixture(scope="module", params=["with script", "without script"])
def hand(request: pytest.FixtureRequest, chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Generator[Hand]:
    """A store of its own, quiet but for what is pressed: the tests come in the order they are written."""
    demo = Demo(tmp_path_factory.mktemp("buttons"))
    try:
        demo.begin()
        made = Hand(chromium, demo, scripted=request.param == "with script")
        yield made
        made.context.close()
    finally:
        demo.close()


def test_functions_are_paused_let_through_and_begun(hand: Hand) -> None:
    demo, path = hand.demo, "/functions/shop-tidy-up"
    demo.send("day/ended", {"day": "2026-11-26"}, {"day": "2026-11-27"})
    hand.press(path, "Run one", runs=1)
    hand.press(path, "Resume", runs=1)
    assert functions_paused(demo) == set()
    hand.press(path, "Pause")
    assert functions_paused(demo) == {"shop-tidy-up"}
    hand.press("/schedules", "Pause shop-yearly-report")
    assert functions_paused(demo) == {"shop-tidy-up", "shop-yearly-report"}
    hand.press("/schedules", "Resume shop-yearly-report")
    assert functions_paused(demo) == {"shop-tidy-up"}
    hand.press("/schedules", "Run shop-yearly-report now", runs=1)
    hand.press("/functions/shop-yearly-report", "Run now", runs=1)
    hand.press("/functions/shop-ask-the-insurer", "Invoke", opened="#ask-invoke", runs=1)


def test_events_are_sent_replayed_and_paused(hand: Hand) -> None:
    demo = hand.demo
    hand.press(
        "/events", "Send", opened="#ask-send", fill={"name": "stock/changed", "json": '{"warehouse": "Oslo"}'}, runs=1
    )
    [event] = [one["id"] for one in demo.get("/v1/events?name=stock/changed")]
    hand.press(f"/events/{event}", "Replay to all functions", runs=1)
    hand.press(f"/events/{event}", "Replay to shop-sync-stock", runs=1)
    hand.press("/event-names/stock/changed", "Pause")
    assert set(demo.get("/v1/paused")["events"]) == {"stock/changed"}
    hand.press("/event-names/stock/changed", "Resume")
    assert not demo.get("/v1/paused")["events"]
    demo.send_later("order/paid", {"order": "o-9"}, "3h")
    demo.send_later("order/paid", {"order": "o-10"}, "4h")
    hand.press("/", "Cancel", within="tr:has-text('order/paid')")
    assert len(demo.get("/v1/delayed")) == 1


def test_limits_are_set_and_taken_back_and_what_is_held_is_let_go(hand: Hand) -> None:
    demo, slug = hand.demo, "shop-charge-customer"
    hand.press("/limits", "Set it", opened=f"#set-{slug}", fill={"to": "3"})
    assert [one["to"] for one in limits(demo, slug)] == [3]
    hand.press("/limits", f"Take back concurrency of {slug}")
    assert limits(demo, slug) == []
    demo.send("product/changed", {"product": "p-7"})
    until(lambda: demo.wait_for(1, function="shop-index-product"), "it is held back")
    hand.press("/limits", "Run debounce for p-7 of shop-index-product now", runs=1)
    demo.wait_for(1, function="shop-index-product", status="completed")


def test_errors_are_put_away_and_opened_again(hand: Hand) -> None:
    demo = hand.demo
    demo.wait_for(3, function="shop-sync-stock", status="failed")
    for path, button, state in (
        ("/errors", "Resolve TimeoutError", "resolved"),
        ("/errors?state=resolved", "Open again TimeoutError", "open"),
        ("/errors", "Mute TimeoutError", "muted"),
        ("/errors?state=muted", "Open again TimeoutError", "open"),
    ):
        hand.press(path, button)
        assert [one["state"] for one in demo.get("/v1/errors")] == [state]
    hand.press("/system", "Check everything")


def test_alerts_are_tried_and_their_thresholds_are_set_and_taken_back(hand: Hand) -> None:
    hand.press("/alerts", "Send a test")
    assert "the command true ended with code 0" in hand.page.content()
    hand.press("/alerts", "Set", opened="#set-waiting", fill={"threshold": "30m"})
    assert threshold(hand.demo, "waiting") == ("30m", "set")
    hand.press("/alerts", "Set", opened="#set-waiting", fill={"threshold": "2h", "function": "shop-tidy-up"})
    hand.press("/alerts", "Take back the threshold of waiting for shop-tidy-up")
    hand.press("/alerts", "Take back the threshold of waiting")
    assert threshold(hand.demo, "waiting") == ("10m", "default")


def threshold(demo: Demo, rule: str) -> tuple[str, str]:
    [one] = [one for one in demo.get("/v1/alerts")["rules"] if one["rule"] == rule]
    return one["threshold"], one["by"]


def test_runs_are_run_again_signalled_and_cancelled(hand: Hand) -> None:
    demo = hand.demo
    demo.send("order/paid", *({"order": f"o-{how}", "how": how, "cents": 1} for how in ("approval", "slow", "plain")))
    ended, slow, asks = (
        demo.order("plain", "completed"),
        demo.order("slow", "running"),
        demo.order("approval", "waiting"),
    )
    hand.press(f"/runs/{ended}", "Run again", within=".head .actions > form", runs=1)
    hand.press(f"/runs/{ended}", "Run again", opened="#ask-rerun", runs=1)
    hand.press(f"/runs/{ended}", "Run again from here", opened="#steps li:has-text('print-label') details", runs=1)
    hand.press(f"/runs/{slow}", "It has not ended: begin a second one beside it", opened="#ask-beside", runs=1)
    hand.press(f"/runs/{slow}", "Cancel this run", opened="#ask-cancel")
    demo.wait_for_verdict(slow, "cancelled")
    hand.press(f"/runs/{asks}", "Send signal", opened="[id^=ask-signal]")
    demo.wait_for_verdict(asks, "completed")


def test_operations_are_begun_and_aborted(hand: Hand) -> None:
    demo = hand.demo
    hand.press(
        "/operations/new?kind=rerun&status=failed&function=shop-sync-stock",
        "Run again 3 runs",
        fill={"confirm": "3"},
        runs=3,
    )
    [one] = demo.get("/v1/operations")
    assert (one["kind"], one["done"]) == ("rerun", 3)
    with redis.Redis.from_url(demo.server.url) as store:
        now = int(time.time() * 1_000)
        held = Operation(id="01HELD", kind="cancel", query=RunQuery(), created=now, claimed=now + 29_000)
        store.hset(keys.operations(), held.id, codec.encode(held))
    hand.press(f"/operations/{held.id}", "Abort")
    assert demo.get(f"/v1/operations/{held.id}")["state"] == "aborted"


def test_the_second_half_of_a_double_click_on_pause_presses_no_resume(hand: Hand) -> None:
    """It lands on the page that came after the first half; time stands nearly still there, for the test to be sure."""
    demo, page, path = hand.demo, hand.page, "/functions/shop-check-fraud"
    clock = hand.context.new_cdp_session(page)
    clock.send("Animation.enable")
    page.goto(demo.url + path)
    pause = page.get_by_role("button", name="Pause", exact=True)
    pause.click(trial=True)
    box = pause.bounding_box()
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    clock.send("Animation.setPlaybackRate", {"playbackRate": 0.001})
    with page.expect_event("load"):
        page.mouse.click(*place)
    page.get_by_role("button", name="Resume", exact=True).wait_for()
    pressed = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('button')?.innerText ?? ''", place)
    page.mouse.click(*place)
    assert pressed == ""
    assert "shop-check-fraud" in functions_paused(demo)
    clock.send("Animation.setPlaybackRate", {"playbackRate": 1})
    page.reload()
    with page.expect_event("load"):
        page.get_by_role("button", name="Resume", exact=True).click()
    assert "shop-check-fraud" not in functions_paused(demo)


def test_workers_are_drained_and_functions_forgotten_and_no_button_is_left_out(hand: Hand) -> None:
    demo = hand.demo
    [worker] = [one["name"] for one in demo.get("/v1/workers")]
    hand.press("/workers", f"Drain {worker}", opened=f"[id='drain-{quote(worker, safe='')}']")
    until(lambda: not any(one["alive"] for one in demo.get("/v1/workers")), "the worker is gone")
    hand.press("/functions/shop-tidy-up", "Forget this function", opened="#ask-forget", fill={"slug": "shop-tidy-up"})
    assert demo.get("/v1/functions/shop-tidy-up") is None
    assert set(actions()) - hand.pressed == OF_SESSIONS
    acts = demo.get("/v1/audit?limit=200")
    assert {one["outcome"] for one in acts} == {"done"}


def functions_paused(demo: Demo) -> set[str]:
    return set(demo.get("/v1/paused")["functions"])


def limits(demo: Demo, slug: str) -> list[dict[str, Any]]:
    return [other for one in demo.get("/v1/limits") if one["function"] == slug for other in one["overrides"]]
