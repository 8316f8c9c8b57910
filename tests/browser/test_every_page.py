"""Every page of the demo store, in light and dark, on a wide screen and on a phone: readable, nowhere too wide, quiet."""

from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import quote

import pytest

from stepstream.web.app import create_app
from stepstream.web.routing import NeedsRoute
from tests.browser.demo import Demo
from tests.browser.looking import WIDE, seen

pytestmark = pytest.mark.browser

RUNS = ("failed", "flaky", "timed-out", "approval", "cooling-off", "insured", "slow", "limit", "merged", "dead")
"""Runs of the demo store, by what there is to say of them: their pages differ most."""
PAGES: dict[str, tuple[str, Callable[[Demo], str]]] = {
    "overview": ("overview", lambda demo: "/"),
    "runs": ("runs", lambda demo: "/runs"),
    "runs-failed": ("runs", lambda demo: "/runs?status=failed&function=shop-sync-stock&since=1h"),
    "runs-none": ("runs", lambda demo: "/runs?status=failed&function=mail-send-invoice"),
    "runs-wrong": ("runs", lambda demo: f"/runs?where={quote('event.data.order ==')}"),
    "events": ("events", lambda demo: "/events"),
    "event-name": ("event_name", lambda demo: "/event-names/order/paid"),
    "event": ("event", lambda demo: f"/events/{demo.events['paid']}"),
    "functions": ("functions", lambda demo: "/functions"),
    "function": ("function", lambda demo: "/functions/shop-ship-order"),
    "function-limited": ("function", lambda demo: "/functions/shop-charge-customer"),
    "function-paused": ("function", lambda demo: "/functions/shop-tidy-up"),
    "limits": ("limits", lambda demo: "/limits"),
    "schedules": ("schedules", lambda demo: "/schedules"),
    "workers": ("workers", lambda demo: "/workers"),
    "errors": ("errors", lambda demo: "/errors"),
    "errors-muted": ("errors", lambda demo: "/errors?state=muted"),
    "operations": ("operations", lambda demo: "/operations"),
    "operation": ("operation", lambda demo: f"/operations/{demo.operation}"),
    "operation-new": (
        "operation_new",
        lambda demo: "/operations/new?kind=rerun&status=failed&function=shop-sync-stock",
    ),
    "apps": ("apps", lambda demo: "/apps"),
    "system": ("system", lambda demo: "/system"),
    "alerts": ("alerts", lambda demo: "/alerts"),
    "audit": ("audit", lambda demo: "/audit"),
    "found": ("search", lambda demo: "/search?q=order"),
    "not-found": ("search", lambda demo: "/search?q=nothing-of-that-name"),
    "nowhere": ("", lambda demo: "/runs/nope"),
    **{f"run-{word}": ("run", lambda demo, word=word: f"/runs/{demo.runs[word]}") for word in RUNS},
    "run-poison": ("run", lambda demo: f"/runs/{demo.given_up()}"),
}
"""What is looked at: the name of its route, and where it is."""
OF_SESSIONS = {"login"}
"""Pages of a site with log-in, which the demo store's has not: tests/browser/test_log_in.py."""


def test_no_page_is_forgotten() -> None:
    routes = [route for route in create_app().routes if isinstance(route, NeedsRoute)]
    pages = [route for route in routes if "GET" in (route.methods or ()) and not route.path.startswith("/v")]
    named = {str(route.name) for route in pages if f"{route.name}.html" in _templates()}
    assert named - {name for name, _ in PAGES.values()} == OF_SESSIONS


def _templates() -> set[str]:
    from stepstream.web.pages.page import _environment

    return set(_environment.list_templates())


@pytest.fixture(scope="module")
def window(chromium: Any) -> Generator[Any]:
    """One window for all pages, and what went wrong in it: to open one costs as much as to look at a page."""
    context = chromium.new_context(viewport=WIDE, color_scheme="light")
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page, wrong
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_on_every_screen(window: Any, demo: Demo, name: str) -> None:
    page, wrong = window
    wrong.clear()
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    answer = page.goto(demo.url + PAGES[name][1](demo))
    page.wait_for_function("document.documentElement.classList.contains('js')")
    assert answer.status == (404 if name in ("nowhere", "not-found") else 200)
    text = page.inner_text("main")
    assert "None" not in text.split(), text
    seen(page, name)
    assert [one for one in wrong if "404" not in one] == []


_REFRESHED = """async () => {
    const main = () => document.getElementById("main");
    if (!main().dataset.topic) return [];
    for (const one of main().querySelectorAll("details")) one.open = true;
    const opened = () => [...main().querySelectorAll("details[open]")].map(one => one.id);
    const ids = () => [...main().querySelectorAll("[id]")].map(one => one.id).join();  // a worker may have gone meanwhile
    const within = [...main().querySelectorAll("a[href], button, input, summary")].filter(one => one.checkVisibility());
    const wrong = [];
    for (const one of [within.at(within.length / 2), within.at(-1)]) {
        one.focus();
        const [top, before, there] = [scrollY, opened(), ids()];
        const row = one.closest("#main [id]")?.id;
        const swapped = new Promise(done => document.addEventListener("htmx:after:swap", done, {once: true}));
        refresh();
        await swapped;
        const isThere = !row || document.getElementById(row);
        if (isThere && document.activeElement !== one) wrong.push(`the focus left ${one.outerHTML.slice(0, 150)}`);
        if (ids() === there && scrollY !== top) wrong.push(`the page moved from ${top} to ${scrollY}`);
        const closed = before.filter(id => document.getElementById(id)?.open === false);
        if (closed.length) wrong.push(`closed again were ${closed}`);
    }
    return wrong;
}"""
"""What a refresh has moved under the hands of who has opened all there is to open, and has the focus in the midst."""


@pytest.mark.parametrize("name", PAGES)
def test_focus_scroll_and_what_is_opened_survive_a_refresh(window: Any, demo: Demo, name: str) -> None:
    page, _ = window
    page.set_viewport_size(WIDE)
    page.goto(demo.url + PAGES[name][1](demo))
    page.wait_for_function("document.documentElement.classList.contains('js')")
    assert page.evaluate(_REFRESHED) == []


def test_the_lines_of_redis_cli_are_readable_on_every_screen(window: Any, demo: Demo) -> None:
    page, _ = window
    page.set_viewport_size(WIDE)
    page.goto(demo.url + "/functions/shop-charge-customer")
    page.locator("#redis-keys summary").click()
    assert "redis-cli -h " in page.inner_text("#redis-keys")
    page.locator("#redis-keys").scroll_into_view_if_needed()
    seen(page, "redis-keys")
