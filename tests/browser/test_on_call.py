"""The 3 a.m. test: five broken situations, each told by the page in one sentence, and mended from it, without script.

docs/on-call.md tells of them; docs/make_pictures.py shows them. What a test mends stays mended for those after it.
"""

from collections.abc import Generator
from typing import Any

import pytest

from tests.browser.demo import Demo
from tests.browser.looking import PHONE
from tests.support import until

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Any) -> Generator[Any]:
    """A window on a phone, without script: who is woken has it in his hand, and its page has to do all."""
    context = chromium.new_context(viewport=PHONE, java_script_enabled=False)
    yield context.new_page()
    context.close()


def trouble(page: Any, demo: Demo) -> str:
    """Return what the front page says is wrong."""
    page.goto(demo.url)
    return page.inner_text("ul.trouble") if page.locator("ul.trouble").count() else ""


def verdict(page: Any, demo: Demo, run: str) -> str:
    """Open the page of a run; return its sentence."""
    page.goto(f"{demo.url}/runs/{run}")
    return page.inner_text("#verdict")


def test_no_worker(page: Any, demo: Demo) -> None:
    assert "no worker serves mail-send-invoice: 3 events cannot go on" in (told := trouble(page, demo))
    assert "start a worker of mail: bus worker MODULE:APP" in told
    assert verdict(page, demo, demo.runs["no-worker"]) == "Waits for a worker: none serves mail-send-invoice."
    demo.work("mail")
    demo.wait_for_verdict(demo.runs["no-worker"], "completed")
    demo.wait_for(4, function="mail-send-invoice", status="completed")
    assert "mail-send-invoice" not in trouble(page, demo)


def test_dead_worker(page: Any, demo: Demo) -> None:
    assert "no worker serves press-print-catalogue: 2 runs cannot go on; " in (told := trouble(page, demo))
    assert "is gone" in told
    told = verdict(page, demo, demo.runs["dead"])
    assert told.startswith("Its worker ")
    assert told.endswith("and no other serves press-print-catalogue: start one, which takes it over.")
    page.get_by_role("link", name="Workers").click()
    gone = page.locator("section", has_text="Gone within the last day").locator("tr", has_text="press-print-catalogue")
    assert "gone" in gone.first.inner_text()
    demo.work("press")
    assert "its worker has died 1 time" in demo.wait_for_verdict(demo.runs["dead"], "running")["words"]
    assert "press-print-catalogue" not in trouble(page, demo)


def test_limit_full(page: Any, demo: Demo) -> None:
    told = verdict(page, demo, demo.runs["limit"])
    assert told.startswith("Waits for its place: ")
    assert " of 4 for customer-4 (2 at a time per event.data.customer), held by " in told
    holder = page.locator("#verdict a").first.inner_text()
    page.locator("#verdict a").first.click()
    assert "Runs on " in page.inner_text("#verdict")
    page.locator("#ask-cancel summary").click()
    page.get_by_role("button", name="Cancel this run").click()
    demo.wait_for_verdict(holder, "cancelled")
    until(
        lambda: len(demo.wait_for(3, function="shop-charge-customer", status="running")) == 3, "another has its place"
    )
    page.goto(f"{demo.url}/limits")
    assert "2 of 2" in page.locator("tr[data-row]", has_text="customer-4").inner_text()


def test_poison_run(page: Any, demo: Demo) -> None:
    run = demo.given_up()
    assert "a run of scan-read-scan killed its worker again and again, and was given up" in trouble(page, demo)
    page.locator("ul.trouble a", has_text="scan-read-scan").first.click()
    assert page.url.endswith(run)
    told = page.inner_text("#verdict")
    assert told.startswith("Failed: the worker process died 5 times in a row while it ran this; it is not tried again")
    page.locator("#ask-rerun summary").click()
    page.locator("#ask-rerun textarea[name=data]").fill('{"scan": "s-1042", "pages": 4}')
    page.locator("#ask-rerun").get_by_role("button").click()
    demo.wait_for_verdict(page.url.rpartition("/")[2], "completed")
    page.get_by_role("link", name="Errors").click()
    row = page.locator("tr[data-row]", has_text="worker_crash")
    row.get_by_text("Resolve or mute").click()
    row.locator("details").get_by_role("button", name="Resolve worker_crash").click()
    assert "scan-read-scan" not in trouble(page, demo)


def test_wait_that_never_comes(page: Any, demo: Demo) -> None:
    run = demo.runs["customs"]
    told = verdict(page, demo, run)
    assert told.startswith("Waits for order/cleared with the same data.order in step cleared, at most 2 d ")
    page.get_by_role("link", name="send order/cleared").click()
    page.locator("#ask-send summary").first.click()
    page.locator("#ask-send textarea[name=json]").fill('{"order": "o-customs"}')
    page.locator("#ask-send").get_by_role("button", name="Send").click()
    demo.wait_for_verdict(run, "completed")
    told = verdict(page, demo, demo.runs["approval"])
    assert told.startswith("Waits for signal approve-o-approval in step approved")
    page.locator("[id^=ask-signal] summary").first.click()
    page.locator("[id^=ask-signal] textarea[name=data]").fill('{"by": "ann"}')
    page.get_by_role("button", name="Send signal").click()
    demo.wait_for_verdict(demo.runs["approval"], "completed")
