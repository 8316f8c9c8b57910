"""What cannot be read is said, and never shown as if there were nothing: Redis gone, a right that is missing."""

import re
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.browser.demo import Demo
from tests.browser.looking import WIDE

pytestmark = pytest.mark.browser
LISTS = ("/", "/runs", "/events", "/functions", "/limits", "/schedules", "/workers", "/errors", "/apps")
NOTHING = re.compile(
    r"nothing is wrong|Nothing has run yet|No run matches|No function|No event has|No worker is at work|No run has failed|"
    r"No application|No error is"
)
"""What pages say where there is nothing."""


@pytest.fixture
def small(tmp_path: Path) -> Generator[Demo]:
    """A store of its own with a worker and one run, for its server is taken away."""
    made = Demo(tmp_path)
    try:
        made.begin()
        made.send("order/paid", {"order": "o-1", "cents": 995})
        made.wait_for(1, function="shop-ship-order", status="completed")
        yield made
    finally:
        made.close()


def test_a_page_whose_redis_is_gone_keeps_what_it_shows_says_so_and_goes_on(chromium: Any, small: Demo) -> None:
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    page.goto(f"{small.url}/runs")
    page.wait_for_selector("[data-row]")
    small.server.kill()
    page.wait_for_selector("#stale:not([hidden])")
    assert "not live" in page.inner_text("#stale")
    assert page.locator("[data-row]").count() == 1, "what was read is still there to be read"
    for path in LISTS:
        page.goto(small.url + path)
        told = page.inner_text("main")
        assert "503" in told, path
        assert not NOTHING.search(told), path
    page.goto(f"{small.url}/runs")
    small.server.start()  # empty, as after a wipe: then there is nothing, and that is said
    page.wait_for_selector("text=Nothing has run yet")
    context.close()


def test_a_right_that_is_missing_is_named_on_every_page_that_needs_it(demo: Demo) -> None:
    with redis.Redis.from_url(demo.server.url) as store:
        store.execute_command(
            "ACL", "SETUSER", "looker", "on", ">secret", "~*", "&*", "+@all", "-@scripting", "-hgetall"
        )
    url = demo.serve_as("looker", "secret")
    for path in LISTS[:-1]:  # the list of applications can be read
        status, told = _asked(url + path)
        assert not NOTHING.search(told), (path, status, told[:2_000])
        assert status == 200 or "NOPERM" in told or "may not" in told, (path, status, told[:2_000])


def _asked(url: str) -> tuple[int, str]:
    """Return the status of a page, and the text of its main part."""
    try:
        asked = urllib.request.Request(url, headers={"accept": "text/html"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read().decode()
    return status, re.sub(r"<[^>]*>", " ", body.partition('<main id="main"')[2])
