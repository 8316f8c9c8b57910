"""A list that is being read: by keys, while new runs come; nothing moves under the reader's eyes, and nothing is undone."""

import json
import re
from typing import Any

import pytest

from tests.browser.demo import Demo
from tests.browser.looking import PHONE

pytestmark = pytest.mark.browser
SHORT = {"width": 1400, "height": 420}
ROWS = "all => all.map(row => row.id)"


def test_focus_marks_and_scroll_stay_while_new_runs_wait(browser: Any, demo: Demo) -> None:
    page = browser.new_context(viewport=SHORT).new_page()
    page.goto(f"{demo.url}/runs")
    rows = page.eval_on_selector_all("[data-row]", ROWS)
    for key in ("j", "j", "j", "k", "x"):
        page.keyboard.press(key)
    here = page.evaluate("document.activeElement.closest('[data-row]').id")
    marked = page.eval_on_selector_all("[data-row]:has(input:checked)", ROWS)
    assert marked == [here] == [rows[1]]
    page.evaluate("window.scrollTo(0, 260)")
    top = page.evaluate("window.scrollY")
    assert top > 0
    demo.send("order/paid", *({"order": f"o-new-{n}", "cents": 1} for n in range(3)))
    page.wait_for_selector("#new a:has-text('3 new')")
    assert page.eval_on_selector_all("[data-row]", ROWS) == rows
    assert page.evaluate("window.scrollY") == top
    assert page.evaluate("document.activeElement.closest('[data-row]').id") == here
    assert page.eval_on_selector_all("[data-row]:has(input:checked)", ROWS) == marked
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    page.keyboard.press("Escape")
    page.evaluate("id => document.querySelector(`#${id} a`).focus()", here)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{here.removeprefix('run-')}")


def test_a_closer_look_at_a_step_is_a_link_on_a_phone_and_without_script(browser: Any, demo: Demo) -> None:
    page = browser.new_context(viewport=PHONE, java_script_enabled=False).new_page()
    page.goto(f"{demo.url}/runs/{demo.runs['flaky']}")
    step = page.locator("#steps li[data-row]", has_text="print-label")
    step.get_by_text("Result and 2 failed attempts").click()
    assert step.locator("svg.attempt").count() == 2
    assert "the carrier's API answered 503" in step.inner_text()
    step.get_by_role("link", name="Look closer").click()
    assert "closer=print-label" in page.url
    assert "A closer look at print-label" in page.inner_text("#steps")
    page.get_by_role("link", name="The whole run").click()
    page.get_by_role("link", name="Look for those that came later").click()
    assert "kin=all" in page.url


def window(url: str) -> tuple[int, int]:
    begin, end = re.findall(r"[?&](?:from|to)=(\d+)", url)
    return int(begin), int(end)


def test_the_time_of_a_run_is_looked_at_more_closely_by_links_without_script(browser: Any, demo: Demo) -> None:
    page = browser.new_context(viewport=PHONE, java_script_enabled=False).new_page()
    page.goto(f"{demo.url}/runs/{demo.runs['flaky']}")
    page.get_by_role("link", name="Nearer").click()
    begin, end = window(page.url)
    page.get_by_role("link", name="Later", exact=True).click()
    later = window(page.url)
    assert later[0] > begin
    assert later[1] > end
    page.get_by_role("link", name="The whole run").click()
    assert "from=" not in page.url


def test_what_is_dragged_over_is_looked_at_more_closely_and_keys_lead_on(browser: Any, demo: Demo) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.goto(f"{demo.url}/runs/{demo.runs['flaky']}")
    whole = json.loads(page.locator("[data-moments]").get_attribute("data-moments"))
    bar = page.locator("#steps svg.bar").first
    box = bar.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    assert page.locator(".drag").count() == 1
    page.mouse.up()
    page.wait_for_url("**from=**")
    begin, end = window(page.url)
    assert whole[0][1] < begin < end < whole[-1][1]
    page.locator("#main").focus()
    page.keyboard.press("-")
    page.wait_for_url(lambda url: "from=" not in url or window(url) != (begin, end))
    page.keyboard.press("0")
    page.wait_for_url(lambda url: "from=" not in url)
